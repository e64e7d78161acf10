"""The paper's rivals: each against its equations written out in loops, and all of them on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.adapters import Family
from captum_gradeclip.adapters.base import resize_positions
from captum_gradeclip.attention import Interception, Record, model_heads
from captum_gradeclip.attr import GAME, METHODS, RISE, AttentionRollout, GradECLIP, MaskCLIP, RawAttention, TokenGradCam
from captum_gradeclip.attr.attention_rollout import rollout
from captum_gradeclip.attr.game import relevance
from captum_gradeclip.attr.rise import random_masks

from . import reference
from .conftest import FAMILIES, captions, images, relative, scores, stir, varies
from .test_state import fingerprint


@pytest.fixture(scope="module")
def double() -> nn.Module:
    torch.manual_seed(0)
    return stir(FAMILIES["open_clip ViT"].build()).double()


def both(model: nn.Module) -> list[tuple[Any, Tensor, int]]:
    """A score of images and one of texts with inputs, and the first content token of each."""
    x = images((40, 24)).double()
    return [(ImageTextScore(model, captions()), x, 1), (TextImageScore(model, x), captions(), 0)]


def run(score: Any, inputs: Tensor, layers: list[nn.Module]) -> tuple[list[Record], list[Tensor]]:
    """Records of the model's own heads, and the gradient of target 1 at each layer's output."""
    with Interception(layers, model_heads) as seen, torch.no_grad():
        output = score(inputs)
    records = seen.records()
    with torch.enable_grad():
        total = output[:, 1].sum()
    return records, list(torch.autograd.grad(total, [record.output for record in records]))


def weights(record: Record, item: int, head: int, row: int) -> list[Tensor]:
    """One row of softmax(q k^T / sqrt d + mask), term by term."""
    q, k = record.query[item, head, row], record.key[item, head]
    logits = [q @ k[i] / len(q) ** 0.5 for i in range(len(k))]
    if record.mask is not None:
        mask = record.mask.expand(len(record.query), record.heads, record.query.shape[2], len(k))
        logits = [logit + mask[item, head, row, i] for i, logit in enumerate(logits)]
    terms = [torch.exp(logit - max(logits)) for logit in logits]
    return [term / sum(terms) for term in terms]


def matrix(record: Record, item: int) -> Tensor:
    """Mean over the heads of the attention of one example."""
    total = torch.zeros(record.query.shape[2], record.key.shape[2], dtype=torch.float64)
    for head in range(record.heads):
        for row in range(len(total)):
            total[row] += torch.stack(weights(record, item, head, row)) / record.heads
    return total


def test_raw_attention_and_rollout(double: nn.Module) -> None:
    for score, inputs, first in both(double):
        rows = score.readout(inputs).tolist()
        raw = RawAttention(score, score.layers[-1]).attribute(inputs)
        flow = AttentionRollout(score, score.layers[-3:]).attribute(inputs)
        records, _ = run(score, inputs, score.layers[-3:])
        for item, row in enumerate(rows):
            attention = [matrix(record, item) for record in records]
            assert relative(raw[item].flatten(), attention[-1][row, first:]) < 1e-5
            joint = torch.eye(len(attention[0]), dtype=torch.float64)
            for one in attention:
                mixed = one + torch.eye(len(one), dtype=torch.float64)
                joint = torch.stack([line / line.sum() for line in mixed]) @ joint
            assert relative(flow[item].flatten(), joint[row, first:]) < 1e-5
        assert varies(raw) and varies(flow)
        single = RawAttention(score, score.layers[-1]).attribute(inputs, heads="single")
        assert relative(single, raw) > 1e-2


def test_rollout_of_uniform_attention_is_uniform() -> None:
    uniform = torch.full((1, 5, 5), 0.2)
    result = rollout([uniform] * 4)
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.allclose(result.sum(dim=-1), torch.ones(1, 5))
    assert torch.allclose(result[0][off], result[0][off].mean().expand(20))
    assert torch.allclose(rollout([torch.eye(5)[None]] * 3), torch.eye(5)[None])


@pytest.mark.parametrize("count", [1, 3])
def test_game(double: nn.Module, count: int) -> None:
    """The gradient at an attention weight is w . v of its head."""
    for score, inputs, first in both(double):
        layers = score.layers[-count:]
        got = GAME(score, layers).attribute(inputs, target=1)
        many = GAME(score, layers).attribute_targets(inputs, [0, 1])
        records, gradients = run(score, inputs, layers)
        for item, read in enumerate(score.readout(inputs).tolist()):
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


def test_game_without_gradient_is_the_identity() -> None:
    attention = torch.rand(1, 2, 4, 4)
    assert torch.equal(relevance([attention] * 3, [torch.zeros_like(attention)] * 3), torch.eye(4)[None])


@pytest.mark.parametrize("name", ["open_clip ViT", "open_clip ResNet"])
def test_grad_cam(name: str) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build()).double()
    x = images(FAMILIES[name].oblong).double()
    score = ImageTextScore(model, captions())
    got = TokenGradCam(score, score.layers[-1]).attribute(x, target=1, relu_attributions=False)
    many = TokenGradCam(score, score.layers[-1]).attribute_targets(x, [0, 1], relu_attributions=False)
    patches = TokenGradCam(score, score.layers[-1]).attribute(x, target=1, relu_attributions=False, average="patches")
    for item in range(len(x)):
        kept: list[Tensor] = []
        handle = score.layers[-1].register_forward_pre_hook(lambda module, args: kept.append(args[0]))  # noqa: B023
        output = score(x[item : item + 1])
        handle.remove()
        (gradient,) = torch.autograd.grad(output[0, 1], kept[0])
        feature = kept[0][0]
        if feature.dim() == 3:
            feature, gradient = feature.flatten(1).T, gradient.flatten(2).mT
        gradient = gradient[0]
        first = len(feature) - got.shape[-1] * got.shape[-2]
        for result, begin in ((got[item], 0), (many[item, 1], 0), (patches[item], first)):
            alpha = [sum(gradient[j, c] for j in range(begin, len(feature))) for c in range(feature.shape[1])]
            alpha = [one / (len(feature) - begin) for one in alpha]
            expected = [sum(a * f for a, f in zip(alpha, feature[i])) for i in range(first, len(feature))]
            assert relative(result.flatten(), torch.stack(expected)) < 1e-5
    assert varies(got)
    single = TokenGradCam(score, score.layers[-1]).attribute(x, target=1, relu_attributions=False, heads="single")
    assert relative(single, got) > 1e-3


def test_mask_clip(double: nn.Module) -> None:
    """Each patch through the last block with its own value, the final norm and the projection."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    got = MaskCLIP(score, score.layers[-1]).attribute(x, target=[1, 2])
    many = MaskCLIP(score, score.layers[-1]).attribute_targets(x, [2, 1])
    visual: Any = double.visual
    for item, target in enumerate((1, 2)):
        kept: list[Tensor] = []
        handle = score.layers[-1].register_forward_pre_hook(lambda module, args: kept.append(args[0][0]))  # noqa: B023
        with torch.no_grad():
            score(x[item : item + 1])
        handle.remove()
        block = visual.transformer.resblocks[-1]
        for i in range(1, len(kept[0])):
            u = block.ln_1(kept[0][i])
            v = (u @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3)[2]
            y = kept[0][i] + v @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
            z = y + block.mlp(block.ln_2(y))
            expected = reference.cosine(visual.ln_post(z) @ visual.proj, score.text_features[target]).detach()
            assert abs(float(got[item].flatten()[i - 1] - expected)) < 1e-6
        assert relative(many[item, 2 - target], got[item, 0]) < 1e-6
    assert varies(got)


