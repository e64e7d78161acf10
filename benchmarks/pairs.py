"""What the tensor of words and regions costs beside the plain passes: ``python benchmarks/pairs.py --out runs/pairs``.

One image with a caption of 12 words, against one pass of each tower without a gradient. All calls take turns in one process,
and a ratio is formed within a round. Weights are random, since they do not affect the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import open_clip
import torch
from rich.console import Console
from rich.table import Table

from captum_gradeclip import WordRegionAttribution, adapters
from captum_gradeclip.experiments.timing import take_turns


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16", help="an open_clip model with CLIP's text tower [%(default)s]")
    parser.add_argument("--words", type=int, default=12, help="number of words of a caption [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds [%(default)s]")
    parser.add_argument("--device", default="cpu", help="device [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/pairs"), help="folder [%(default)s]")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = open_clip.create_model(options.model).eval().to(options.device)
    text, image = adapters.text_tower(model), adapters.image_tower(model)
    method = WordRegionAttribution(model)
    table = Table("batch", "call", "ratio", "quartiles", title=f"{options.model}, {torch.get_num_threads()} threads")
    ratios: dict[int, dict[str, list[float]]] = {}
    for batch in options.batch:
        images = torch.randn(batch, 3, *image.size, device=options.device)
        tokens = torch.zeros(batch, text.context_length, dtype=torch.long)
        tokens[:, 1 : 1 + options.words] = torch.randint(1, text.vocabulary - 2, (batch, options.words))
        tokens[:, 0], tokens[:, 1 + options.words] = text.vocabulary - 2, text.vocabulary - 1
        tokens = tokens.to(options.device)
        calls = {
            "plain passes": torch.no_grad()(lambda x=images, t=tokens: (model.encode_image(x), model.encode_text(t))),
            "pairs": lambda x=images, t=tokens: method.attribute(x, t),
            "pairs, one weight of the image": lambda x=images, t=tokens: method.attribute(x, t, image_weight="softmax"),
            "directions of the words": lambda t=tokens: method.directions(t),
        }
        times = take_turns(calls, options.rounds, title=f"batch {batch}")
        ratios[batch] = {name: [one / base for one, base in zip(times[name], times["plain passes"])] for name in calls}
        for name, values in ratios[batch].items():
            low, middle, high = statistics.quantiles(values, n=4)
            table.add_row(str(batch), name, f"{middle:.2f}", f"{low:.2f} - {high:.2f}")
    Console().print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "pairs.json").write_text(json.dumps({"model": options.model, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
