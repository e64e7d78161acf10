"""What an explanation costs, as a ratio to one plain forward pass: ``python benchmarks/speed.py --out runs/speed``.

All contenders take turns in one process, so that a slow minute of the machine hits each of them; a ratio is formed within a
round, and its median and quartiles over the rounds are reported. Memory is the peak of a process that runs one contender
alone. Weights are random, since they do not affect the time.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import open_clip
import torch
from captum.attr import LayerGradCam, Saliency
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, adapters
from captum_gradeclip.attention import Interception, single_head
from captum_gradeclip.attr.grad_eclip import grad_eclip, loosened_attention
from captum_gradeclip.experiments.timing import take_turns

FOREIGN = ("pytorch-grad-cam", "LeGrad")
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
    return plain | ours | loops | (others(score, images, texts) if foreign else {})


def others(score: ImageTextScore, images: Tensor, texts: int) -> dict[str, Callable[[], object]]:
    """The contenders pytorch-grad-cam and LeGrad, where they are installed and run on this model."""
    found: dict[str, Callable[[], object]] = {}
    if find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        rows, columns = score.grid(images)

        def patches(tokens: Tensor) -> Tensor:
            return tokens[:, 1:].mT.unflatten(2, (rows, columns))

        copied = copy.deepcopy(score)  # it leaves gradients behind
        cam = GradCAM(model=copied, target_layers=[copied.layers[-1].ln_1], reshape_transform=patches)
        targets = [[ClassifierOutputTarget(t)] * len(images) for t in range(texts)]
        found["pytorch-grad-cam"] = lambda: [cam(input_tensor=images, targets=one) for one in targets]
    if find_spec("legrad"):
        from legrad import LeWrapper

        with redirect_stdout(io.StringIO()):
            wrapped = LeWrapper(copy.deepcopy(score.model))  # it changes the model
        found["LeGrad"] = lambda: [
            wrapped.compute_legrad(text_embedding=score.text_features, image=image[None]) for image in images
        ]
    for name, call in list(found.items()):
        try:
            call()
        except Exception as error:
            Console(stderr=True).print(f"{name} does not run here: {error}", markup=False)
            del found[name]
    return found


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


def build(name: str, device: str, dtype: str, batch: int, texts: int) -> tuple[ImageTextScore, Tensor]:
    """A score of random weights and prompts, and random images."""
    torch.manual_seed(0)
    model: nn.Module = open_clip.create_model(name).eval().to(device, getattr(torch, dtype))
    tower = adapters.image_tower(model)
    features = torch.randn(texts, tower.width, device=device)
    return ImageTextScore(model, features), torch.randn(batch, 3, *tower.size, device=device, dtype=tower.dtype)


def peak(options: argparse.Namespace, contender: str, batch: int, texts: int) -> float:
    """Peak memory in MiB, of the process or of its GPU, while a process runs one contender three times."""
    inner = {"model": options.model, "device": options.device, "dtype": options.dtype, "batch": batch, "texts": texts}
    command = [sys.executable, __file__, "--measure-memory", json.dumps({**inner, "contender": contender})]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure_memory(inner: dict) -> None:
    """What the process that :func:`peak` starts does: it prints its own peak memory in MiB."""
    contender = inner.pop("contender")
    score, images = build(inner["model"], inner["device"], inner["dtype"], inner["batch"], inner["texts"])
    call = contenders(score, images, inner["texts"], foreign=contender in FOREIGN)[contender]
    for _ in range(3):
        call()
    if inner["device"].startswith("cuda"):
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        # not ru_maxrss, which a child inherits from the process that started it
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(int(status["VmHWM"].split()[0]) / 2**10)


def compare(options: argparse.Namespace) -> list[dict]:
    """Measures one row for each contender, batch size and number of texts."""
    rows = []
    for batch in options.batch:
        for texts in options.texts:
            score, images = build(options.model, options.device, options.dtype, batch, texts)
            calls = contenders(score, images, texts)
            times = take_turns(calls, options.rounds, options.device, f"batch {batch}, {texts} texts")
            for name in calls:
                ratios = [one / plain for one, plain in zip(times[name], times["plain forward"])]
                low, middle, high = statistics.quantiles(ratios, n=4)
                row = {"batch": batch, "texts": texts, "contender": name, "ratio": middle, "from": low, "to": high}
                row["milliseconds"] = 1000 * statistics.median(times[name])
                row["peak_mib"] = peak(options, name, batch, texts) if options.memory and texts == 1 else None
                rows.append(row)
    return rows


def write(rows: list[dict], options: argparse.Namespace) -> None:
    """Writes CSV, a Markdown table and a plot, and prints the table."""
    from matplotlib.figure import Figure

    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "speed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    title = f"{options.model}, {options.device}, {options.dtype}, {torch.get_num_threads()} threads, {options.rounds} rounds"
    table = Table("batch", "texts", "contender", "ratio", "quartiles", "ms", "peak MiB", title=title)
    lines = ["| batch | texts | contender | ratio | quartiles | ms | peak MiB |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        memory = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        quartiles = f"{row['from']:.2f} - {row['to']:.2f}"
        cells = [str(row["batch"]), str(row["texts"]), row["contender"], f"{row['ratio']:.2f}", quartiles]
        cells += [f"{row['milliseconds']:.0f}", memory]
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    Console().print(table)
    (options.out / "speed.md").write_text(f"{title}\n\n" + "\n".join(lines) + "\n")

    figure = Figure(figsize=(4.6 * len(options.batch) + 2.8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(options.batch), squeeze=False, sharey=True)[0]
    for axis, batch in zip(axes, options.batch):
        for name in dict.fromkeys(row["contender"] for row in rows):
            of_one = [row for row in rows if row["batch"] == batch and row["contender"] == name]
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
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the processes for peak memory")
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/speed"))
    parser.add_argument("--measure-memory", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure_memory:
        measure_memory(json.loads(options.measure_memory))
    else:
        write(compare(options), options)


if __name__ == "__main__":
    main()
