"""Pairs as metrics: each by a loop over its examples, and by what no product of two maps can win."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_gradeclip.metrics import PairDeletion, PairInsertion, PairPointing, Schedule, pointing_game
from captum_gradeclip.metrics.pairs import maps_of_words

HALF = Schedule(points=2, share=0.5)


def outputs(x: Tensor) -> Tensor:
    """Column 0: the product of two halves and the sum of a third; column 1, without the word: the sum alone."""
    alone = x[:, 1].mean(dim=(1, 2))
    return torch.stack([x[:, 0, :2].mean(dim=(1, 2)) * 2 + alone, alone, torch.zeros_like(alone)], dim=1)


def test_pair_pointing_by_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors, words = torch.randn(5, 3, 4, 4, generator=generator), torch.tensor([0, 2, 1, 1, 0])
    masks = torch.rand(5, 8, 8, generator=generator) > 0.5
    hits = [bool(pointing_game(tensors[n, int(words[n])][None], masks[n : n + 1])) for n in range(5)]
    metric = PairPointing()
    metric.update(tensors[:2], words[:2], masks[:2])
    metric.update(tensors[2:], words[2:], masks[2:])
    assert float(metric.compute()) == pytest.approx(sum(hits) / 5) and 0 < sum(hits) < 5


@pytest.mark.parametrize("kind", [PairDeletion, PairInsertion])
def test_the_second_difference_by_a_loop(kind: type[PairDeletion] | type[PairInsertion]) -> None:
    x = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    tensors, words = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 1, 0])
    metric = kind(outputs, schedule=HALF)
    metric.update(x, tensors, words, torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.long))
    values = []
    for n in range(3):
        order = tensors[n, int(words[n])].flatten().argsort(descending=True)
        own = x[n].mean(dim=(1, 2), keepdim=True).expand(3, 4, 4)
        start, fill = (x[n], own) if kind is PairDeletion else (own, x[n])
        steps = []
        for count in (0, 4, 8):
            changed = start.flatten(1).clone()
            changed[:, order[:count]] = fill.flatten(1)[:, order[:count]]
            out = outputs(changed.view(1, 3, 4, 4))[0]
            steps.append(float(out[0] - out[1]))
        values.append((steps[1] + steps[2]) / 2 - steps[0])
    sign = -1 if kind is PairDeletion else 1
    assert float(metric.compute()) == pytest.approx(sign * sum(values) / 3, abs=1e-5)


def test_a_region_that_matters_without_the_word_as_much_is_no_pair() -> None:
    x = torch.zeros(1, 3, 4, 4)
    x[:, 0, :2], x[:, 1, 2:] = 1.0, 1.0
    pair, alone = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    pair[:, :, :2], alone[:, :, 2:] = 1.0, 1.0
    found = []
    for tensors in (pair, alone):
        metric = PairDeletion(outputs, schedule=HALF)
        metric.update(x, tensors, torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
        found.append(float(metric.compute()))
    assert found[0] > 0.3 and found[1] <= 0


def test_what_does_not_fit_is_refused() -> None:
    tensors = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match="words.*0 to 2"):
        maps_of_words(tensors, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="words"):
        maps_of_words(tensors, torch.tensor([0]))
    with pytest.raises(ValueError, match="without"):
        PairDeletion(outputs).update(
            torch.zeros(2, 3, 4, 4), tensors, torch.tensor([0, 0]), torch.tensor([0, 0]), torch.tensor([1])
        )
