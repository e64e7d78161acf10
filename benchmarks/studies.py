"""What the studies cost beside the plain forward passes that they need: each picture once, each text once.

    python benchmarks/studies.py [MODEL ...]

Both are measured in one process on the same samples, several times by turns, in seconds of the processor, so that what
else the machine does counts little; the ratio is that of the fastest rounds. A
study is its maps and scores with everything that is computed of them, without reading pictures. The default models are
ViT-B-32 and ViT-B-16 of open_clip with random weights, which cost what trained ones do.
"""

from __future__ import annotations

import sys
import time

import torch

from captum_gradeclip.adapters import image_tower, text_tower
from captum_gradeclip.adapters.loading import load
from captum_gradeclip.experiments import STUDIES, Study, StudySettings
from captum_gradeclip.experiments.data import DataArguments, DataError, make_dataset
from captum_gradeclip.experiments.tasks import Prepared
from captum_gradeclip.scores import tokenize

SAMPLES, ROUNDS = 12, 3


def texts_of(one: Prepared) -> list[str]:
    sample = one.sample
    return [*(sample.triple.texts if sample.triple else ()), *(region.text for region in sample.regions), *sample.captions]


def prepared(task: Study) -> list[Prepared]:
    found: list[Prepared] = []
    for number in range(2 * SAMPLES):
        try:
            found.append(task.prepare(task.data[number]))
        except DataError:
            continue
    return found[:SAMPLES]


@torch.no_grad()
def plain(task: Study, samples: list[Prepared]) -> None:
    model, tokenizer = task.loaded.model, task.loaded.tokenizer
    image_tower(model).encode(torch.cat([one.view.pixels for one in samples]))
    # The words of a study are the same in many pictures; captions are not.
    said = [text for one in samples for text in texts_of(one)]
    text_tower(model).encode(tokenize(model, list(dict.fromkeys(said)), tokenizer))


def main() -> None:
    names = sys.argv[1:] or ["ViT-B-32", "ViT-B-16"]
    for name in names:
        loaded = load(name)
        for kind in STUDIES.values():
            data = make_dataset("scenes", DataArguments(samples=2 * SAMPLES, counts=kind.things), kind.datasets)
            task = kind(loaded, data, StudySettings())
            task.begin()
            samples = prepared(task)
            seconds: dict[str, list[float]] = {"plain": [], "study": []}
            for _ in range(ROUNDS):
                begun = time.process_time()
                plain(task, samples)
                seconds["plain"].append(time.process_time() - begun)
                task.begin()  # forgets the texts that are known already, and tries the method on a blank picture
                begun = time.process_time()
                task.measure(samples)
                seconds["study"].append(time.process_time() - begun)
            fastest = {what: min(some) for what, some in seconds.items()}
            print(
                f"{name}, {kind.name}: {fastest['study']:.2f} s, plain forward passes {fastest['plain']:.2f} s,"
                f" ratio {fastest['study'] / fastest['plain']:.2f} ({len(samples)} samples)",
                flush=True,
            )


if __name__ == "__main__":
    main()
