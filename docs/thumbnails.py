#!/usr/bin/env python3
"""Draws the small pictures of the methods in the README: ``python docs/thumbnails.py``, which writes ``docs/methods/``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from captum_gradeclip import METHODS, explain, scenes
from captum_gradeclip.scenes import name
from captum_gradeclip.show import overlay

SIDE = 160


def main(folder: Path) -> None:
    """One picture for each of ``METHODS``: the same scene of three things, and the first of them as the text."""
    model, _, tokenizer = scenes.load()
    item = scenes.SceneDataset(1, "evaluation", size=2 * SIDE, counts=(3,))[0]
    text = name(item.scene.things[0]).text
    folder.mkdir(exist_ok=True)
    for kind in METHODS:
        torch.manual_seed(0)
        found = explain(model, item.image, [text], tokenizer, method=kind.__name__, words=False, scores=False)
        picture = overlay(item.image, found.pixels(0)[0]).resize((SIDE, SIDE))
        picture.quantize(128).save(folder / f"{kind.__name__}.png", optimize=True)
    print(f"{text}: {len(METHODS)} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "methods")
