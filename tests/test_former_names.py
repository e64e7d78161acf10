"""Names of version 0.1 mean what they meant, and each says which name has taken its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore, attention, attr, experiments, maps, metrics, scenes

GAME = attr.GAME


class Mean(nn.Module):
    """Something to explain, for metrics that only keep it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None]


@cache
def score() -> ImageTextScore:
    model, _, tokenizer = scenes.load()
    return ImageTextScore(model, ["a ring"], tokenizer)


FORMER: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "attention.Branches": (lambda: attention.Branches, lambda: attention.SidePath),
    "attention.LayerInput": (lambda: attention.LayerInput, lambda: attention.CaptureInput),
    "attention.LayerOutput": (lambda: attention.LayerOutput, lambda: attention.ReplaceOutput),
    "attention.each_token": (lambda: attention.each_token, lambda: attention.tokens_as_batch),
    "attr.About": (lambda: attr.About, lambda: attr.MethodInfo),
    "attr.Compared": (lambda: attr.Compared, lambda: attr.Outcome),
    "maps.normalise": (lambda: maps.normalise, lambda: maps.normalize),
    "metrics.canvas": (lambda: metrics.canvas, lambda: metrics.baseline),
    "GAME.about": (lambda: GAME.about, lambda: GAME.info),
    "GAME.of": (lambda: GAME.of(score()).layer, lambda: GAME.for_score(score()).layer),
    "MethodInfo.resnet": (lambda: GAME.info.resnet, lambda: GAME.info.convolutional),
    "MethodInfo.needs_text": (lambda: GAME.info.needs_text, lambda: GAME.info.class_discriminative),
    "normalisation=": (
        lambda: attr.CLIPSurgery.Options(normalisation="tokens").normalization,
        lambda: attr.CLIPSurgery.Options(normalization="tokens").normalization,
    ),
    "canvas=": (
        lambda: metrics.Deletion(Mean(), canvas="blur").baseline,
        lambda: metrics.Deletion(Mean(), baseline="blur").baseline,
    ),
    "Settings(canvas=)": (lambda: experiments.Settings(canvas="black"), lambda: experiments.Settings(baseline="black")),
}


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_means_the_same_and_says_so(name: str) -> None:
    former, present = FORMER[name]
    with pytest.warns(DeprecationWarning, match="is now .* goes with the next version") as found:
        old = former()
    assert old == present() or old is present()
    told = [one for one in found if "is now" in str(one.message)]
    assert len(told) == 1 and told[0].filename == __file__  # it points at the caller, who alone can mend it


@pytest.mark.parametrize("station", [attention, attr, maps, metrics])
def test_a_name_that_never_was_is_an_error(station: Any) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        station.nothing  # noqa: B018
