"""What a large input will cost: more patches cost more, as the equation says."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import adapters, estimate as module
from captum_gradeclip.estimate import Estimate, duration, estimate

from .conftest import FAMILIES, stir


@pytest.mark.parametrize("name", ["open_clip ViT", "transformers CLIP", "timm ViT"])
def test_time_and_memory_grow_as_the_equation_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build())
    tower = adapters.image_tower(model)

    class Second(module.Stopwatch):
        def __exit__(self, *_: Any) -> None:
            self.seconds = 1.0

    monkeypatch.setattr(module, "Stopwatch", Second)
    sizes = [(side * tower.size[0], side * tower.size[1]) for side in (1, 2, 4, 8)]
    found = [estimate(model, size) for size in sizes]
    native = (tower.size[0] // tower.patch) ** 2
    assert [one.patches for one in found] == [native * factor for factor in (1, 4, 16, 64)]
    assert found[0].seconds == pytest.approx(1)
    block = sum(one.numel() for one in tower.sites[0].module.parameters())
    width = (block / 12) ** 0.5
    for one in found:
        linear, attention = 2 * one.patches * block, 4 * 2.5 * one.patches**2 * width
        start = 2 * native * block + 4 * 2.5 * native**2 * width
        assert one.seconds == pytest.approx((linear + attention) / start)
        assert one.memory == pytest.approx(4 * (one.patches**2 * width / 64 + 12 * one.patches * width), rel=1e-3)


def test_the_pass_that_is_timed_is_one_of_the_model() -> None:
    class Slow(nn.Module):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            time.sleep(0.05)
            return states

    model: Any = FAMILIES["open_clip ViT"].build()
    model.visual.ln_post = nn.Sequential(model.visual.ln_post, Slow())
    assert estimate(model, adapters.image_tower(model).size).seconds >= 0.05


def test_what_is_told() -> None:
    assert str(Estimate(4096, 29.05, 900 * 2**20)) == "4,096 patches, about 29 s and 0.9 GiB a pass"
    assert str(Estimate(300, 0.31, 35 * 2**20)) == "300 patches, about 0.3 s and 35 MiB a pass"
    assert duration(6000) == "100 min"
