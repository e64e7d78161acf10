"""A step on true architectures with random weights: finite, and not much slower than an ordinary one."""

from __future__ import annotations

import resource
import time

import pytest
import torch

from captum_gradeclip.adapters.loading import load
from captum_gradeclip.tuning import TuneSettings
from captum_gradeclip.tuning.batches import Prepared, collate
from captum_gradeclip.tuning.objective import Objective

COUNT, ROUNDS = 4, 2
CAPTIONS = (
    "a black dog in a red car waiting for traffic lights",
    "an old man riding a brown horse along the sandy beach",
    "two small children with a yellow kite under a cloudy sky",
    "a wooden table with a white plate and a green bottle",
)


def step(objective: Objective, items: list[Prepared], tokenizer: object) -> tuple[float, dict[str, float]]:
    """The seconds of the processor that a step takes, and its losses; what else the machine does counts little."""
    began = time.process_time()
    losses = objective(collate(items, tokenizer, objective.tower))  # type: ignore[arg-type]  # that of open_clip
    losses["loss"].backward()
    seconds = time.process_time() - began
    norm = sum(float(p.grad.square().sum()) for p in objective.parameters() if p.grad is not None) ** 0.5
    objective.zero_grad()
    return seconds, {**{name: float(value.detach()) for name, value in losses.items()}, "norm": norm}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16", "EVA02-B-16"])
def test_a_step_costs_little_more_than_an_ordinary_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    loaded = load(name)
    images = torch.randn(COUNT, 3, 224, 224)
    phrases = [["first thing", "second old thing", "third green thing"]] * COUNT
    items = [
        Prepared(image, caption, [f"{phrase} {number}" for phrase in own], torch.zeros(0, 4))
        for number, (image, caption, own) in enumerate(zip(images, CAPTIONS, phrases))
    ]
    ordinary, maps = (Objective(loaded.model, TuneSettings(local=local)) for local in ("none", "GradECLIP"))
    times: dict[str, list[float]] = {"ordinary": [], "maps": []}
    for _ in range(ROUNDS):
        for kind, objective in (("ordinary", ordinary), ("maps", maps)):
            seconds, losses = step(objective, items, loaded.tokenizer)
            times[kind].append(seconds)
            assert all(torch.isfinite(torch.tensor(value)) for value in losses.values()) and losses["norm"] > 0
    assert losses["phrases"] == 3 * COUNT and 0 < losses["regions"] <= 3 * COUNT and losses["local"] > 0
    ratio = min(times["maps"]) / min(times["ordinary"])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\n{name}: {min(times['maps']):.1f} s, {ratio:.2f} x an ordinary step, at most {memory:.1f} GiB")
    assert ratio <= 1.6
