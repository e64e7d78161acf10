"""What an explanation costs, as a ratio to one plain forward pass: ``python benchmarks/speed.py --out runs/speed``.

All contenders take turns in one process, so that a slow minute of the machine hits each of them; a ratio is formed within a
round, and its median and quartiles over the rounds are reported. Memory is the peak of a process that runs one contender
alone. Weights are random, since they do not affect the time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import open_clip
import rivals
import torch
from captum.attr import LayerGradCam, Saliency
from ratios import measure, report, where
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, adapters
from captum_gradeclip.attention import Interception, single_head
from captum_gradeclip.attr.grad_eclip import grad_eclip, loosened_attention

FEW = 10  # contenders whose time grows with the number of texts are timed up to this many


def contenders(score: ImageTextScore, images: Tensor, texts: int, foreign: bool = True) -> dict[str, Callable[[], object]]:
    """All contenders by name, each a function that explains all texts for all images."""
    last = score.layers[-1]
    method = GradECLIP(score, last)
    plain = {"plain forward": torch.no_grad()(lambda: score(images))}
    ours = {
        "Grad-ECLIP": lambda: method.attribute_targets(images),
        "Grad-ECLIP, model's heads": lambda: method.attribute_targets(images, heads="model"),
    }
    if texts > FEW:
        return plain | ours
    cam, gradient = LayerGradCam(score, last.ln_1), Saliency(score)
    loops = {
        # the attention module instead of its block: all tokens go on
        "Grad-ECLIP, all tokens": lambda: GradECLIP(score, last.attn).attribute_targets(images),
        "the paper's scheme": lambda: published(score, images, texts),
        "Captum LayerGradCam": lambda: [cam.attribute(images, target=t) for t in range(texts)],
        "one-step gradient (Captum Saliency)": lambda: [gradient.attribute(images, target=t) for t in range(texts)],
    }
    return plain | ours | loops | (rivals.maps(score, images, texts) if foreign else {})


def published(score: ImageTextScore, images: Tensor, texts: int) -> list[Tensor]:
    """The scheme of the paper's code: a graph of the whole model, all tokens up to the end, one backward pass per text."""
    with Interception(score.layers[-1:], single_head) as seen, torch.enable_grad():
        output = score(images)
    record = seen.records()[0].merged()
    spatial = loosened_attention(record.query[:, 0, :1], record.key[:, 0, 1:])
    maps = []
    for t in range(texts):
        (gradient,) = torch.autograd.grad(output[:, t].sum(), record.output, retain_graph=True)
        maps.append(grad_eclip(gradient[:, :1], record.value[:, 0, 1:], spatial).relu())
    return maps


def build(options: argparse.Namespace) -> nn.Module:
    """A model of random weights."""
    torch.manual_seed(0)
    model: nn.Module = open_clip.create_model(options.model)
    model = model.eval().to(options.device, getattr(torch, options.dtype))
    if options.compile:
        for block in adapters.image_tower(model).layers:
            block.compile()
    return model


def asked(model: nn.Module, options: argparse.Namespace, batch: int, texts: int) -> tuple[ImageTextScore, Tensor]:
    """A score with random prompts, and random images."""
    tower = adapters.image_tower(model)
    size = (options.size, options.size) if options.size else tower.size
    images = torch.randn(batch, 3, *size, device=options.device, dtype=tower.dtype)
    return ImageTextScore(model, torch.randn(texts, tower.width, device=options.device)), images


def peak(options: argparse.Namespace, name: str, call: Callable[[], object], batch: int) -> float:
    """Peak memory in MiB: of a GPU while it runs one contender, or of a process that runs it alone three times."""
    if options.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() / 2**20
    command = [sys.executable, __file__, *("--model", options.model, "--dtype", options.dtype, "--batch", str(batch))]
    command += ["--size", str(options.size), "--measure-memory", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(options: argparse.Namespace) -> None:
    """What the process that :func:`peak` starts does: it prints its own peak memory in MiB."""
    name = options.measure_memory
    score, images = asked(build(options), options, options.batch[0], 1)
    call = contenders(score, images, 1, foreign=name in rivals.NAMES)[name]
    for _ in range(3):
        call()
    # not ru_maxrss, which a child inherits from the process that started it
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) / 2**10)


def compare(options: argparse.Namespace) -> list[dict]:
    """Measures one row for each contender, batch size and number of texts."""
    rows, model = [], build(options)
    for batch in options.batch:
        for texts in options.texts:
            score, images = asked(model, options, batch, texts)
            calls = contenders(score, images, texts, options.rivals)
            for row in measure(calls, options.rounds, options.device, f"batch {batch}, {texts} texts"):
                name = row["contender"]
                memory = peak(options, name, calls[name], batch) if options.memory and texts == 1 else None
                rows.append({"images": batch, "texts": texts, **row, "peak_mib": memory})
    return rows


def plot(rows: list[dict], options: argparse.Namespace) -> None:
    """Draws the ratio against the number of texts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(options.batch) + 2.8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(options.batch), squeeze=False, sharey=True)[0]
    for axis, batch in zip(axes, options.batch):
        for name in dict.fromkeys(row["contender"] for row in rows):
            of_one = [row for row in rows if row["images"] == batch and row["contender"] == name]
            axis.plot([row["texts"] for row in of_one], [row["ratio"] for row in of_one], marker="o", label=name)
        axis.set(xscale="log", yscale="log", xlabel="texts", title=f"batch {batch}")
    axes[0].set_ylabel("time, plain forward pass = 1")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(options.out / "speed.png", dpi=130)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16", help="of open_clip, a ViT [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--texts", type=int, nargs="+", default=[1, 10, 100, 1000, 10000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument(
        "--size", type=int, default=0, help="height and width of the images; 0 for the model's own [%(default)s]"
    )
    parser.add_argument("--compile", action="store_true", help="compile the blocks of the tower, one by one")
    parser.add_argument("--no-rivals", dest="rivals", action="store_false", help="leave out other packages")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the processes for peak memory")
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/speed"))
    parser.add_argument("--measure-memory", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory:
        measure_memory(options)
    else:
        rows = compare(options)
        size = f" at {options.size} x {options.size}" if options.size else ""
        size += ", compiled blocks" if options.compile else ""
        report(
            rows, f"{options.model}{size}, {options.dtype}, {where(options.device)}, {options.rounds} rounds", options.out
        )
        plot(rows, options)


if __name__ == "__main__":
    main()
