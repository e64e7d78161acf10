"""RISE against its masks drawn pixel by pixel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.attr import (
    RISE,
)

from ..conftest import FAMILIES, captions, images, relative, stir, varies
from ..reference.masks import one_mask


def test_other_columns_do_not_reach_a_map(vit: nn.Module) -> None:
    """Classes that a model masks out have a score of minus infinity."""
    score, x = ImageTextScore(vit, captions()), images((32, 32))

    def masked(images: Tensor) -> Tensor:
        return score(images).index_fill(1, torch.tensor([0]), -torch.inf)

    many = RISE(masked).attribute_targets(x, [1], n_masks=5)
    assert relative(many, RISE(score).attribute(x, target=1, n_masks=5)) < 1e-6


def test_masks_share_passes(vit: nn.Module) -> None:
    """As many as are asked for, but a pass ends where a map is asked whether it has settled, every hundred masks."""
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    for options, expected in (
        ({"n_masks": 12, "masks_per_eval": 5}, [5, 5, 2]),
        ({"n_masks": 12, "masks_per_eval": 50}, [12]),
        ({"n_masks": 220, "masks_per_eval": 60, "tolerance": 1e-9}, [60, 40, 60, 40, 20]),
    ):
        sizes: list[int] = []

        def counted(images: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(images) // len(x))
            return score(images)

        RISE(counted).attribute(x, target=1, **options)
        assert sizes[-len(expected) :] == expected and len(sizes) - len(expected) <= 1


def test_rise(double: nn.Module) -> None:
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    options = {"n_masks": 7, "cells": 3, "seed": 5}
    got = RISE(score).attribute(x, target=[1, 2], masks_per_eval=3, **options)
    generator = torch.Generator().manual_seed(5)
    draws = torch.rand(7, 2 + 9, generator=generator)
    for item, target in enumerate((1, 2)):
        expected = torch.zeros(40, 24, dtype=torch.float64)
        with torch.no_grad():
            for draw in draws:
                mask = one_mask((draw[2:] < 0.5).double().view(3, 3), draw[:2].tolist(), (40, 24))
                expected += score(x[item : item + 1] * mask)[0, target] * mask
        assert relative(got[item, 0], expected / (7 * 0.5)) < 1e-5
    assert relative(RISE(score).attribute(x, target=[1, 2], masks_per_eval=50, **options), got) < 1e-5
    assert (
        relative(RISE(score).attribute_targets(x, **options)[:, 1], RISE(score).attribute(x, target=1, **options)[:, 0])
        < 1e-5
    )
    assert not torch.equal(got, RISE(score).attribute(x, target=[1, 2], n_masks=7, cells=3, seed=6))
    assert varies(got)
    centred = RISE(score).attribute(x, target=1, subtract_mean=True, **options)
    assert centred.abs().max() < got.abs().max()


def test_rise_with_one_mask_of_ones_is_the_score(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    state = torch.get_rng_state()
    got = RISE(score).attribute(x, target=1, n_masks=1, probability=1.0)
    with torch.no_grad():
        assert relative(got, score(x)[:, 1, None, None, None].expand(-1, 1, 32, 32)) < 1e-6
    assert torch.equal(state, torch.get_rng_state())
    early = RISE(score).attribute(x, target=1, n_masks=400, tolerance=10.0)
    assert relative(early, RISE(score).attribute(x, target=1, n_masks=200)) < 1e-5
    for options, message in (({"n_masks": 0}, "n_masks"), ({"probability": 0.0}, "probability"), ({"cells": 0}, "cells")):
        with pytest.raises(ValueError, match=message):
            RISE(score).attribute(x, target=1, **options)
    text = TextImageScore(double, x)
    with pytest.raises(ValueError, match="RISE is defined for images, not for texts"):
        RISE(text).attribute(captions(), target=0)


def test_rise_stops_for_each_map_by_itself(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    options: dict[str, Any] = {"n_masks": 450, "cells": 4, "subtract_mean": True}
    exact = {count: RISE(score).attribute_targets(x, **{**options, "n_masks": count}) for count in (200, 300, 400, 450)}
    changes = [
        (exact[300] - exact[200]).abs().amax(dim=(-2, -1)) / exact[300].abs().amax(dim=(-2, -1)),
        (exact[400] - exact[300]).abs().amax(dim=(-2, -1)) / exact[400].abs().amax(dim=(-2, -1)),
    ]
    ordered = changes[0].flatten().sort().values
    tolerance = float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())  # between two of them
    got = RISE(score).attribute_targets(x, tolerance=tolerance, **options)
    stops = set()
    for item in range(len(x)):
        alone = RISE(score).attribute_targets(x[item : item + 1], tolerance=tolerance, masks_per_eval=7, **options)
        assert relative(got[item], alone[0]) < 1e-5
        for target in range(got.shape[1]):
            distance = {count: relative(got[item, target], maps[item, target]) for count, maps in exact.items()}
            stop = min(distance, key=lambda count: distance[count])
            assert distance[stop] < 1e-5
            stops.add(stop)
    assert len(stops) > 1, "all maps settled together"


def test_rise_in_half_precision() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    x = images((32, 32))
    wide = RISE(ImageTextScore(model, captions())).attribute(x, target=1, n_masks=30)
    narrow = RISE(ImageTextScore(model.bfloat16(), captions())).attribute(x.bfloat16(), target=1, n_masks=30)
    assert narrow.dtype == torch.float32
    assert relative(narrow, wide) < 0.05


def test_masks_are_added_up_in_single_precision(vit: nn.Module) -> None:
    """Under autocast the model runs in bfloat16, the sum over the masks does not."""
    x = images((32, 32))
    method = RISE(ImageTextScore(vit, captions()))
    wide = method.attribute(x, target=1, n_masks=300)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = method.attribute(x, target=1, n_masks=300)
    assert relative(narrow, wide) < 0.02 and len(narrow.unique()) > 1000
