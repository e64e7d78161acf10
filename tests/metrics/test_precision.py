"""Maps and masks are judged as they are: neither double precision nor a fraction is cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from captum_gradeclip import metrics
from captum_gradeclip.maps import stretched
from captum_gradeclip.metrics import (
    ROAD,
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    Schedule,
    area_under,
    curves,
    energy_pointing_game,
    heatmap_average_precision,
    mask_iou,
    pixel_accuracy,
    pointing_game,
    ranks,
    target_score,
)
from captum_gradeclip.metrics.localization import pixel_counts

LOCAL: list[Callable[..., Any]] = [
    pointing_game,
    energy_pointing_game,
    pixel_accuracy,
    mask_iou,
    heatmap_average_precision,
]


def examples(count: int = 4) -> tuple[Tensor, Tensor]:
    maps = torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    masks = torch.zeros(count, 16, 12, dtype=torch.long)
    masks[:, 4:12, 2:6] = 1
    masks[:, 0] = -1
    return maps, masks


@pytest.mark.parametrize("scale", [1e39, 1e300, 1.7e308, 1e-50, 1e-300])
@pytest.mark.parametrize("function", LOCAL)
def test_scale_does_not_matter(function: Callable[..., Tensor], scale: float) -> None:
    maps, masks = examples()
    expected = function(maps, masks)
    assert torch.allclose(function(maps * scale, masks).double(), expected.double(), atol=1e-9)
    assert torch.allclose(function(-maps * scale, masks).double(), function(-maps, masks).double(), atol=1e-9)
    assert torch.equal(ranks(maps * scale, (16, 12)), ranks(maps, (16, 12)))


@pytest.mark.parametrize("function", LOCAL)
def test_a_peak_below_the_precision_of_float32_is_one(function: Callable[..., Tensor]) -> None:
    """Nearly constant maps: in single precision all pixels are equal."""
    maps, masks = examples()
    assert torch.allclose(function(1e9 + maps, masks).double(), function(maps, masks).double(), atol=1e-5)
    whole = (maps * 1000).long() + 2**40
    got, expected = function(whole, masks), function((maps * 1000).long(), masks)
    assert torch.allclose(got.double(), expected.double(), atol=1e-4)
    assert torch.equal(ranks(whole, (8, 8)), ranks((maps * 1000).long(), (8, 8)))


def test_a_range_beyond_the_largest_number_is_no_nan() -> None:
    maps = torch.tensor([[[-3e38, 0.0, 3e38, 1.0]]])
    assert stretched(maps).tolist() == [[[0.0, 0.5, 1.0, 0.5]]]
    assert torch.equal(stretched(maps.double() / 3e38 * 1.7e308)[..., :3], stretched(maps).double()[..., :3])


def test_the_square_of_a_distance_is_whole() -> None:
    maps, masks = torch.zeros(1, 1, 6001), torch.zeros(1, 1, 6001, dtype=torch.long)
    maps[..., 6000], masks[..., 0] = 1, 1
    assert [bool(pointing_game(maps, masks, far)) for far in (6000, 5999.9999, 1e300)] == [True, False, True]


def shades(x: Tensor) -> Tensor:
    """Differences that single precision cannot tell apart, at a height that it has no room for."""
    return 1e40 * (1 + 1e-12 * x.double().mean(dim=(2, 3)))


def test_curves_of_a_model_in_double_precision() -> None:
    images, maps = torch.ones(1, 3, 8, 8), torch.rand(1, 8, 8)
    targets = torch.tensor([0])
    traced = curves(
        shades, images, maps, {"it": target_score(targets)}, background=torch.zeros_like(images), schedule=Schedule(4)
    )["it"]
    assert traced.dtype == torch.float64 and (traced.diff() < 0).all() and traced.isfinite().all()
    options = {"baseline": "mean", "schedule": Schedule(4)}
    deletion, insertion = Deletion(shades, **options), Insertion(shades, **options)
    difference = InsertionMinusDeletion(
        shades, deletion_baseline="mean", insertion_baseline="mean", schedule=Schedule(4, share=0.5)
    )
    for metric in (deletion, insertion, difference):
        metric.update(images, maps, targets)
    assert float(deletion.compute()) == pytest.approx(float(area_under(traced).mean()), rel=1e-15)
    # The metric's own result is a float32 wherever that has room for it.
    assert deletion.compute().dtype == torch.float64 and difference.compute().dtype == torch.float32
    assert float(difference.compute()) == pytest.approx(-0.5e28, rel=1e-3)
    assert torch.equal(deletion.curve, traced[0]) and float(ROADS(images, maps, targets)) == pytest.approx(1e40)


def ROADS(*batch: Tensor) -> Tensor:  # noqa: N802
    metric = ROAD(shades, order="most", shares=(0.5,))
    metric.update(*batch)
    return metric.compute()


FRACTIONS = st.floats(0.01, 0.99) | st.sampled_from([1e-30, 0.5, 0.999999])


@settings(max_examples=60, derandomize=True)
@given(fraction=FRACTIONS, kind=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_fractions_are_weights_or_refused(fraction: float, kind: torch.dtype) -> None:
    maps, _ = examples(1)
    maps = maps.float()
    soft = torch.zeros(1, 8, 8, dtype=kind)
    soft[:, 2:5, 3:6] = fraction
    soft[:, 7, 7] = 1
    if 0 < float(soft[0, 2, 3]) < 1:
        for function in (pointing_game, pixel_accuracy, mask_iou, heatmap_average_precision, pixel_counts):
            with pytest.raises(ValueError, match=r"masks: expected 1 on the object.* fractions such as .* masks > 0\.5"):
                function(maps, soft)
        hard = soft > 0
        inside = stretched(maps) * soft
        assert float(energy_pointing_game(maps, soft)) == pytest.approx(
            float(inside.sum() / stretched(maps).sum()), rel=1e-3 if kind.itemsize == 2 else 1e-5
        )
        assert energy_pointing_game(maps, soft) < energy_pointing_game(maps, hard)
        # Where nothing counts, there is no weight either.
        some = soft.clone()
        some[:, 0] = -1
        inside, counted = stretched(maps)[:, 1:] * soft[:, 1:], stretched(maps)[:, 1:].sum()
        assert float(energy_pointing_game(maps, some)) == pytest.approx(float(inside.sum() / counted), rel=1e-2)


@settings(max_examples=60, derandomize=True)
@given(
    odd=st.sampled_from(
        [float("nan"), float("inf"), -float("inf"), -0.5, -1.5, 1.5, 2.0, 255.0, 1.0000001, -1e-9, 1e300, -1e300, 2.0**64]
    ),
    function=st.sampled_from(LOCAL),
    kind=st.sampled_from([torch.float32, torch.float64]),
)
def test_no_other_value_passes_for_a_mask(odd: float, function: Callable[..., Tensor], kind: torch.dtype) -> None:
    maps, _ = examples(1)
    masks = torch.zeros(1, 8, 8, dtype=torch.float64)
    masks[:, 2:5, 3:6] = 1
    masks[:, 0, 0] = odd
    masks = masks.to(kind)
    with pytest.raises(ValueError, match=r"masks: expected 1 on the object, 0 elsewhere, and -1 where nothing counts, got"):
        function(maps, masks)


@pytest.mark.parametrize(
    "kind", [torch.bool, torch.uint8, torch.int8, torch.int64, torch.uint64, torch.float16, torch.bfloat16, torch.float64]
)
@pytest.mark.parametrize("function", LOCAL)
def test_whole_masks_of_any_type_are_one(function: Callable[..., Tensor], kind: torch.dtype) -> None:
    maps, masks = examples()
    masks = masks.clamp(min=0)
    assert torch.equal(function(maps.float(), masks.to(kind)), function(maps.float(), masks))


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_a_large_unsigned_number_is_not_minus_one(kind: torch.dtype) -> None:
    maps, _ = examples(1)
    with pytest.raises(ValueError, match="masks: expected 1 on the object"):
        pointing_game(maps, torch.full((1, 8, 8), 2 ** (8 * kind.itemsize) - 1, dtype=kind))


def test_what_is_given_stays_as_it_is() -> None:
    maps, masks = examples()
    before = maps.clone(), masks.clone()
    for function in LOCAL:
        function(maps, masks)
    assert torch.equal(maps, before[0]) and torch.equal(masks, before[1])
    assert metrics.energy_pointing_game(maps.float(), masks).dtype == torch.float32
