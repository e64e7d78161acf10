"""The paper's rivals: each against its equations written out in loops, and all of them on every family."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ClassScore, ImageTextScore, TextImageScore, adapters
from captum_gradeclip.adapters import Family
from captum_gradeclip.adapters.base import CONTEXT, END, START, VOCABULARY, resize_positions
from captum_gradeclip.attention import Interception, Record, kept_attention, model_heads
from captum_gradeclip.attr import (
    GAME,
    M2IB,
    METHODS,
    RISE,
    AttentionRollout,
    CLIPSurgery,
    GradECLIP,
    LeGrad,
    MaskCLIP,
    RawAttention,
    TokenGradCam,
    compare,
    feature_surgery,
    word_relevance,
    wrapper_features,
)
from captum_gradeclip.attr.attention_rollout import rollout
from captum_gradeclip.attr.base import NotDefinedError
from captum_gradeclip.attr.game import relevance
from captum_gradeclip.attr.m2ib import information
from captum_gradeclip.attr.rise import _passes
from captum_gradeclip.scores import empty_text

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


def test_game_of_a_scaled_score(double: nn.Module) -> None:
    score, x = ImageTextScore(double, captions()), images((32, 32)).double()
    whole, last = GAME(score, score.layers), GAME(score, score.layers[-1])
    assert relative(last.attribute(x, target=1, scale=100.0) / 100, last.attribute(x, target=1)) < 1e-6
    logits = GAME(lambda images: 100 * score(images), score.layers).attribute(x, target=1)
    assert relative(whole.attribute(x, target=1, scale=100.0), logits) < 1e-5
    assert relative(whole.attribute_targets(x, [1], scale=100.0), logits) < 1e-5
    assert relative(whole.attribute(x, target=1), logits / 100) > 1e-3
    with pytest.raises(ValueError, match="scale: expected a positive number"):
        whole.attribute(x, target=1, scale=0.0)


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
            method = kind.of(score)
            options: dict[str, Any] = {"n_masks": 4} if kind is RISE else {}
            reason = refusal(kind, score, image)
            if reason:
                with pytest.raises(NotDefinedError, match=reason):
                    method.attribute(inputs, target=1)
            else:
                maps = method.attribute(inputs, target=1, **options)
                size = inputs.shape[-2:] if kind is RISE else score.grid(inputs) if image else ()
                assert maps.shape == ((len(inputs), 1, *size) if image else inputs.shape)
                assert maps.dtype == torch.float32 and maps.isfinite().all() and maps.is_contiguous()
                assert maps.std() > 0 or kind is GradECLIP
                singles = [method.attribute(inputs[i : i + 1], target=1, **options) for i in range(len(inputs))]
                assert relative(maps, torch.cat(singles)) < 1e-3
                many = method.attribute_targets(inputs, [2, 1], **options)
                assert relative(many[:, 1], maps[:, 0] if image else maps) < 1e-4
                assert torch.equal(many[:, 0], many[:, 1]) != kind.about.needs_text or maps.max() == 0
            assert fingerprint(model) == before


def refusal(kind: Any, score: Any, image: bool) -> str | None:
    """Why a method does not explain a score, or None if it does: table 2.10 of the methods, and what a tower must offer."""
    pool_only = len(score.layers) == 1
    if not (kind.about.image if image else kind.about.text):
        return "is defined for images, not for texts"
    if kind is RISE:
        return None
    if pool_only and not kind.about.resnet:
        return "follows attention from token to token"
    if kind is LeGrad and score.reads_pool:
        return None
    if kind in (MaskCLIP, CLIPSurgery, LeGrad) and not (score.reads_first_token or score.pooled):
        return "needs an ImageTextScore" if kind is CLIPSurgery and not hasattr(score, "text_features") else "reads several"
    if kind is CLIPSurgery:
        if not hasattr(score, "text_features"):
            return "needs an ImageTextScore"
        if adapters.text_tower(score.model).start is None:
            return "only known to its tokenizer"
    return None


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_every_method_whatever_the_caller_is_in(vit: nn.Module, context: Any) -> None:
    x, tokens = images((32, 32)), captions()
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        for kind in METHODS:
            if refusal(kind, score, inputs is x) and kind is not RISE:
                continue
            if kind is RISE and inputs is tokens:
                continue
            method = kind(score) if kind is RISE else kind(score, kind.default_layers(score))
            options = {"n_masks": 5} if kind is RISE else {}
            expected = method.attribute(inputs, target=1, **options), method.attribute_targets(inputs, **options)
            with context():
                got = method.attribute(inputs, target=1, **options), method.attribute_targets(inputs, **options)
            assert all(relative(a, b) < 1e-6 for a, b in zip(got, expected)), kind.about.name


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_every_method_under_autocast(vit: nn.Module, kind: Any) -> None:
    """The model runs in bfloat16, what is made of its features does not."""
    x, tokens = images((32, 32)), captions()
    options: dict[str, Any] = {"n_masks": 300} if kind is RISE else {}
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        if not (kind.about.image if inputs is x else kind.about.text):
            continue
        wide = kind.of(score).attribute(inputs, target=1, **options)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = kind.of(score).attribute(inputs, target=1, **options)
        assert narrow.dtype == torch.float32 and narrow.isfinite().all()
        both = torch.stack([wide.flatten(), narrow.flatten()])
        assert torch.corrcoef(both)[0, 1] > (0.9 if kind is M2IB else 0.99)
        if kind is RISE:
            assert relative(narrow, wide) < 0.02 and len(narrow.unique()) > 1000


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_as_many_examples_as_tokens(vit: nn.Module, kind: Any) -> None:
    """Then a tensor's shape does not tell which is which."""
    x = images((32, 32), 17)
    score = ImageTextScore(vit, captions())
    options: dict[str, Any] = {"n_masks": 2} if kind is RISE else {"copies": 1, "steps": 2} if kind is M2IB else {}
    if kind is MaskCLIP:
        options["key_weight"] = True
    maps = kind.of(score).attribute(x, target=1, **options)
    alone = kind.of(score).attribute(x[3:4], target=1, **options)
    assert relative(maps[3:4], alone) < 1e-3
    assert relative(maps[4:5], alone) > 1e-3 or kind is GradECLIP


