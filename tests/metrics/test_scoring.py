"""A model that answers NaN is neither right nor wrong: it is refused, wherever a score is compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from captum_gradeclip.metrics import (
    ROAD,
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    TargetedDeletion,
    TargetedInsertion,
    margin,
    paired_t_test,
    recall,
    reverse_recall,
    target_score,
    top_k,
    word_steps,
)

NAN = float("nan")
OWN = torch.tensor([0])
FUNCTIONS: dict[str, Callable[[], Any]] = {
    "score": lambda: target_score(OWN),
    "top 1": lambda: top_k(OWN),
    "top 5": lambda: top_k(OWN, 5),
    "recall": lambda: recall(torch.tensor([[True, False, True]])),
    "margin": lambda: margin(OWN, torch.tensor([[False, True, False]])),
    "reverse recall": lambda: reverse_recall(torch.zeros(4, 3), OWN, OWN),
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_score_function_takes_nan(name: str, place: int) -> None:
    output = torch.tensor([[0.3, 0.2, 0.1]])
    assert FUNCTIONS[name]()(output, OWN).isfinite().all()
    output[0, place] = NAN  # also in another column: it may be the best one
    with pytest.raises(ValueError, match=r"forward_func: expected numbers, got NaN in 1 of 3 scores"):
        FUNCTIONS[name]()(output, OWN)
    output[0, place] = -float("inf")  # a class that is out of the question has its place in the order
    assert FUNCTIONS[name]()(output, OWN).isnan().logical_not().all()
    with pytest.raises(ValueError, match="gallery: expected numbers"):
        reverse_recall(torch.full((4, 3), NAN), OWN, OWN)


def sometimes(x: Tensor) -> Tensor:
    """NaN as soon as half of the picture has changed."""
    output = x.mean(dim=(2, 3))
    return torch.where(output < 0.5, NAN, output)


@pytest.mark.parametrize("performance", ["score", 1, 5, lambda targets: lambda output, example: output[:, 1] > 0])
@pytest.mark.parametrize(
    "kind",
    [
        Deletion,
        Insertion,
        InsertionMinusDeletion,
        lambda *given: ROAD(*given, order="most"),
        lambda *given: ROAD(*given, order="least"),
    ],
)
@pytest.mark.parametrize("model", [lambda x: x.mean(dim=(2, 3)) * NAN, sometimes])
def test_no_metric_takes_nan(kind: Callable[..., Metric], performance: Any, model: Callable[[Tensor], Tensor]) -> None:
    images = torch.full((2, 3, 16, 16), 0.4) if model is sometimes else torch.rand(2, 3, 16, 16)
    metric = kind(model, performance)
    with pytest.raises(ValueError, match="forward_func: expected numbers, got NaN"):
        metric.update(images, torch.rand(2, 4, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", [TargetedDeletion, TargetedInsertion])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_no_margin_is_taken_of_what_is_no_number(kind: Callable[..., Metric], value: float) -> None:
    metric = kind(lambda x: x.mean(dim=(2, 3)) + value)
    with pytest.raises(ValueError, match=r"forward_func: expected numbers, got NaN|performance: expected finite values"):
        metric.update(torch.rand(1, 3, 16, 16), torch.rand(1, 4, 4), OWN, torch.tensor([[False, True, True]]))


@pytest.mark.parametrize("kind", [Deletion, Insertion, InsertionMinusDeletion, ROAD])
def test_a_score_function_of_the_user_is_checked(kind: Callable[..., Metric]) -> None:
    metric = kind(lambda x: x.mean(dim=(2, 3)), lambda targets: lambda output, example: output[:, 0] / 0)
    with pytest.raises(ValueError, match="performance: expected finite values"):
        metric.update(torch.rand(2, 3, 16, 16), torch.rand(2, 4, 4), torch.tensor([0, 1]))


def test_nothing_that_is_not_a_number_has_a_place_in_an_order() -> None:
    with pytest.raises(ValueError, match="weights: expected a finite number, got nan"):
        list(word_steps(["a", "red"], [0.0, NAN], "deletion"))
    with pytest.raises(ValueError, match="better: expected finite values"):
        paired_t_test([0.0, NAN], [0.0, 1.0])
