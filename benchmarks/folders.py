"""How fast many pictures are explained, beside a plain loop that decodes, prepares and encodes them.

    python benchmarks/folders.py [--model ViT-B-16] [--pictures 500] [--texts 10] [--rounds 3]

The plain loop is a ``DataLoader`` with as many workers as ``explain`` has, the model's own preprocessing and batches of the
same size under ``no_grad``. Both take turns in one process, as many rounds as asked for; told is the median of the ratios of
pictures per second. The pictures have mixed sizes and are JPEG files. The last rows tell where the time of a default
explanation goes: its maps, words and scores, and drawing and writing its results.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from captum_gradeclip import Explanation, adapters, explain
from captum_gradeclip.adapters.loading import load
from captum_gradeclip.images import read

SIZES = ((640, 480), (480, 640), (1024, 768), (800, 600), (1280, 720), (500, 375))


class Files(Dataset[torch.Tensor]):
    """Picture files as inputs of a model."""

    def __init__(self, paths: list[Path], own: adapters.Preprocessing) -> None:
        self.paths, self.own = paths, own

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.own.pixels(read(self.paths[index]))


def write(folder: Path, count: int) -> list[Path]:
    noise = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(noise.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC).save(folder / f"{number:04d}.jpg", quality=90)
    return sorted(folder.glob("*.jpg"))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16")
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--written", type=int, default=50, help="pictures that are drawn and written for the last row")
    given = parser.parse_args()
    loaded = load(given.model)
    model, tokenizer = loaded.model.to(given.device, getattr(torch, given.dtype)), loaded.tokenizer
    texts = [f"a photo of a dog, number {number}" for number in range(given.texts)]
    own, tower = adapters.preprocessing(model), adapters.image_tower(model)

    @torch.no_grad()
    def plain() -> None:
        for pixels in DataLoader(Files(paths, own), batch_size=given.batch, num_workers=given.workers):
            tower.encode(pixels.to(given.device, tower.dtype))

    def maps() -> None:
        found = explain(
            model, paths, texts, tokenizer, words=False, scores=False, batch_size=given.batch, workers=given.workers
        )
        assert found.maps.shape[:2] == (len(paths), len(texts))  # type: ignore[union-attr]

    def some(words: bool, scores: bool) -> Explanation:
        few = paths[: given.written]
        return explain(
            model, few, texts, tokenizer, words=words, scores=scores, batch_size=given.batch, workers=given.workers
        )

    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), given.pictures)
        ratios, rates = [], []
        for _ in range(given.rounds):
            usual, ours = seconds(plain), seconds(maps)
            ratios.append(usual / ours)
            rates.append((len(paths) / usual, len(paths) / ours))
        usual, ours = (statistics.median(column) for column in zip(*rates))
        print(f"plain loop      {usual:6.2f} pictures/s")
        print(f"explain, maps   {ours:6.2f} pictures/s, {statistics.median(ratios):.2f} of the plain loop")
        if given.written:
            found = some(True, True)
            parts = {
                "maps": lambda: some(False, False),
                "maps and words": lambda: some(True, False),
                "maps and scores": lambda: some(False, True),
                "drawn and written": lambda: found.save(Path(folder) / "out"),
            }
            for name, part in parts.items():
                print(f"{name:18}{seconds(part) / min(given.written, len(paths)):6.2f} s a picture")


if __name__ == "__main__":
    main()