def test_running_statistics_stay_what_they_are() -> None:
    """A model in training mode is refused before anything of it runs."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ResNet"].build())
    score, x = ImageTextScore(model, captions()), images((64, 64))
    methods = [kind.of(score) for kind in METHODS if kind.about.resnet]
    model.train()
    before = fingerprint(model)
    for run in (
        *(method.attribute for method in methods),
        *(method.attribute_targets for method in methods),
        *(lambda x, name=name: compare(score, x, [name]) for name in ("MaskCLIP", "Occlusion", "LayerGradCam")),
        lambda x: TextImageScore(model, x),
    ):
        with pytest.raises(ValueError, match="is in training mode"):
            run(x)
        assert fingerprint(model) == before


def test_methods_that_ignore_the_target_check_it_all_the_same(vit: nn.Module) -> None:
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    for method in (RawAttention.of(score), AttentionRollout.of(score)):
        for target in (99, [0, 1, 2], [0, 9]):
            with pytest.raises(AssertionError):
                method.attribute(x, target=target)
        for targets in ([99], torch.tensor(1), [], ["a"], 1.5):
            with pytest.raises(AssertionError, match="targets: expected"):
                method.attribute_targets(x, targets)
        assert torch.equal(method.attribute_targets(x, [-1, 0])[:, :1], method.attribute(x))
    single = RawAttention.of(score).attribute_targets(x, [0, 1], heads="single")
    assert torch.equal(single[:, 1:], RawAttention.of(score).attribute(x, heads="single"))


def test_a_part_of_a_block_stands_for_the_block(double: Any) -> None:
    score, x = ImageTextScore(double, captions()), images((40, 24)).double()
    block = score.layers[-1]
    whole, part = (TokenGradCam(score, layer).attribute(x, target=1) for layer in (block, block.attn))
    assert torch.equal(whole, part)
    whole, part = (M2IB(score, layer).attribute(x, target=1, steps=2) for layer in (score.layers[0], score.layers[0].attn))
    assert torch.equal(whole, part)
    # Behind a bare callable, an attention module's own input is looked at: the same tensor thrice.
    got = TokenGradCam(lambda images: score(images), block.attn).attribute(x, target=1)
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    handle = block.ln_1.register_forward_hook(keep)
    with torch.no_grad():
        scores = score(x)[:, 1].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(scores, kept[0])
    expected = (gradient.mean(dim=1, keepdim=True) * kept[0]).sum(dim=-1).relu()[:, 1:]
    assert relative(got.flatten(1), expected) < 1e-5 and varies(got)


def test_other_columns_do_not_reach_a_map(vit: nn.Module) -> None:
    """Classes that a model masks out have a score of minus infinity."""
    score, x = ImageTextScore(vit, captions()), images((32, 32))

    def masked(images: Tensor) -> Tensor:
        return score(images).index_fill(1, torch.tensor([0]), -torch.inf)

    many = RISE(masked).attribute_targets(x, [1], n_masks=5)
    assert relative(many, RISE(score).attribute(x, target=1, n_masks=5)) < 1e-6
    assert [list(range(*one.indices(12))) for one in _passes(12, 5, 12)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert [one.stop for one in _passes(12, 5, 6)] == [5, 6, 11, 12]


def test_what_methods_say_of_themselves() -> None:
    names = [kind.about.name for kind in METHODS]
    assert len(set(names)) == len(METHODS) and all(kind.about.paper for kind in METHODS)
    assert all(kind.attribute.__wrapped__ is not None for kind in METHODS)


def test_rise(double: nn.Module) -> None:
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    options = {"n_masks": 7, "cells": 3, "seed": 5}
    got = RISE(score).attribute(x, target=[1, 2], masks_per_eval=3, **options)
    generator = torch.Generator().manual_seed(5)
    draws = torch.rand(7, 2 + 9, generator=generator)
    for item, target in enumerate((1, 2)):
        expected = torch.zeros(40, 24, dtype=torch.float64)
        with torch.no_grad():
            for draw in draws:
                mask = one_mask((draw[2:] < 0.5).double().view(3, 3), draw[:2].tolist(), (40, 24))
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


def one_mask(flip: Tensor, shift: list[float], size: tuple[int, int]) -> Tensor:
    """Pixel by pixel: bilinear between the centres of the cells, mirrored beyond the outer ones, cut off at the shift."""
    cells = len(flip)
    cell = [math.ceil(side / cells) for side in size]
    mask = torch.zeros(size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            place = [(int(s * c) + at + 0.5) * cells / ((cells + 1) * c) - 0.5 for s, c, at in zip(shift, cell, (y, x))]
            for row in (0, 1):
                for column in (0, 1):
                    low = [math.floor(p) for p in place]
                    weight = math.prod(1 - abs(p - (lo + step)) for p, lo, step in zip(place, low, (row, column)))
                    i, j = (cells - 1 - abs(cells - 1 - abs(lo + step)) for lo, step in zip(low, (row, column)))
                    mask[y, x] += weight * flip[i, j]
    return mask


def test_rise_with_one_mask_of_ones_is_the_score(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    state = torch.get_rng_state()
    got = RISE(score).attribute(x, target=1, n_masks=1, probability=1.0)
    with torch.no_grad():
        assert relative(got, score(x)[:, 1, None, None, None].expand(-1, 1, 32, 32)) < 1e-6
    assert torch.equal(state, torch.get_rng_state())
    early = RISE(score).attribute(x, target=1, n_masks=400, tolerance=10.0)
    assert relative(early, RISE(score).attribute(x, target=1, n_masks=200)) < 1e-5
    for options, message in (({"n_masks": 0}, "n_masks"), ({"probability": 0.0}, "probability"), ({"cells": 0}, "cells")):
        with pytest.raises(ValueError, match=message):
            RISE(score).attribute(x, target=1, **options)
    text = TextImageScore(double, x)
    with pytest.raises(ValueError, match="RISE is defined for images, not for texts"):
        RISE(text).attribute(captions(), target=0)


def test_rise_stops_for_each_map_by_itself(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    options: dict[str, Any] = {"n_masks": 450, "cells": 4, "subtract_mean": True}
    exact = {count: RISE(score).attribute_targets(x, **{**options, "n_masks": count}) for count in (200, 300, 400, 450)}
    changes = [
        (exact[300] - exact[200]).abs().amax(dim=(-2, -1)) / exact[300].abs().amax(dim=(-2, -1)),
        (exact[400] - exact[300]).abs().amax(dim=(-2, -1)) / exact[400].abs().amax(dim=(-2, -1)),
    ]
    ordered = changes[0].flatten().sort().values
    tolerance = float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())  # between two of them
    got = RISE(score).attribute_targets(x, tolerance=tolerance, **options)
    stops = set()
    for item in range(len(x)):
        alone = RISE(score).attribute_targets(x[item : item + 1], tolerance=tolerance, masks_per_eval=7, **options)
        assert relative(got[item], alone[0]) < 1e-5
        for target in range(got.shape[1]):
            distance = {count: relative(got[item, target], maps[item, target]) for count, maps in exact.items()}
            stop = min(distance, key=lambda count: distance[count])
            assert distance[stop] < 1e-5
            stops.add(stop)
    assert len(stops) > 1, "all maps settled together"


def test_rise_in_half_precision() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    x = images((32, 32))
    wide = RISE(ImageTextScore(model, captions())).attribute(x, target=1, n_masks=30)
    narrow = RISE(ImageTextScore(model.bfloat16(), captions())).attribute(x.bfloat16(), target=1, n_masks=30)
    assert narrow.dtype == torch.float32
    assert relative(narrow, wide) < 0.05


def prepared(visual: Any, image: Tensor) -> Tensor:
    """Tokens of one image before the first block."""
    grid = tuple(side // 8 for side in image.shape[-2:])
    x = visual.conv1(image[None])[0].flatten(1).T
    table = resize_positions(visual.positional_embedding, visual.grid_size, grid)
    return visual.ln_pre(torch.cat([visual.class_embedding[None], x]) + table)


@torch.no_grad()
def second_path(visual: Any, image: Tensor, count: int) -> Tensor:
    """Features of all tokens of one image by the dual path of CLIP Surgery, block by block and head by head."""
    original = prepared(visual, image)
    blocks = list(visual.transformer.resblocks)
    new = None
    for number, block in enumerate(blocks):
        if number >= len(blocks) - count:
            new = original if new is None else new
            v = (block.ln_1(original) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=1)[2]
            mixed, _ = reference.attend(v, v, v, block.attn.num_heads, causal=False)
            new = new + mixed @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        original, _ = reference.block(original, block, block.attn.num_heads, causal=False, track=False)
    new = torch.cat([original[:1], new[1:]])
    return torch.stack([visual.ln_post(token) @ visual.proj for token in new])


@pytest.mark.parametrize("count", [1, 3])
def test_clip_surgery(double: nn.Module, count: int) -> None:
    """The released code multiplies features channel by channel and subtracts the mean over the labels."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    method = CLIPSurgery(score, score.layers[-count:])
    dense = method.dense_features(x)
    empty = ImageTextScore(double, empty_text(double)).text_features[0]
    maps = {kind: method.attribute(x, target=[1, 2], redundancy=kind) for kind in ("empty", "labels", "none")}
    own = method.attribute_targets(x, [2, 1], redundancy=score.text_features[0])
    for item, target in enumerate((1, 2)):
        features = second_path(double.visual, x[item], count)
        assert relative(dense[item], features) < 1e-10
        assert torch.allclose(features[0], score.features(x)[item], atol=1e-10)
        unit = torch.stack([one / one.norm() for one in features])
        with torch.no_grad():
            logits = [2 * float(unit[0] @ text) for text in score.text_features]
        p = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
        w = [one / (sum(p) / len(p)) for one in p]
        for i in range(1, len(unit)):
            products = torch.stack([unit[i] * text * weight for text, weight in zip(score.text_features, w)])
            surgery = (products - products.mean(dim=0)).sum(dim=-1)
            place = i - 1
            assert abs(float(maps["labels"][item].flatten()[place] - surgery[target])) < 1e-6
            plain = unit[i] @ score.text_features[target]
            assert abs(float(maps["none"][item].flatten()[place] - plain)) < 1e-6
            assert abs(float(maps["empty"][item].flatten()[place] - (plain - unit[i] @ empty))) < 1e-6
            assert abs(float(own[item, 2 - target].flatten()[place] - (plain - unit[i] @ score.text_features[0]))) < 1e-6
    assert all(varies(one) for one in maps.values())
    released = method.attribute(x, target=[1, 2], redundancy="none", normalisation="tokens")
    wrong = features / features.norm(dim=0)
    assert relative(released[1].flatten(), wrong[1:] @ score.text_features[2]) < 1e-5


