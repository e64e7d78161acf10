"""MaskCLIP against the last block with each patch's own value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore
from captum_gradeclip.adapters.base import resize_positions
from captum_gradeclip.attr import (
    MaskCLIP,
)

from .. import reference
from ..conftest import FAMILIES, captions, images, relative, stir, varies
from ..reference.towers import before_pool, prepared


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
        bare = before_pool(score, pool, x[item : item + 1])
        tokens = bare.flatten(1).T
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        table = resize_positions(pool.positional_embedding, (side, side), bare.shape[-2:])
        for i in range(len(tokens)):
            feature = pool.c_proj(pool.v_proj(tokens[i] + table[1 + i]))
            expected = reference.cosine(feature, score.text_features[1]).detach()
            assert abs(float(got[item].flatten()[i] - expected)) < 1e-6
    assert varies(got)


def test_mask_clip_of_a_resnet_without_positions() -> None:
    """The released head of the authors: both projections of the bare feature map."""
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["open_clip ResNet"].build()).double()
    score = ImageTextScore(model, captions())
    pool = model.visual.attnpool
    for size in ((64, 64), (96, 128)):
        x = images(size).double()
        method = MaskCLIP(score, score.layers[-1])
        got = method.attribute(x, target=1, positions=False)
        assert relative(got, method.attribute(x, target=1)) > 1e-2 and varies(got)
        for item in range(len(x)):
            bare = before_pool(score, pool, x[item : item + 1])
            for i, token in enumerate(bare.flatten(1).T):
                feature = pool.c_proj(pool.v_proj(token))
                expected = reference.cosine(feature, score.text_features[1]).detach()
                assert abs(float(got[item].flatten()[i] - expected)) < 1e-6


def test_only_a_pool_over_convolutions_has_tokens_without_positions(double: nn.Module) -> None:
    score = ImageTextScore(double, captions())
    with pytest.raises(ValueError, match="positions: only an ImageTextScore of a tower with an attention pool"):
        MaskCLIP(score, score.layers[-1]).attribute(images((32, 32)).double(), target=0, positions=False)


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


def test_what_is_refused(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    for layer in (score.layers[-2], score.layers[0].attn, score.layers[-2:]):
        with pytest.raises(ValueError, match="MaskCLIP replaces the attention of the last layer"):
            MaskCLIP(score, layer).attribute(x, target=0)
    assert torch.equal(
        MaskCLIP(score, score.layers[-1].attn).attribute(x, target=0),
        MaskCLIP(score, score.layers[-1]).attribute(x, target=0),
    )
    block, attention = (
        MaskCLIP(score, layer).attribute(x, target=0, key_weight=True) for layer in (score.layers[-1], score.layers[-1].attn)
    )
    assert torch.equal(block, attention)


def test_keys_of_as_many_examples_as_tokens(vit: nn.Module) -> None:
    x, score = images((32, 32), 17), ImageTextScore(vit, captions())
    maps = MaskCLIP(score, score.layers[-1]).attribute(x, target=1, key_weight=True)
    alone = MaskCLIP(score, score.layers[-1]).attribute(x[3:4], target=1, key_weight=True)
    assert relative(maps[3:4], alone) < 1e-3 and relative(maps[4:5], alone) > 1e-3
