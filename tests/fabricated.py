"""Folders of results as ``gradeclip explain`` leaves them, made without a model, and without the figures of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from captum_gradeclip.files import write_bytes, write_text
from captum_gradeclip.index import index_in
from captum_gradeclip.report import _png_bytes, file_names, results_in

TEXTS = ("a red circle", "a blue square", "something green")


def result(
    place: Path, name: str, texts: tuple[str, ...] = TEXTS, side: int = 64, seed: int = 0, **more: object
) -> list[float]:
    """One result, with scores and overlays drawn at random; returns the scores."""
    random = np.random.default_rng(seed)
    scores = [round(float(one), 4) for one in random.uniform(-0.1, 0.4, len(texts))]
    told = {
        "image": name,
        "texts": [{"text": text, "score": score} for text, score in zip(texts, scores)],
        "method": "GradECLIP",
        "options": {"model": "scenes"},
        "warnings": [],
        **more,
    }
    with results_in(place).replacing(told) as part:
        for file in file_names(texts, words=False)[: len(texts)]:
            small = Image.fromarray(random.integers(0, 255, (6, 9, 3), dtype=np.uint8))
            write_bytes(part / file, _png_bytes(small.resize((side * 3 // 2, side), Image.Resampling.BICUBIC)))
    return scores


def results(folder: Path, count: int, side: int = 64) -> list[list[float]]:
    """Many results with their index, of which each seventh has warnings, and one more was not explained."""
    found, pictures = [], []
    for number in range(count):
        warnings = ["it is flat", "it saturates", "it is odd"][: 1 + number % 3] if number % 7 == 0 else []
        found.append(result(folder / f"p{number}", f"photo {number}.jpg", side=side, seed=number, warnings=warnings))
        pictures.append({"picture": f"photo {number}.jpg", "folder": f"p{number}", "texts": [], "error": ""})
    pictures.append({"picture": "notes.jpg", "folder": "", "texts": [], "error": "it is no picture"})
    with index_in(folder).replacing({"request": {}, "pictures": pictures}) as part:
        write_text(part / "index.csv", "")
    return found
