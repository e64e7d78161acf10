"""Targeted deletion and insertion, by a loop in double precision and by what must hold where the truth is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip.metrics import Schedule, TargetedDeletion, TargetedInsertion, margin, mean_change

KINDS = [TargetedDeletion, TargetedInsertion]


def setting(count: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Images, maps on a grid that does not divide them, and rivals of different numbers."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.randn(count, 3, 9, 11, generator=generator),
        "maps": torch.randn(count, 1, 4, 5, generator=generator),
        "targets": torch.tensor([2, 0, 4, 1])[:count],
        "rivals": torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0], [0, 0, 1, 0, 1]])[:count] == 1,
    }


WEIGHT = torch.randn(3, 5, generator=torch.Generator().manual_seed(3))


def model(x: Tensor) -> Tensor:
    """Five classes that look at colors, each pixel as much as its place is far down, and not linearly."""
    down = torch.linspace(0, 1, x.shape[-2], dtype=x.dtype)[:, None]
    return ((x + x.square() / 2) * down).mean(dim=(2, 3)) @ WEIGHT.to(x.dtype)


def slow(given: dict[str, Tensor], mode: str, shares: list[float]) -> list[float]:
    """The change of the margin for each example: pixel after pixel, in Python's own numbers."""
    found = []
    for image, attribution, target, rivals in zip(*(given[name] for name in ("images", "maps", "targets", "rivals"))):
        image = image.double()
        height, width = image.shape[1:]
        heat = F.interpolate(attribution[None], size=(height, width), mode="bilinear", align_corners=False)[0, 0].tolist()
        order = sorted([(y, x) for y in range(height) for x in range(width)], key=lambda place: -heat[place[0]][place[1]])
        color = [sum(channel.flatten().tolist()) / (height * width) for channel in image]
        margins = []
        for share in [0.0, *shares]:
            changed = (
                image.clone() if mode == "deletion" else torch.tensor(color).double().view(3, 1, 1).repeat(1, height, width)
            )
            for y, x in order[: round(share * height * width)]:
                for channel in range(3):
                    changed[channel, y, x] = color[channel] if mode == "deletion" else image[channel, y, x]
            output = model(changed[None])[0].tolist()
            best = max(output[column] for column in range(5) if rivals[column])
            margins.append(output[int(target)] - best)
        changes = [margins[0] - one if mode == "deletion" else one - margins[0] for one in margins[1:]]
        found.append(sum(changes) / len(changes))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", [Schedule(), Schedule(3, 1.0)])
def test_by_a_loop_in_double_precision(kind: Any, schedule: Schedule) -> None:
    given = setting()
    expected = slow(given, kind.mode, [schedule.share * step / schedule.points for step in range(1, schedule.points + 1)])
    metric = kind(model, schedule=schedule, batch_size=5)
    metric.update(**given)
    assert abs(float(metric.compute()) - sum(expected) / 4) < 1e-6
    double = kind(model, schedule=schedule)
    double.update(**{**given, "images": given["images"].double()})
    assert abs(float(double.compute()) - sum(expected) / 4) < 1e-7  # what is shown is float32
    for number in range(4):  # a batch is the mean of its items
        one = kind(model, schedule=schedule)
        one.update(**{name: value[number : number + 1] for name, value in given.items()})
        assert abs(float(one.compute()) - expected[number]) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_nothing(kind: Any) -> None:
    given = setting()

    def value(function: Any = model, **other: Any) -> float:
        metric = kind(function)
        metric.update(**{**given, **other})
        return float(metric.compute())

    plain = value()
    assert abs(plain) > 1e-3
    assert abs(value(lambda x: model(x) + 7) - plain) < 1e-5
    assert abs(value(lambda x: model(x) + x.mean(dim=(1, 2, 3))[:, None]) - plain) < 1e-5  # the same for all classes
    assert value(maps=given["maps"] * 3.5) == plain
    assert value(maps=given["maps"][:, 0]) == plain
    assert abs(value(lambda x: 2 * model(x)) - 2 * plain) < 1e-5
    # What is no rival has no say.
    free = torch.zeros(5)
    free[3] = 100
    some = {name: one[:2] for name, one in given.items()}
    assert value(lambda x: model(x) + free, **some) == value(**some)


