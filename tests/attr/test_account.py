"""The account of a score: its parts add up, on every family."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore
from captum_gradeclip.adapters import Family
from captum_gradeclip.attention import Interception, model_heads
from captum_gradeclip.attr import account

from .. import reference
from ..conftest import captions, images, relative, scores, sizes, varies


def test_the_parts_of_every_family_add_up(model: nn.Module, family: Family) -> None:
    """All tokens carry gradient times output; with the residual path, the score of the unmodified model is complete."""
    for score, inputs, _ in scores(model, family, sizes(family)[-1], count=2):
        layer = score.layers[-1]
        found = account(score, inputs, [1, 0], layer)
        image = inputs.is_floating_point()
        with torch.no_grad():
            own = score(inputs)[:, [1, 0]]
        assert relative(found.scores, own) < 1e-5
        dims = (2, 3) if image else (2,)
        carried = found.maps.double().sum(dims) + found.others.double().sum(2)
        assert torch.allclose(carried + found.residual, found.scores.double(), atol=1e-5 * float(found.maps.abs().sum()))
        with Interception([layer], model_heads) as seen, torch.no_grad():
            output = score(inputs)
        (record,) = seen.records()
        cells = math.prod(score.grid(inputs)) if image else inputs.shape[1]
        if image:
            assert found.others.shape == (2, 2, record.key.shape[-2] - cells)
        for place, target in enumerate((1, 0)):
            with torch.enable_grad():
                total = output[:, target].sum()
            (gradient,) = torch.autograd.grad(total, record.output, retain_graph=True)
            whole = (gradient.double() * record.output.double()).flatten(1).sum(1)
            size = float(found.maps.abs().sum() + found.others.abs().sum())
            assert torch.allclose(carried[:, place], whole, atol=1e-5 * size)
        share = GradECLIP(score, layer).outcome(inputs, [1, 0], carried=True, heads="model").carried
        assert share is not None
        expected = found.maps.double().sum(dims) / carried
        certain = carried.abs() > 1e-2 * found.maps.abs().flatten(2).sum(2)
        assert torch.allclose(share.double()[certain], expected[certain], rtol=1e-2)


def test_the_account_written_out(double: nn.Module) -> None:
    """Head by head and token by token, for the last layer of an image and the last three of a text."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    found = account(score, x)
    signed = {"heads": "model", "spatial_weight": "softmax", "relu_attributions": False}
    assert relative(found.maps, GradECLIP.for_score(score).attribute_targets(x, **signed)) < 1e-6
    assert varies(found.maps[:, 0]) and found.others.shape == (2, 3, 1)
    words = TextImageScore(double, x)
    told = account(words, captions(), layers=words.layers[-3:])
    assert told.others.shape == (3, 2, 0)
    for inputs, one, run, other, count in (
        (x, found, lambda item: reference.image_pass(double.visual, item, 1, single=False), score.text_features, 1),
        (captions(), told, lambda item: reference.text_pass(double, item, 3, single=False), words.image_features, 3),
    ):
        for number, item in enumerate(inputs):
            features, layers, row = run(item)
            said = reference.cosine(features, other[1].detach())
            gradients = torch.autograd.grad(said, [layer.o for layer in layers])
            parts = torch.zeros(len(layers[0].k), dtype=torch.float64)
            for layer, gradient in zip(layers, gradients):
                heads = len(layer.attention)
                width = layer.v.shape[1] // heads
                for h in range(heads):
                    channels = slice(h * width, (h + 1) * width)
                    for i in range(len(parts)):
                        parts[i] += (layer.attention[h, row, i] * (gradient[row, channels] @ layer.v[i, channels])).detach()
            assert len(layers) == count
            got = torch.cat([one.others[number, 1], one.maps[number, 1].flatten()])
            assert relative(got, parts) < 1e-5
            assert float(one.residual[number, 1]) == pytest.approx(float(said.detach() - parts.sum()), abs=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_heads_apart_written_out(double: nn.Module, count: int) -> None:
    """The contributions of each head of each layer; added up, they are those of the account without heads."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    layers = score.layers[-count:]
    apart, found = account(score, x, [2, 0], layers, by_head=True), account(score, x, [2, 0], layers)
    assert apart.maps.shape[:4] == apart.others.shape[:4] == (len(x), 2, count, 4)
    assert relative(apart.maps.sum((2, 3)), found.maps) < 1e-6 and relative(apart.others.sum((2, 3)), found.others) < 1e-6
    assert torch.allclose(apart.residual, found.residual, atol=1e-7) and torch.equal(apart.scores, found.scores)
    features, passed, row = reference.image_pass(double.visual, x[1], count, single=False)
    said = reference.cosine(features, score.text_features[0].detach())
    for number, (layer, gradient) in enumerate(zip(passed, torch.autograd.grad(said, [one.o for one in passed]))):
        width = layer.v.shape[1] // 4
        for head in range(4):
            channels = slice(head * width, (head + 1) * width)
            weighed = layer.attention[head, row][:, None] * layer.v[:, channels]
            expected = (weighed @ gradient[row, channels]).detach()
            got = torch.cat([apart.others[1, 1, number, head], apart.maps[1, 1, number, head].flatten()])
            assert relative(got, expected) < 1e-5 and varies(apart.maps[1, 1, number, head][None])


def test_words_have_heads_too(double: nn.Module) -> None:
    words = TextImageScore(double, images((32, 32)).double())
    apart = account(words, captions(), [1], by_head=True)
    assert apart.maps.shape == (3, 1, len(words.layers[-8:]), *apart.maps.shape[3:4], captions().shape[1])
    assert relative(apart.maps.sum((2, 3)), account(words, captions(), [1]).maps) < 1e-6


def test_many_targets_and_wrong_ones(vit: nn.Module) -> None:
    score, x = ImageTextScore(vit, torch.randn(60, 24)), images((32, 32))  # more targets than features
    found = account(score, x)
    assert found.maps.shape == (2, 60, 4, 4) and not found.maps.requires_grad
    assert relative(account(score, x, [7, 41]).maps, found.maps[:, [7, 41]]) < 1e-5
    with pytest.raises(AssertionError, match="targets: expected indices below 60"):
        account(score, x, [60])
