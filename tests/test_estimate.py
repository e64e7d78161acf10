"""What a large input will cost: more patches cost more, as the equation says."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore, TextImageScore, adapters, estimate as module, scenes
from captum_gradeclip.attr import CAPTUM, METHODS, compare
from captum_gradeclip.estimate import Estimate, duration, estimate, expect, told

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


def test_what_methods_will_take_is_about_what_they_take() -> None:
    """In passes: within a factor of four, since small models have other bottlenecks than large ones."""
    model, _, tokenizer = scenes.load()
    texts = ["a red circle", "a star"]
    score = ImageTextScore(model, texts, tokenizer)
    inputs = torch.rand(1, 3, *adapters.image_tower(model).size)
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    options = {"RISE": {"n_masks": 40, "masks_per_eval": 1}, "IntegratedGradients": {"internal_batch_size": 1}}
    found = expect(score, inputs, [*METHODS, *CAPTUM], 2, options)
    assert list(found) == [kind.info.name for kind in (*METHODS, *CAPTUM)]
    one = found["Grad-ECLIP"] / 1.5
    handle = model.visual.register_forward_hook(count)
    for kind in (*METHODS, *CAPTUM):
        passes = 0
        compare(score, inputs, [kind], options={name: some for name, some in options.items() if name == kind.__name__})
        ran, told_before = passes - 1, found[kind.info.name] / one  # without the one that warms up
        if kind.__name__ in ("RISE", "Occlusion", "IntegratedGradients"):
            batch = {"Occlusion": 16}.get(kind.__name__, 1)
            gradients = 3 if kind.info.gradient else 1
            assert 0.5 < told_before / (ran * batch * gradients) < 2, kind
        elif kind.__name__ == "M2IB":  # ten steps of ten copies for each of two texts
            assert ran >= 21 and told_before > 100
        else:
            assert told_before == pytest.approx(1.5) or kind.__name__ == "LayerGradCam", kind
    handle.remove()


def test_of_texts_only_methods_for_texts_are_foretold() -> None:
    model, _, tokenizer = scenes.load()
    tokens = tokenizer(["a star"])
    found = expect(TextImageScore(model, torch.rand(1, 3, 96, 96)), tokens, "all")
    assert list(found) == [kind.info.name for kind in METHODS if kind.info.text]
    assert max(found, key=lambda name: found[name]) == "M2IB"
    with pytest.raises(TypeError, match="GAME got an unexpected keyword argument 'nothing'"):
        expect(TextImageScore(model, torch.rand(1, 3, 96, 96)), tokens, "GAME", options={"GAME": {"nothing": 1}})


def test_the_parts_that_take_most_are_named() -> None:
    assert told({"A": 10.0}) == "about 10 s: A 10 s"
    assert told({"A": 0.5, "B": 600.0, "C": 0.5}) == "about 10 min: B 10 min, others 1.0 s"
