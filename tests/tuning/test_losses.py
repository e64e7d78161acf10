"""The losses, pair by pair, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip.tuning import CLIPSelfLoss, GlobalContrastiveLoss, RegionPhraseLoss

SCALE = torch.tensor(7.0, dtype=torch.float64)
LABELS = torch.tensor([3, 1, 3, 2, 1])


def unit(count: int, seed: int, width: int = 6) -> Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double(), dim=-1)


def test_the_global_loss_is_equation_21() -> None:
    image, text = unit(5, 0), unit(5, 1)
    total = 0.0
    for i in range(5):
        rows = [math.exp(SCALE * (image[i] @ text[j])) for j in range(5)]
        columns = [math.exp(SCALE * (image[j] @ text[i])) for j in range(5)]
        total += math.log(rows[i] / sum(rows)) + math.log(columns[i] / sum(columns))
    assert GlobalContrastiveLoss()(image, text, SCALE).item() == pytest.approx(-total / 10, rel=1e-12)


@pytest.mark.parametrize("same_phrase", [True, False])
def test_the_sigmoid_region_loss_is_the_focal_loss_of_each_pair(same_phrase: bool) -> None:
    regions, phrases, gamma, alpha, bias = unit(5, 0), unit(5, 1), 2.0, 0.25, -1.5
    total = 0.0
    for a in range(5):
        for b in range(5):
            together = a == b or (same_phrase and LABELS[a] == LABELS[b])
            p = 1 / (1 + math.exp(-(SCALE * (regions[a] @ phrases[b]) + bias)))
            p_t, weight = (p, alpha) if together else (1 - p, 1 - alpha)
            total -= weight * (1 - p_t) ** gamma * math.log(p_t)
    loss = RegionPhraseLoss("sigmoid", gamma, alpha, bias, same_phrase).double()
    assert loss(regions, phrases, SCALE, LABELS).item() == pytest.approx(total / 5, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("same_phrase", [True, False])
def test_the_softmax_region_loss_is_the_focal_loss_of_both_directions(same_phrase: bool, gamma: float) -> None:
    regions, phrases = unit(5, 0), unit(5, 1)
    total = 0.0
    for a in range(5):
        positive = [a == b or (same_phrase and bool(LABELS[a] == LABELS[b])) for b in range(5)]
        for cosines in ([regions[a] @ phrases[b] for b in range(5)], [regions[b] @ phrases[a] for b in range(5)]):
            each = [math.exp(SCALE * cosine) for cosine in cosines]
            p = sum(one for one, fits in zip(each, positive) if fits) / sum(each)
            total -= (1 - p) ** gamma * math.log(p)
    loss = RegionPhraseLoss("softmax", gamma, same_phrase=same_phrase)
    assert loss(regions, phrases, SCALE, LABELS).item() == pytest.approx(total / 10, rel=1e-12)


def test_without_the_focal_exponent_different_phrases_are_the_global_loss() -> None:
    regions, phrases = unit(5, 0), unit(5, 1)
    focal = RegionPhraseLoss("softmax", gamma=0)(regions, phrases, SCALE, torch.arange(5))
    assert torch.isclose(focal, GlobalContrastiveLoss()(regions, phrases, SCALE), rtol=1e-12)


@pytest.mark.parametrize("comparison", ["softmax", "sigmoid"])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_the_region_loss_has_the_gradient_of_its_differences(comparison: str, gamma: float) -> None:
    loss = RegionPhraseLoss(comparison, gamma, bias=-1.0).double()  # type: ignore[arg-type]  # one of two names
    given = [one.requires_grad_() for one in (unit(5, 0), unit(5, 1), SCALE.clone())]
    assert torch.autograd.gradcheck(lambda r, p, s: loss(r, p, s, LABELS), given)


def test_the_other_losses_have_the_gradient_of_their_differences() -> None:
    given = [one.requires_grad_() for one in (unit(5, 0), unit(5, 1), SCALE.clone())]
    assert torch.autograd.gradcheck(GlobalContrastiveLoss(), given)
    assert torch.autograd.gradcheck(CLIPSelfLoss(), given[:2])


def test_the_rival_is_one_minus_the_mean_cosine() -> None:
    boxes, crops = unit(4, 0), unit(4, 1)
    expected = sum(1 - float(boxes[a] @ crops[a]) for a in range(4)) / 4
    assert CLIPSelfLoss()(boxes, crops).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("comparison", ["softmax", "sigmoid"])
def test_no_region_costs_nothing_and_keeps_the_graph(comparison: str) -> None:
    none = unit(2, 0)[:0].requires_grad_()
    loss = RegionPhraseLoss(comparison).double()(none, none, SCALE, LABELS[:0])  # type: ignore[arg-type]
    assert loss.item() == 0 and torch.autograd.grad(loss, none)[0].shape == (0, 6)
    assert CLIPSelfLoss()(none, none).item() == 0


@pytest.mark.parametrize("comparison", ["softmax", "sigmoid"])
def test_what_is_right_already_has_a_gradient_that_is_a_number(comparison: str) -> None:
    same = torch.eye(3).requires_grad_()
    loss = RegionPhraseLoss(comparison, gamma=1.0)(same, same, torch.tensor(1e4), torch.arange(3))  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, same)
    assert loss.item() < 1e-4 and torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"comparison": "cosine"}, "comparison: expected one of"),
        ({"gamma": 0.5}, "gamma: expected 0 or at least 1"),
        ({"gamma": -1}, "gamma: expected at least 0"),
        ({"alpha": 1.0}, "alpha: expected above 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RegionPhraseLoss(**settings)  # type: ignore[arg-type]


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="text: expected features"):
        GlobalContrastiveLoss()(unit(2, 0), unit(3, 0), SCALE)
    with pytest.raises(ValueError, match="phrases, labels: expected"):
        RegionPhraseLoss()(unit(2, 0), unit(2, 0), SCALE, LABELS)
    with pytest.raises(ValueError, match="crops: expected"):
        CLIPSelfLoss()(unit(2, 0), unit(3, 0))
