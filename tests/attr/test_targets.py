"""Captum's kinds of target, and what is refused as one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.attr import (
    AttentionRollout,
    RawAttention,
)
from captum_gradeclip.scores import Targets

from ..conftest import captions, images


def test_every_kind_of_target(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    method = GradECLIP(score, score.layers[-1])
    expected = method.attribute(x, target=1)
    for target in (torch.tensor(1), torch.tensor([1]), [1, 1], torch.tensor([1, 1]), (1,), [(1,), (1,)], -2):
        assert torch.allclose(method.attribute(x, target=target), expected, rtol=1e-5, atol=1e-8)
    deep = GradECLIP(lambda images: score(images)[:, None], score.layers[-1])
    assert torch.allclose(deep.attribute(x, target=(0, 1)), expected, rtol=1e-5, atol=1e-8)
    assert torch.allclose(deep.attribute(x, target=[(0, 1), (0, 1)]), expected, rtol=1e-5, atol=1e-8)
    alone = GradECLIP(lambda images: score(images)[:, 1], score.layers[-1])
    assert torch.allclose(alone.attribute(x), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("target", [None, 3, -4, [0], torch.tensor([0, 1, 2]), (0, 1), [0, 7]])
def test_a_wrong_target_is_an_assertion_error(vit: nn.Module, target: object) -> None:
    score = ImageTextScore(vit, captions())
    with pytest.raises(AssertionError):
        GradECLIP(score, score.layers[-1]).attribute(images((32, 32)), target=target)


@pytest.mark.parametrize("targets", [[], [3], [-4], [0.5], 1])
def test_wrong_targets_are_an_assertion_error(vit: nn.Module, targets: object) -> None:
    score = ImageTextScore(vit, captions())
    with pytest.raises(AssertionError, match="targets: expected"):
        GradECLIP(score, score.layers[-1]).attribute_targets(images((32, 32)), targets)


def test_methods_that_ignore_the_target_check_it_all_the_same(vit: nn.Module) -> None:
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    for method in (RawAttention.for_score(score), AttentionRollout.for_score(score)):
        for target in (99, [0, 1, 2], [0, 9]):
            with pytest.raises(AssertionError):
                method.attribute(x, target=target)
        for targets in ([99], torch.tensor(1), [], ["a"], 1.5):
            with pytest.raises(AssertionError, match="targets: expected"):
                method.attribute_targets(x, targets)
        assert torch.equal(method.attribute_targets(x, [-1, 0])[:, :1], method.attribute(x))
    single = RawAttention.for_score(score).attribute_targets(x, [0, 1], heads="single")
    assert torch.equal(single[:, 1:], RawAttention.for_score(score).attribute(x, heads="single"))


def test_negative_indices_are_read_as_captum_reads_them() -> None:
    output = torch.arange(24.0).view(2, 4, 3)
    got = Targets.parse([(0, 0), (-1, -1)], output).pick(output)
    assert got.tolist() == [[0.0, 23.0]] and Targets.parse((-1, 0), output).pick(output).tolist() == [[9.0, 21.0]]
    assert Targets.parse(-1, output[:, 0]).pick(output[:, 0]).tolist() == [[2.0, 14.0]]
    with pytest.raises(AssertionError, match="target: expected indices into an output"):
        Targets.parse([0, -1], output[:, 0])
    with pytest.raises(AssertionError, match="T at least 1"):
        Targets.columns(None, output[:, 0, :0])


@pytest.mark.parametrize("form", [list, torch.tensor])
def test_each_example_may_have_targets_of_its_own(vit: nn.Module, form: Callable[[object], object]) -> None:
    """In one pass, and with the scores that belong to them."""
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    method, rows = GradECLIP(score, score.layers[-1]), [[2, 0, 0], [1, -1, 1]]
    found = method.outcome(x, form(rows))
    assert found.maps is not None and found.explained_scores is not None
    every = method.outcome(x)
    assert every.maps is not None and every.explained_scores is not None
    for item, row in enumerate(rows):
        assert torch.allclose(found.maps[item], every.maps[item, row], atol=1e-6)
        assert torch.allclose(found.explained_scores[item], every.explained_scores[item, row])
