"""Fine-tuning on scenes as in Tables VII and IX of arXiv 2502.18816v1: regions and retrieval before and after.

    python benchmarks/tuning.py --out runs/tuning [--start FILE] [--seeds 3] [--steps N] [--methods NAME ...]

Each method fine-tunes the start model on the same pairs, once for each seed: ordinary fine-tuning (the contrastive loss
alone), with the loss of regions and phrases by the maps of Grad-CAM, MaskCLIP and Grad-ECLIP, and the rival CLIPSelf. The
table shows the mean class accuracy of regions and the recall of retrieval on evaluation scenes, with the deviation over the
seeds. What is done already is read from the folder, so that the command goes on where it was stopped.

``--choose STEPS ...`` shows the recall on *validation* scenes for several numbers of steps of ordinary fine-tuning, by which
start model and number of steps are chosen before any figure of regions is looked at.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import nn

from captum_gradeclip import scenes
from captum_gradeclip.experiments import Scenes
from captum_gradeclip.experiments.data.base import Sample
from captum_gradeclip.files import to_json, write_text
from captum_gradeclip.progress import track
from captum_gradeclip.tuning import Pair, ScenePairs, TuneSettings, classify_regions, retrieve, tune
from captum_gradeclip.tuning.region_data import Regions, SceneRegionData

METHODS: dict[str, dict[str, Any]] = {
    "ordinary": {"local": "none"},
    "Grad-CAM": {"local": "TokenGradCam"},
    "MaskCLIP": {"local": "MaskCLIP"},
    "Grad-ECLIP": {"local": "GradECLIP"},
    "CLIPSelf": {"local": "CLIPSelf", "global_weight": 0.0, "text": "frozen"},
}
FIGURES = ("boxes top1", "thing masks top1", "text to image R@1", "image to text R@1")


class Drawn:
    """A data set whose items are made once and kept."""

    def __init__(self, data: Any, title: str) -> None:
        self.data = data
        self.items = [data[index] for index in track(range(len(data)), title)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Pair | Regions | Sample:
        return self.items[index]  # type: ignore[no-any-return]


def measured(model: nn.Module, regions: Any, captions: Any, tokenizer: Any) -> dict[str, float]:
    found = retrieve(model, captions, tokenizer, captions=1, quiet=True)
    return found if regions is None else {**classify_regions(model, regions, tokenizer, quiet=True), **found}


def told(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    lines = [f"{'':24}" + "".join(f"{name:>22}" for name in FIGURES)]
    for name, some in rows.items():
        cells = []
        for figure in FIGURES:
            values = [100 * one[figure] for one in some]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.1f}{spread}")
        lines.append(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights of the scenes model [the embedded ones]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--pairs", type=int, default=8192, help="scenes to train on")
    parser.add_argument("--scenes", type=int, default=500, help="scenes to measure on")
    parser.add_argument("--split", default="evaluation")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--choose", type=int, nargs="+", metavar="STEPS")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further settings of the loss of regions")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    embedded, preprocess, tokenizer = scenes.load()
    start = embedded if given.start is None else scenes.load(given.start)[0]
    pairs = Drawn(ScenePairs(given.pairs), "drawing pairs")
    if given.choose:
        captions = Drawn(Scenes(given.scenes, split="validation"), "drawing scenes")
        print("start", told_recall(measured(start, None, captions, tokenizer)), flush=True)
        for steps in given.choose:
            settings = TuneSettings(local="none", steps=steps, batch=given.batch, lr=given.lr)
            tuned = tune(start, pairs, tokenizer, settings, preprocess=preprocess, device="cpu")
            print(steps, told_recall(measured(tuned.model, None, captions, tokenizer)), flush=True)
        return
    regions = Drawn(SceneRegionData(given.scenes, given.split), "drawing regions")
    captions = Drawn(Scenes(given.scenes, split=given.split), "drawing scenes")
    extra = {name: json.loads(value) for name, _, value in (one.partition("=") for one in given.set)}
    rows: dict[str, list[dict[str, float]]] = {"embedded": [measured(embedded, regions, captions, tokenizer)]}
    if given.start is not None:
        rows["before"] = [measured(start, regions, captions, tokenizer)]
    print(told(rows), flush=True)
    for name in given.methods:
        rows[name] = []
        for seed in range(given.seeds):
            shared = {"steps": given.steps, "batch": given.batch, "lr": given.lr, "seed": seed}
            settings = TuneSettings(**{**shared, **(extra if name not in ("ordinary", "CLIPSelf") else {}), **METHODS[name]})
            began = time.monotonic()
            folder = given.out / f"{name}-{seed}"
            tuned = tune(start, pairs, tokenizer, settings, preprocess=preprocess, out=folder, device="cpu")
            rows[name].append(measured(tuned.model, regions, captions, tokenizer))
            print(f"{name}, seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
        print(told(rows), flush=True)
    write_text(given.out / "table.txt", told(rows))
    write_text(given.out / "table.json", to_json(rows, indent=2))


def told_recall(found: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items() if "R@" in name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