def test_feature_surgery_by_itself() -> None:
    """Its closed form against the words of the code; labels that say the same leave nothing."""
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (5, 4))
    assert feature_surgery(image, text[:1].expand(4, -1)).abs().max() < 1e-12
    assert feature_surgery(image, text, text).abs().max() < 1e-12
    assert feature_surgery(image, text).sum(dim=-1).abs().max() < 1e-12
    hot = feature_surgery(image, text, temperature=50.0)
    assert relative(hot, feature_surgery(image, text)) > 0.1
    assert torch.equal(feature_surgery(image[None].expand(3, -1, -1), text)[2], feature_surgery(image, text))


def test_what_feature_surgery_refuses() -> None:
    image, text = torch.randn(5, 6), torch.randn(3, 6)
    for arguments, options, message in (
        ((image, text[:, :4]), {}, "text_features: expected finite features"),
        ((image, text * torch.nan), {}, "text_features: expected finite features"),
        ((image, text[:1]), {}, "takes at least two of them"),
        ((image, text), {"temperature": float("nan")}, "takes at least two of them"),
        ((image, text, torch.randn(12)), {}, "redundant_features: expected finite"),
        ((image, text, torch.full((6,), torch.nan)), {}, "redundant_features: expected finite"),
        ((image, text), {"normalisation": "rows"}, "normalisation: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            feature_surgery(*arguments, **options)


def test_the_tokenizer_knows_the_empty_text() -> None:
    """Where the marks around a text are not known from the model, the tokenizer that came with the texts is asked, once."""
    torch.manual_seed(0)
    model = stir(FAMILIES["transformers Chinese-CLIP"].build())
    asked: list[list[str]] = []

    def tokenizer(texts: list[str]) -> Tensor:
        asked.append(texts)
        return torch.stack(
            [torch.cat([torch.tensor([48]), torch.full((1 + len(one),), 7), torch.tensor([49])])[:4] for one in texts]
        )

    score = ImageTextScore(model, ["a", "b"], tokenizer)
    score = ImageTextScore(model, torch.tensor([[48, 5, 49, 0], [48, 9, 49, 0]]), tokenizer)
    x = images((32, 32))
    method = CLIPSurgery.of(score)
    first = method.attribute(x, target=1)
    assert varies(first) and torch.equal(first, method.attribute(x, target=1))
    assert asked.count([""]) == 1
    with pytest.raises(NotDefinedError, match="only known to its tokenizer"):
        CLIPSurgery.of(ImageTextScore(model, torch.tensor([[48, 5, 49, 0]]))).attribute(x, target=0)


def test_clip_surgery_of_a_resnet() -> None:
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["open_clip ResNet"].build()).double()
    x = images((96, 128)).double()
    score = ImageTextScore(model, captions())
    dense = CLIPSurgery(score, score.layers[-1]).dense_features(x)
    pool = model.visual.attnpool
    assert torch.allclose(dense[:, 0], score.features(x), atol=1e-10)
    for item in range(len(x)):
        kept: list[Tensor] = []
        handle = pool.register_forward_pre_hook(lambda module, args: kept.append(args[0][0]))  # noqa: B023
        with torch.no_grad():
            score(x[item : item + 1])
        handle.remove()
        tokens = kept[0].flatten(1).T
        tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        v = pool.v_proj(tokens + resize_positions(pool.positional_embedding, (side, side), kept[0].shape[-2:]))
        width = v.shape[1] // pool.num_heads
        heads = []
        for one in v.split(width, dim=1):
            unit = one / (one.norm(dim=1, keepdim=True) + 1e-6)
            # attend divides by the square root of the width; the pool's scale is eight times that
            heads.append(reference.attend(8**0.5 * unit, 8**0.5 * unit, one, 1, causal=False)[0])
        expected = pool.c_proj(torch.cat(heads, dim=1))[1:].detach()
        assert relative(dense[item, 1:], expected) < 1e-8
        # as released, the class token too has its query and keys from the values' weights
        released = CLIPSurgery(score, score.layers[-1]).dense_features(x, pool_query="value")
        asked = pool.c_proj(reference.attend(v, v, v, pool.num_heads, causal=False)[0])[0].detach()
        assert relative(released[item, 0], asked) < 1e-8 and torch.equal(released[:, 1:], dense[:, 1:])
    assert varies(CLIPSurgery(score, score.layers[-1]).attribute(x, target=1))


def test_what_clip_surgery_refuses(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    for layers in (score.layers[:-1], score.layers[-1].attn, score.layers[::-1]):
        with pytest.raises(ValueError, match="the last blocks of the image tower"):
            CLIPSurgery(score, layers).attribute(x, target=0)
    method = CLIPSurgery(score, score.layers[-2:])
    for options, message in (
        ({"redundancy": "some"}, "redundancy: expected features or one of"),
        ({"redundancy": torch.zeros(3)}, "redundancy, redundant_features: expected finite features"),
        ({"normalisation": "rows"}, "normalisation: expected one of"),
        ({"pool_query": "key"}, "pool_query: expected one of"),
        ({"pool_query": "value"}, "pool_query: this tower has no attention pool"),
        ({"additional_forward_args": 1}, "additional_forward_args: CLIP Surgery"),
    ):
        with pytest.raises(ValueError, match=message):
            method.attribute(x, target=0, **options)


def test_words_in_the_manner_of_clip_surgery(double: Any) -> None:
    """Each token read by the last norm and the projection, one text at a time."""
    x, tokens = images((32, 32)).double(), captions()
    score = TextImageScore(double, x)
    got = word_relevance(score, tokens)
    empty = ImageTextScore(double, empty_text(double)).text_features[0]
    for text in range(len(tokens)):
        stream = double.token_embedding(tokens[text]) + double.positional_embedding
        stream, _ = reference.blocks(stream, double.transformer, 0, False, causal=True)
        end = int(tokens[text].argmax())
        for j in range(end + 1):
            feature = double.ln_final(stream[j]) @ double.text_projection
            for image in range(len(x)):
                expected = (score.image_features[image] @ (feature / feature.norm() - empty)).detach()
                assert abs(float(got[text, image, j] - expected)) < 1e-6
        assert not got[text, :, end + 1 :].any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_legrad(double: nn.Module, count: int) -> None:
    """The gradient at each attention weight by w . v, of what the model says of the mean token behind each block."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    got = LeGrad(score, score.layers[-count:]).attribute(x, target=[1, 2])
    many = LeGrad(score, score.layers[-count:]).attribute_targets(x, [2, 1])
    visual: Any = double.visual
    blocks = list(visual.transformer.resblocks)
    for item, target in enumerate((1, 2)):
        stream = prepared(visual, x[item]).detach()
        total = torch.zeros(len(stream), dtype=torch.float64)
        for number, block in enumerate(blocks):
            after, layer = reference.block(stream, block, block.attn.num_heads, causal=False, track=True)
            if number >= len(blocks) - count:
                feature = visual.ln_post(after.mean(dim=0)) @ visual.proj
                s = reference.cosine(feature, score.text_features[target])
                (w,) = torch.autograd.grad(s, layer.o)
                width = w.shape[1] // block.attn.num_heads
                for head in range(block.attn.num_heads):
                    channels = slice(head * width, (head + 1) * width)
                    gradient = w[:, channels] @ layer.v[:, channels].T
                    total += gradient.clamp(min=0).mean(dim=0).detach() / block.attn.num_heads
            stream = after.detach()
        assert relative(got[item].flatten(), total[1:]) < 1e-5
        assert relative(many[item, 2 - target], got[item, 0]) < 1e-5
    assert varies(got)


@pytest.mark.parametrize("name", ["open_clip CoCa", "transformers SigLIP", "timm SigLIP"])
def test_legrad_of_an_attention_pool(name: str) -> None:
    """The tower is cut off behind each block, and its pool is given what came out; one image at a time."""
    torch.manual_seed(0)
    family = FAMILIES[name]
    model: Any = stir(family.build()).double()
    x = images(family.size).double()
    score: Any = ClassScore(model) if name == "timm SigLIP" else ImageTextScore(model, captions())
    method = LeGrad.of(score)
    *blocks, pool = score.layers
    assert list(method.layer) == blocks[-2:]
    got = method.attribute(x, target=1)
    for item in range(len(x)):
        total = torch.zeros(got[item].numel(), dtype=torch.float64)
        for number in (-2, -1):
            later = blocks[len(blocks) + number + 1 :]
            # what comes behind the block hands its input on
            handles = [
                block.register_forward_hook(
                    lambda module, args, output: (args[0],) if isinstance(output, tuple) else args[0]
                )
                for block in later
            ]
            with Interception([pool], kept_attention) as seen, torch.no_grad():
                said = score(x[item : item + 1])[0, 1]
            for handle in handles:
                handle.remove()
            (record,) = seen.records()
            (gradient,) = torch.autograd.grad(said, record.attention)
            for head in gradient[0]:
                total += head[0].relu()[-len(total) :] / gradient.shape[1]
        assert relative(got[item].flatten(), total) < 1e-5
    assert varies(got)


def test_what_legrad_and_maskclip_refuse(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    with pytest.raises(ValueError, match="LeGrad reads what whole blocks hand on"):
        LeGrad(score, score.layers[-1].attn).attribute(x, target=0)
    for layer in (score.layers[-2], score.layers[0].attn, score.layers[-2:]):
        with pytest.raises(ValueError, match="MaskCLIP replaces the attention of the last layer"):
            MaskCLIP(score, layer).attribute(x, target=0)
    assert torch.equal(
        MaskCLIP(score, score.layers[-1].attn).attribute(x, target=0),
        MaskCLIP(score, score.layers[-1]).attribute(x, target=0),
    )


def test_mask_clip_is_the_model_with_value_only_attention(double: nn.Module) -> None:
    """With one patch as the whole input of the last block, the model's own answer is that of the patch."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    maps = MaskCLIP(score, score.layers[-1]).attribute_targets(x)
    for patch in (0, 4, 14):
        place = {"row": patch + 1}

        def swap(module: nn.Module, args: tuple[Tensor, ...], place: dict[str, int] = place) -> tuple[Tensor, ...]:
            return (args[0][:, place["row"]][:, None], *args[1:])

        handle = score.layers[-1].register_forward_pre_hook(swap)
        with torch.no_grad():
            expected = score(x)  # a token that is alone attends to itself only
        handle.remove()
        assert relative(maps.flatten(2)[:, :, patch], expected) < 1e-6


def test_mask_clip_with_the_weight_of_the_released_code(double: nn.Module) -> None:
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    plain = MaskCLIP(score, score.layers[-1]).attribute(x, target=1)
    weighted = MaskCLIP(score, score.layers[-1]).attribute(x, target=1, key_weight=True)
    visual: Any = double.visual
    for item in range(len(x)):
        stream, _ = reference.blocks(prepared(visual, x[item]), visual.transformer, 0, False, causal=False)
        stream = prepared(visual, x[item])
        for block in list(visual.transformer.resblocks)[:-1]:
            stream, _ = reference.block(stream, block, block.attn.num_heads, causal=False, track=False)
        block = visual.transformer.resblocks[-1]
        key = (block.ln_1(stream) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=1)[1]
        key = key @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        weight = torch.stack([reference.cosine(key[0], key[i]) for i in range(1, len(key))]).detach()
        assert relative(weighted[item].flatten(), plain[item].flatten().double() * weight) < 1e-5
    assert relative(weighted, plain) > 0.05
    torch.manual_seed(0)
    resnet = stir(FAMILIES["open_clip ResNet"].build())
    pooled = ImageTextScore(resnet, captions())
    with pytest.raises(ValueError, match="key_weight: an attention pool"):
        MaskCLIP(pooled, pooled.layers[-1]).attribute(images((64, 64)), target=0, key_weight=True)


@pytest.mark.parametrize("steps", [1, 4])
def test_m2ib(double: Any, steps: int) -> None:
    """Adam and the bottleneck written out, one example and one copy at a time, for images and texts."""
    options = {"steps": steps, "copies": 3, "seed": 4, "beta": 2.0}
    for score, inputs, first in both(double):
        number = len(score.layers) - 3
        got = M2IB(score, score.layers[number]).attribute(inputs, target=1, **options)
        for item in range(len(inputs)):
            expected = slow_bottleneck(double, score, inputs[item], number, steps)
            assert relative(got[item].flatten(), expected[first:]) < 1e-5
        assert varies(got)
        again = M2IB(score, score.layers[number]).attribute(inputs, target=1, **{**options, "seed": 5})
        assert torch.equal(got, again) == (steps == 1)  # the noise of a step moves the next one


def slow_bottleneck(model: Any, score: Any, one: Tensor, number: int, steps: int, wrapper: bool = False) -> Tensor:
    """Nats per token of one image or text, with target 1, three copies, seed 4 and beta 2."""
    image = one.is_floating_point()
    causal = not image and not wrapper
    full = len(one)
    one = one[: int(one.argmax()) + 1] if wrapper else one  # the wrapper's texts have no padding
    tower = model.visual if image else model
    blocks = list(tower.transformer.resblocks)
    stream = prepared(tower, one) if image else tower.token_embedding(one) + tower.positional_embedding[: len(one)]
    stream = stream.detach()
    for block in blocks[: number + 1]:
        stream, _ = reference.block(stream, block, block.attn.num_heads, causal=causal, track=False)
    z = stream.detach()
    other = score.text_features[1] if image else score.image_features[1]
    alpha = torch.full_like(z, 5.0)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    generator = torch.Generator().manual_seed(4)
    for step in range(1, steps + 1):
        leaf = alpha.clone().requires_grad_()
        passed = 1 / (1 + torch.exp(-leaf))
        variance = (1 - passed) ** 2
        nats = -0.5 * (1 + torch.log(variance) - (passed * z) ** 2 - variance)
        shape = (full, z.shape[1]) if wrapper else z.shape
        noise = torch.randn(3, *shape, generator=generator).double()[:, : len(z)]
        cosines = []
        for copy in range(3):
            x = passed * z + (1 - passed) * noise[copy]
            for block in blocks[number + 1 :]:
                x, _ = reference.block(x, block, block.attn.num_heads, causal=causal, track=False)
            read = x[0] if image else x[int(one.argmax())]
            feature = tower.ln_post(read) @ tower.proj if image else tower.ln_final(read) @ tower.text_projection
            feature = feature @ tower.text_projection if wrapper else feature
            cosines.append(reference.cosine(feature, other))
        nats = nats if image else nats[: int(one.argmax()) + 1]  # no padding
        (gradient,) = torch.autograd.grad(2.0 * nats.mean() - torch.stack(cosines).mean(), leaf)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        alpha = alpha - (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    result = torch.zeros(full if wrapper else len(z), dtype=torch.float64)
    result[: len(nats)] = nats.detach().sum(dim=1)
    return result


@pytest.fixture(scope="module")
def square() -> Any:
    """A CLIP whose text projection has as many rows as columns, as those of ViT-B-16 and ViT-L-14 do."""
    torch.manual_seed(0)
    from open_clip import CLIP

    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 3, "width": 24, "heads": 4}
    return stir(CLIP(24, {"image_size": 32, "patch_size": 8, "layers": 2, "width": 48, "head_width": 12}, text)).double()


def test_m2ib_under_the_wrapper_of_the_released_code(square: Any) -> None:
    """No causal mask, no padding, and the projection twice."""
    tokens = captions()
    score = TextImageScore(square, images((32, 32)).double())
    options = {"steps": 3, "copies": 3, "seed": 4, "beta": 2.0}
    got = M2IB(score, score.layers[0]).attribute(tokens, target=1, wrapper_bug=True, **options)
    for item in range(len(tokens)):
        expected = slow_bottleneck(square, score, tokens[item], 0, 3, wrapper=True)
        assert relative(got[item], expected) < 1e-5
    assert varies(got) and relative(got, M2IB(score, score.layers[0]).attribute(tokens, target=1, **options)) > 0.01


def test_features_of_the_wrapper(square: Any) -> None:
    with torch.no_grad():
        features = wrapper_features(square, captions())
        for one, got in zip(captions(), features):
            x = square.token_embedding(one[: int(one.argmax()) + 1])
            x = x + square.positional_embedding[: len(x)]
            x, _ = reference.blocks(x, square.transformer, 0, single=False, causal=False)
            expected = square.ln_final(x[-1]) @ square.text_projection @ square.text_projection
            assert relative(got, expected / expected.norm()) < 1e-8
    assert ImageTextScore(square, features)(images((32, 32)).double()).shape[1] == len(features)


def test_features_of_the_wrapper_do_not_see_padding() -> None:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = {"bos_token_id": START, "eos_token_id": END, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT}
    image = {**small, "image_size": 32, "patch_size": 8}
    model = stir(CLIPModel(CLIPConfig(text_config={**small, **words}, vision_config=image, projection_dim=48)))
    long = captions()[2:3]
    short = long[:, : int(long.argmax()) + 1]
    assert short.shape[1] < long.shape[1]
    with torch.no_grad():
        assert relative(wrapper_features(model, long), wrapper_features(model, short)) < 1e-5


def test_where_there_is_no_wrapper(double: Any) -> None:
    score = TextImageScore(double, images((32, 32)).double())
    with pytest.raises(ValueError, match="wrapper_bug: the text tower has to be CLIP's own"):
        M2IB(score, score.layers[0]).attribute(captions(), target=0, wrapper_bug=True)
    image = ImageTextScore(double, captions())
    with pytest.raises(ValueError, match="bind wrapper_features"):
        M2IB(image, image.layers[0]).attribute(images((32, 32)).double(), target=0, wrapper_bug=True)


def test_as_many_copies_as_tokens(double: Any) -> None:
    """Which dimension holds the examples is learned before there are copies."""
    torch.manual_seed(0)
    model = stir(FAMILIES["transformers CLIP"].build())
    tokens = captions()[2:3, :7]  # ends with its mark
    score = TextImageScore(model, images((32, 32)))
    padded = M2IB(score, score.layers[-3]).attribute(captions()[2:3], target=0, copies=7)
    assert relative(M2IB(score, score.layers[-3]).attribute(tokens, target=0, copies=7), padded[:, :7]) < 0.2  # other noise
    assert relative(word_relevance(score, tokens), word_relevance(score, captions()[2:3])[..., :7]) < 1e-4
    image = ImageTextScore(double, captions())
    x = images((32, 32)).double()
    block, attention = (
        MaskCLIP(image, layer).attribute(x, target=0, key_weight=True) for layer in (image.layers[-1], image.layers[-1].attn)
    )
    assert torch.equal(block, attention)


def test_m2ib_is_seeded_stops_early_and_refuses(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    method = M2IB(score, score.layers[1])
    state = torch.get_rng_state()
    first = method.attribute(x, target=1)
    assert torch.equal(first, method.attribute(x, target=1)) and torch.equal(state, torch.get_rng_state())
    # nothing is done before the tenth step, and then everything, if any change will do
    assert torch.equal(method.attribute(x, target=1, tolerance=1e9, steps=30), first)
    options = {"target": 1, "tolerance": 0.05, "steps": 60, "copies": 5}
    both = method.attribute(x, **options)
    for item in range(len(x)):
        assert relative(method.attribute(x[item : item + 1], **options), both[item : item + 1]) < 1e-5
    assert not torch.equal(both, method.attribute(x, target=1, steps=60, copies=5)), "none was done early"
    # on the CPU, two examples go through the model at once here, then the third; each keeps its own target
    three = torch.cat([x, x[:1].flip(-1)])
    many: dict[str, Any] = {"copies": 300, "steps": 2}
    few = method.attribute(three, target=[0, 2, 1], **many)
    for item, target in enumerate((0, 2, 1)):
        assert relative(method.attribute(three[item : item + 1], target=target, **many), few[item : item + 1]) < 1e-5
    with pytest.raises(AssertionError, match="target: expected one for each of the 3 inputs"):
        method.attribute(three, target=[0, 1])
    for options, message in (({"steps": 0}, "steps: expected at least 1"), ({"beta": 0.0}, "beta: expected a positive")):
        with pytest.raises(ValueError, match=message):
            method.attribute(x, target=1, **options)
    with pytest.raises(ValueError, match="M2IB has one bottleneck, got 2 layers"):
        M2IB(score, score.layers[:2]).attribute(x, target=1)
    with pytest.raises(ValueError, match="ran 0 times"):
        M2IB(score, nn.Linear(2, 2)).attribute(x, target=1)


def test_information_is_a_divergence() -> None:
    """Against torch's own between two normal distributions."""
    z, passed = torch.randn(50, dtype=torch.float64), torch.rand(50, dtype=torch.float64) * 0.99
    normal = torch.distributions.Normal(passed * z, 1 - passed)
    standard = torch.distributions.Normal(torch.zeros(50, dtype=torch.float64), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(information(z, passed), torch.distributions.kl_divergence(normal, standard))
