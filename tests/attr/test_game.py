"""GAME against its equations, one head and one query at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore
from captum_gradeclip.attr import (
    GAME,
)
from captum_gradeclip.attr.game import relevance

from ..conftest import captions, images, relative, varies
from ..reference.records import both, run, weights


@pytest.mark.parametrize("count", [1, 3])
def test_game(double: nn.Module, count: int) -> None:
    """The gradient at an attention weight is w . v of its head."""
    for score, inputs, first in both(double):
        layers = score.layers[-count:]
        got = GAME(score, layers).attribute(inputs, target=1)
        many = GAME(score, layers).attribute_targets(inputs, [0, 1])
        records, gradients = run(score, inputs, layers)
        for item, read in enumerate(score.readout.rows(inputs).tolist()):
            length = records[0].key.shape[2]
            joint = torch.eye(length, dtype=torch.float64)
            for record, gradient in zip(records, gradients):
                width = record.query.shape[-1]
                change = torch.zeros(length, length, dtype=torch.float64)
                for head in range(record.heads):
                    for row in range(length):
                        w = gradient[item, row, head * width : (head + 1) * width]
                        a = weights(record, item, head, row)
                        terms = [a[i] * (w @ record.value[item, head, i]) for i in range(length)]
                        change[row] += torch.stack([term.clamp(min=0) for term in terms]) / record.heads
                joint = joint + change @ joint
            assert relative(got[item].flatten(), joint[read, first:]) < 1e-5
            assert relative(many[item, 1].flatten(), joint[read, first:]) < 1e-5
        assert varies(got) and many.shape[:2] == (len(inputs), 2)


def test_game_of_a_scaled_score(double: nn.Module) -> None:
    score, x = ImageTextScore(double, captions()), images((32, 32)).double()
    whole, last = GAME(score, score.layers), GAME(score, score.layers[-1])
    assert relative(last.attribute(x, target=1, scale=100.0) / 100, last.attribute(x, target=1)) < 1e-6
    logits = GAME(lambda images: 100 * score(images), score.layers).attribute(x, target=1)
    assert relative(whole.attribute(x, target=1, scale=100.0), logits) < 1e-5
    assert relative(whole.attribute_targets(x, [1], scale=100.0), logits) < 1e-5
    assert relative(whole.attribute(x, target=1), logits / 100) > 1e-3
    with pytest.raises(ValueError, match="scale: expected above 0"):
        whole.attribute(x, target=1, scale=0.0)


def test_game_without_gradient_is_the_identity() -> None:
    attention = torch.rand(1, 2, 4, 4)
    assert torch.equal(relevance([attention] * 3, [torch.zeros_like(attention)] * 3), torch.eye(4)[None])
