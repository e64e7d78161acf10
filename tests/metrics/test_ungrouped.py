"""In a ``MetricCollection`` every metric gives what it gives alone, whatever its neighbors have in common with it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from captum_gradeclip.metrics import (
    ROAD,
    Deletion,
    EnergyPointingGame,
    HeatmapAveragePrecision,
    Insertion,
    InsertionMinusDeletion,
    MaskIoU,
    PixelAccuracy,
    PointingGame,
    Schedule,
    TargetedDeletion,
    TargetedInsertion,
    top_k,
)


def bright(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3))


def dark(x: Tensor) -> Tensor:
    return 1 - x.mean(dim=(2, 3)) + x[:, :, :8].mean(dim=(2, 3))


def best(targets: Tensor) -> Any:
    return top_k(targets, 1)


LOCALIZATION: dict[str, Callable[[], Metric]] = {
    "strict": PointingGame,
    "tolerant": lambda: PointingGame(3.0),
    "energy": EnergyPointingGame,
    "precision": HeatmapAveragePrecision,
    "of the foreground": lambda: HeatmapAveragePrecision("foreground"),
    "accuracy": PixelAccuracy,
    "recall": lambda: PixelAccuracy("mean", "foreground"),
    "of each": lambda: PixelAccuracy("mean", "all", "image"),
    "overlap": MaskIoU,
    "overlap of the top": lambda: MaskIoU(0.9),
    "overlap of both": lambda: MaskIoU(0.5, "mean"),
    "overlap of all": lambda: MaskIoU(0.5, "foreground", "dataset"),
}
CURVES: dict[str, Callable[[], Metric]] = {
    "deletion": lambda: Deletion(bright, baseline="black"),
    "of another model": lambda: Deletion(dark, baseline="black"),
    "top 1": lambda: Deletion(bright, 1, baseline="black"),
    "top 3": lambda: Deletion(bright, 3, baseline="black"),
    "by a function": lambda: Deletion(bright, best, baseline="black"),
    "all pixels": lambda: Deletion(bright, baseline="black", schedule=Schedule(share=1.0)),
    "trapezoid": lambda: Deletion(bright, baseline="black", auc="trapezoid"),
    "blurred": lambda: Deletion(bright, baseline="blur"),
    "insertion": lambda: Insertion(bright),
    "insertion of another model": lambda: Insertion(dark),
    "difference": lambda: InsertionMinusDeletion(bright, deletion_baseline="black"),
    "difference of another model": lambda: InsertionMinusDeletion(dark, deletion_baseline="black"),
    "most": lambda: ROAD(bright, order="most", shares=(0.3,)),
    "least": lambda: ROAD(bright, order="least", shares=(0.3,)),
    "both": lambda: ROAD(dark, order="combined", shares=(0.3,)),
}


TARGETED: dict[str, Callable[[], Metric]] = {
    "deletion": lambda: TargetedDeletion(bright),
    "of another model": lambda: TargetedDeletion(dark),
    "black": lambda: TargetedDeletion(bright, baseline="black"),
    "all pixels": lambda: TargetedDeletion(bright, schedule=Schedule(share=1.0)),
    "insertion": lambda: TargetedInsertion(bright),
    "insertion into black": lambda: TargetedInsertion(bright, baseline="black"),
}


def localized() -> list[tuple[Tensor, ...]]:
    """The first picture says the same to all metrics: the map is its mask. The others do not."""
    masks = torch.zeros(5, 16, 16, dtype=torch.bool)
    masks[:, 4:9, 4:9] = True
    maps = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(0))
    maps[0] = masks[0].float()
    maps[1:, 2, 6] = 2
    return [(maps[n : n + 1], masks[n : n + 1]) for n in range(5)]


def pictured() -> list[tuple[Tensor, ...]]:
    """The first picture is black, so that nothing changes when its pixels do."""
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.rand(4, 3, 16, 16, generator=generator), torch.rand(4, 4, 4, generator=generator)
    images[0] = 0
    return [(images[n : n + 1], maps[n : n + 1], torch.tensor([n % 3])) for n in range(4)]


def asked() -> list[tuple[Tensor, ...]]:
    """The pictures, and everything but the target as its rivals."""
    return [(*given, torch.arange(3)[None] != given[2][:, None]) for given in pictured()]


def values(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: round(float(value), 9) for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("kinds", "batches"),
    [(LOCALIZATION, localized), (CURVES, pictured), (TARGETED, asked)],
    ids=["maps", "curves", "targeted"],
)
def test_each_as_if_it_were_alone(
    kinds: dict[str, Callable[[], Metric]], batches: Callable[[], list[tuple[Tensor, ...]]]
) -> None:
    batches_, alone = batches(), {name: kind() for name, kind in kinds.items()}
    together = MetricCollection({name: kind() for name, kind in kinds.items()})
    for batch in batches_:
        together.update(*batch)
        for metric in alone.values():
            metric.update(*batch)
    expected = values({name: metric.compute() for name, metric in alone.items()})
    assert len(set(expected.values())) > len(expected) // 2
    assert values(together.compute()) == expected
    assert len(together.compute_groups) == len(kinds)

    copy = together.clone(prefix="own_")
    assert values(copy.compute()) == {f"own_{name}": value for name, value in expected.items()}
    assert values(pickle.loads(pickle.dumps(together)).compute()) == expected
    for again in (copy, together):  # the groups that were found at the first update are kept
        again.reset()
        for batch in batches_:
            again(*batch)
        assert {name.removeprefix("own_"): value for name, value in values(again.compute()).items()} == expected

    halves = [MetricCollection({name: kind() for name, kind in kinds.items()}) for _ in range(2)]
    for number, batch in enumerate(batches_):
        halves[number % 2].update(*batch)
    for name in kinds:
        halves[0][name].merge_state(halves[1][name])
    merged = values(halves[0].compute())
    assert all(abs(merged[name] - expected[name]) < 1e-6 for name in kinds)


def test_even_copies_that_are_changed_later_stay_apart() -> None:
    strict = PointingGame()
    tolerant = strict.clone()
    tolerant.tolerance = 3.0
    together = MetricCollection({"strict": strict, "tolerant": tolerant})
    for batch in localized():
        together.update(*batch)
    assert values(together.compute()) == {"strict": pytest.approx(0.2), "tolerant": 1.0}