def test_margins_and_their_change_by_hand() -> None:
    output = torch.tensor([[0.5, 0.25, 2.0, -1.0], [0.5, 0.25, 2.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    rivals = torch.tensor([[False, True, False, True], [True, True, False, False]])
    measure = margin(torch.tensor([0, 3]), rivals)
    assert measure(output, torch.tensor([0, 1, 0])).tolist() == [0.25, -1.5, 0.0]
    ruled_out = output.masked_fill(torch.tensor([False, True, False, False]), -float("inf"))
    assert measure(ruled_out, torch.tensor([0, 1, 0])).tolist() == [1.5, -1.5, 0.0]  # the next rival is the best one
    curve = torch.tensor([[1.0, 0.5, 0.0], [0.0, 3.0, 0.0]])
    assert mean_change(curve).tolist() == [-0.75, 1.5]


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_of_a_linear_model_is_the_best_map(kind: Any) -> None:
    """Each class looks at one color; each image has a thing in each of two colors, and a third one that is not asked for."""
    generator = torch.Generator().manual_seed(0)
    images = 0.1 * torch.rand(8, 3, 12, 12, generator=generator)
    images[:, 0, 1:5, 1:5] += 1  # a red thing
    images[:, 1, 7:11, 7:11] += 1  # a green one
    masks = torch.zeros(2, 12, 12)
    masks[0, 1:5, 1:5], masks[1, 7:11, 7:11] = 1, 1
    targets = torch.arange(8) % 2
    rivals = torch.tensor([[False, True, False], [True, False, False]])[targets]

    def value(maps: Tensor) -> float:
        metric = kind(lambda x: x.mean(dim=(2, 3)))
        metric.update(images, maps, targets, rivals)
        return float(metric.compute())

    oracle, wrong, foreground = value(masks[targets]), value(masks[1 - targets]), value(masks.sum(dim=0).expand(8, 12, 12))
    chance = value(torch.rand(8, 12, 12, generator=generator))
    assert oracle > 0.05 and wrong < -0.05
    assert max(abs(foreground), abs(chance)) < oracle / 5  # a map of everything tells nothing apart
    # Between its extremes lie all orders: the margin's own gradient, and its opposite.
    sign = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])[targets]
    away = images - images.mean(dim=(2, 3), keepdim=True)
    best = (away * sign[:, :, None, None]).sum(dim=1)
    assert value(best) >= oracle - 1e-6 and value(best) > chance > value(-best)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="schedule: expected untouched=False"):
        TargetedInsertion(model, schedule=Schedule(untouched=True))
    TargetedDeletion(model, schedule=Schedule(untouched=True))  # which says nothing about deletions
    targets, rivals = torch.tensor([0, 1]), torch.tensor([[False, True, True], [True, False, True]])
    for given, message in (
        ((targets, rivals & False), "rivals: expected at least one rival of each example's target"),
        ((targets, rivals | True), "rivals: expected other columns than the example's target"),
        ((targets + 2, rivals), "targets: expected columns of the model's output, 0 to 2, got 3"),
        ((targets - 1, rivals), "targets: expected columns of the model's output, 0 to 2, got -1"),
        ((targets[:1], rivals), "rivals: expected one for each of 1 targets"),
    ):
        with pytest.raises(ValueError, match=message):
            margin(*given)
    with pytest.raises(ValueError, match="rivals: expected 4 columns, as the model answers, got 3"):
        margin(targets, rivals)(torch.rand(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="curve: expected at least two points"):
        mean_change(torch.rand(3, 1))
