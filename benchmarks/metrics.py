"""What a metric costs beside the forward passes that it needs: ``python benchmarks/metrics.py --out runs/metrics``.

Deletion and insertion run the model once for every step of every image. The time of an update is reported as a ratio to as
many plain batched forward passes, both taking turns in one process, as the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import open_clip
import torch
from rich.console import Console
from rich.table import Table

from captum_gradeclip import ImageTextScore
from captum_gradeclip.experiments.timing import take_turns
from captum_gradeclip.metrics import Deletion, Insertion


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16", help="name of an open_clip model [%(default)s]")
    parser.add_argument("--images", type=int, default=2, help="number of images [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/metrics"), help="folder [%(default)s]")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = open_clip.create_model(options.model).eval()
    side = model.visual.image_size if isinstance(model.visual.image_size, int) else model.visual.image_size[0]
    score = ImageTextScore(model, torch.randn(10, model.visual.output_dim))
    images, maps = torch.randn(options.images, 3, side, side), torch.rand(options.images, 14, 14)
    targets = torch.zeros(options.images, dtype=torch.long)
    metrics = {"Deletion": Deletion(score, 1, batch_size=11), "Insertion": Insertion(score, 1, batch_size=11)}
    batches = torch.randn(options.images, 11, 3, side, side)

    @torch.no_grad()
    def plain() -> None:
        for batch in batches:
            score(batch)

    updates = {name: partial(metric.update, images, maps, targets) for name, metric in metrics.items()}
    times = take_turns({"plain": plain, **updates}, options.rounds)
    ratios = {name: [spent / base for spent, base in zip(times[name], times["plain"])] for name in metrics}
    found = {name: statistics.median(values) for name, values in ratios.items()}
    table = Table("metric", "ratio", title=f"{options.model}, {11 * options.images} forward passes in batches of 11")
    for name, ratio in found.items():
        table.add_row(name, f"{ratio:.3f}")
    Console().print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.json").write_text(json.dumps({"model": options.model, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
