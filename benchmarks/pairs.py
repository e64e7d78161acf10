"""What the tensor of words and regions costs beside the plain passes: ``python benchmarks/pairs.py --out runs/pairs``.

One image with a caption of 12 words, against one pass of each tower without a gradient, and against the package exclip where
it is installed. All calls take turns in one process, and a ratio is formed within a round. Weights are random, since they do
not affect the time.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import open_clip
import rivals
import torch
from captions import captions
from ratios import measure, report, where

from captum_gradeclip import ImageTextScore, WordRegionAttribution, adapters


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16", help="an open_clip model with CLIP's text tower [%(default)s]")
    parser.add_argument("--words", type=int, default=12, help="number of words of a caption [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds [%(default)s]")
    parser.add_argument("--rival-rounds", type=int, default=2, help="rounds with exclip, which takes minutes on a CPU")
    parser.add_argument("--no-rivals", dest="rivals", action="store_false", help="leave out other packages")
    parser.add_argument("--device", default="cpu", help="device [%(default)s]")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/pairs"), help="folder [%(default)s]")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = open_clip.create_model(options.model).eval().to(options.device, getattr(torch, options.dtype))
    text, image = adapters.text_tower(model), adapters.image_tower(model)
    method = WordRegionAttribution(model)
    rows: list[dict] = []
    for batch in options.batch:
        images = torch.randn(batch, 3, *image.size, device=options.device, dtype=image.dtype)
        tokens = captions(text, batch, options.words, options.device)
        calls = {
            "plain passes": torch.no_grad()(lambda x=images, t=tokens: (model.encode_image(x), model.encode_text(t))),
            "pairs": lambda x=images, t=tokens: method.attribute(x, t),
            "pairs, one weight of the image": lambda x=images, t=tokens: method.attribute(x, t, image_weight="softmax"),
            "directions of the words": lambda t=tokens: method.directions(t),
        }
        found = measure(calls, options.rounds, options.device, f"batch {batch}")
        if options.rivals and batch == 1:
            score = ImageTextScore(model, torch.randn(1, image.width))
            other = rivals.running({"exclip": partial(rivals.exclip, score, images, tokens)})
            both = {"plain passes": calls["plain passes"], **other}
            found += measure(both, options.rival_rounds, options.device, "exclip")[1:]
        rows += [{"pairs": batch, **row} for row in found]
    report(rows, f"{options.model}, {options.dtype}, {where(options.device)}", options.out)


if __name__ == "__main__":
    main()