def test_mask_clip_of_a_resnet() -> None:
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["open_clip ResNet"].build()).double()
    x = images((96, 128)).double()
    score = ImageTextScore(model, captions())
    got = MaskCLIP(score, score.layers[-1]).attribute(x, target=1)
    pool = model.visual.attnpool
    for item in range(len(x)):
        kept: list[Tensor] = []
        handle = pool.register_forward_pre_hook(lambda module, args: kept.append(args[0][0]))  # noqa: B023
        with torch.no_grad():
            score(x[item : item + 1])
        handle.remove()
        tokens = kept[0].flatten(1).T
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        table = resize_positions(pool.positional_embedding, (side, side), kept[0].shape[-2:])
        for i in range(len(tokens)):
            feature = pool.c_proj(pool.v_proj(tokens[i] + table[1 + i]))
            expected = reference.cosine(feature, score.text_features[1]).detach()
            assert abs(float(got[item].flatten()[i] - expected)) < 1e-6
    assert varies(got)


def test_every_method_on_every_family(model: nn.Module, family: Family) -> None:
    """Runs, or refuses with the reason; nothing is left behind."""
    for score, inputs, _ in scores(model, family, family.oblong or family.size):
        image = inputs.is_floating_point()
        before = fingerprint(model)
        for kind in METHODS:
            if kind is RISE:
                continue  # looks at no layer, and so at no family: it has tests of its own below
            method = kind(score, kind.default_layers(score))
            lone_pool = len(score.layers) == 1
            refused = not (kind.about.image if image else kind.about.text) or (lone_pool and not kind.about.resnet)
            if kind is MaskCLIP and image and not (score.alone or score.pooled):
                refused = True
            if refused:
                with pytest.raises(ValueError, match=r"defined for|attention pool|reads several tokens"):
                    method.attribute(inputs, target=1)
            else:
                maps = method.attribute(inputs, target=1)
                assert maps.shape == ((len(inputs), 1, *score.grid(inputs)) if image else inputs.shape)
                assert maps.dtype == torch.float32 and maps.isfinite().all() and maps.is_contiguous()
                assert maps.std() > 0 or kind is GradECLIP
                singles = torch.cat([method.attribute(inputs[i : i + 1], target=1) for i in range(len(inputs))])
                assert relative(maps, singles) < 1e-3
                if kind.about.needs_text:
                    many = method.attribute_targets(inputs, [2, 1])
                    assert relative(many[:, 1], maps[:, 0] if image else maps) < 1e-4
                    assert not torch.equal(many[:, 0], many[:, 1]) or maps.max() == 0
            assert fingerprint(model) == before


