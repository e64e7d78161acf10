"""What the words of a caption cost beside its plain text pass: ``python benchmarks/words.py --out runs/words``.

A caption of 12 words in the context of a causal tower, the last eight layers explained as the paper has it: with the
padding (``key_tokens="all"``), which the tower never sees, and without it. All calls take turns in one process, and a ratio
is formed within a round. Weights are random, since they do not affect the time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import open_clip
import torch
from captions import captions
from ratios import measure, report, where

from captum_gradeclip import GradECLIP, TextImageScore, adapters


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-B-16", help="an open_clip model with CLIP's text tower [%(default)s]")
    parser.add_argument("--words", type=int, default=12, help="number of words of a caption [%(default)s]")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=15, help="number of rounds [%(default)s]")
    parser.add_argument("--device", default="cpu", help="device [%(default)s]")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/words"), help="folder [%(default)s]")
    options = parser.parse_args()

    torch.manual_seed(0)
    model = open_clip.create_model(options.model).eval().to(options.device, getattr(torch, options.dtype))
    tower = adapters.text_tower(model)
    score = TextImageScore(model, torch.randn(1, tower.width, device=options.device))
    method = GradECLIP(score, score.layers[-8:])
    rows: list[dict] = []
    for batch in options.batch:
        tokens = captions(tower, batch, options.words, options.device)
        seen, alone = score.front(tokens)
        calls = {
            "plain text pass": torch.no_grad()(lambda tokens=tokens: score(tokens)),
            "plain pass of the words alone": torch.no_grad()(lambda seen=seen, alone=alone: alone(seen)),
            "visible": lambda tokens=tokens: method.attribute(tokens, target=0),
            "all": lambda tokens=tokens: method.attribute(tokens, target=0, key_tokens="all"),
        }
        found = measure(calls, options.rounds, options.device, f"batch {batch}")
        rows += [{"captions": batch, **row} for row in found]
    report(rows, f"{options.model}, {options.dtype}, {where(options.device)}", options.out)


if __name__ == "__main__":
    main()
