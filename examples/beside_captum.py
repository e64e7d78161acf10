"""Grad-ECLIP beside Captum's own methods on one score: maps, infidelity and sensitivity, as a figure and a table.

Run it with ``python examples/beside_captum.py [FOLDER]``; it works offline on the embedded model.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from captum.metrics import infidelity, sensitivity_max
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from captum_gradeclip import GradECLIP, ImageTextScore, InputSpaceAttribution, scenes, show

Maps = Callable[[Tensor, int], Tensor]


def methods(score: ImageTextScore) -> dict[str, Maps]:
    """Each method as a function of images and a target, with maps in the images' shape."""
    eclip = InputSpaceAttribution(GradECLIP(score, score.layers[-1]))
    gradients, occlusion = IntegratedGradients(score), Occlusion(score)
    cam = LayerGradCam(score, score.model.visual.conv1)

    def grad_cam(x: Tensor, target: int) -> Tensor:
        small = cam.attribute(x, target=target, relu_attributions=True)
        return LayerAttribution.interpolate(small, x.shape[-2:], "bilinear").expand_as(x) / x.shape[1]

    window = (3, 16, 16)
    return {
        "Grad-ECLIP": lambda x, t: eclip.attribute(x, target=t),
        "Grad-ECLIP, model's heads": lambda x, t: eclip.attribute(x, target=t, heads="model"),
        "IntegratedGradients": lambda x, t: gradients.attribute(x, target=t, n_steps=20),
        "LayerGradCam (patches)": grad_cam,
        "Occlusion": lambda x, t: occlusion.attribute(x, target=t, sliding_window_shapes=window, strides=(3, 8, 8)),
    }


def erase_squares(x: Tensor) -> tuple[Tensor, Tensor]:
    """A random square of each image painted grey: the change, and the changed images, as ``infidelity`` wants them."""
    changed = x.clone()
    for image in changed:
        top, left = torch.randint(0, 48, (2,)).tolist()
        image[:, top : top + 16, left : left + 16] = 0.0
    return x - changed, changed


def main(folder: Path) -> None:
    """Writes ``beside_captum.png`` and ``beside_captum.csv``."""
    torch.manual_seed(0)
    model, preprocess, tokenizer = scenes.load()
    image, _, scene = scenes.SceneDataset(1, "evaluation", counts=(3,))[0]
    prompts = [scenes.with_article(scenes.name(thing).text) for thing in scene.things]
    score = ImageTextScore(model, prompts, tokenizer)
    x, target = preprocess(image)[None], 0

    rows, maps = [], []
    for name, explain in track(methods(score).items(), "methods", transient=True):
        one = explain(x, target)

        def again(inputs: tuple[Tensor], explain: Maps = explain) -> tuple[Tensor]:
            return (explain(inputs[0], target).detach(),)

        unfaithful = infidelity(score, erase_squares, x, one, target=target, n_perturb_samples=100, normalize=True)
        sensitive = sensitivity_max(again, x, perturb_radius=0.05, n_perturb_samples=5)
        rows.append({"method": name, "infidelity": float(unfaithful), "sensitivity": float(sensitive)})
        maps.append(one[0].detach().sum(dim=0).clamp(min=0))

    folder.mkdir(parents=True, exist_ok=True)
    large = image.resize((256, 256))
    full = torch.nn.functional.interpolate(torch.stack(maps)[None], size=(256, 256), mode="bilinear")[0]
    names, notes = zip(*((row["method"], f"{1e4 * row['infidelity']:.2f}, {row['sensitivity']:.2f}") for row in rows))
    style = show.Style(color_scale="each")  # methods have units of their own
    show.save(show.strip(large, full, names, notes=notes, style=style), folder / "beside_captum.png")
    with (folder / "beside_captum.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["method", "infidelity", "sensitivity"])
        writer.writeheader()
        writer.writerows(rows)
    table = Table("method", "infidelity x 1e4", "sensitivity", title=f"{prompts[target]!r}: lower is better")
    for row in rows:
        table.add_row(row["method"], f"{1e4 * row['infidelity']:.2f}", f"{row['sensitivity']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "gradeclip-out"))