def test_what_methods_say_of_themselves() -> None:
    names = [kind.__new__(kind).get_name() for kind in METHODS]
    assert len(set(names)) == len(METHODS) and all(kind.about.paper for kind in METHODS)
    assert all(kind.attribute.__wrapped__ is not None for kind in METHODS)


def test_rise(double: nn.Module) -> None:
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    options = {"n_masks": 7, "cells": 3, "seed": 5}
    got = RISE(score).attribute(x, target=[1, 2], masks_per_eval=3, **options)
    generator = torch.Generator().manual_seed(5)
    for item, target in enumerate((1, 2)):
        generator.manual_seed(5)
        expected = torch.zeros(40, 24, dtype=torch.float64)
        with torch.no_grad():
            for _ in range(7):
                mask = random_masks(1, (40, 24), 3, 0.5, generator)[0, 0].double()
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
    early = RISE(score).attribute(x, target=1, n_masks=400, masks_per_eval=20, tolerance=10.0)
    assert relative(early, RISE(score).attribute(x, target=1, n_masks=40)) < 1e-5
    for options, message in (({"n_masks": 0}, "n_masks"), ({"probability": 0.0}, "probability"), ({"cells": 0}, "cells")):
        with pytest.raises(ValueError, match=message):
            RISE(score).attribute(x, target=1, **options)
    text = TextImageScore(double, x)
    with pytest.raises(ValueError, match="RISE is defined for images, not for texts"):
        RISE(text).attribute(captions(), target=0)
