"""LeGrad against the gradient at each attention weight, block by block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ClassScore, ImageTextScore
from captum_gradeclip.attention import Interception, kept_attention
from captum_gradeclip.attr import (
    LeGrad,
)

from .. import reference
from ..conftest import FAMILIES, captions, images, relative, stir, varies
from ..reference.towers import prepared


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
    method = LeGrad.for_score(score)
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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open_clip CoCa", {"pool_norm": False, "unit_length": False}),
        ("open_clip CoCa", {"unit_length": False}),
        ("transformers SigLIP", {"pool_norm": False}),
        ("open_clip SigLIP", {"pool_norm": False}),
    ],
)
def test_legrad_of_an_attention_pool_as_released(name: str, options: dict[str, bool]) -> None:
    """What stands behind each block is written out: the pool on the tokens, without the norm, and the projection."""
    torch.manual_seed(0)
    family = FAMILIES[name]
    model: Any = stir(family.build()).double()
    x = images(family.size).double()
    score = ImageTextScore(model, captions())
    method = LeGrad.for_score(score)
    pool: Any = score.layers[-1]
    got = method.attribute(x, target=1, **options)
    assert relative(got, method.attribute(x, target=1)) > 1e-2 and varies(got)
    for item in range(len(x)):
        total = torch.zeros(got[item].numel(), dtype=torch.float64)
        for block in score.layers[-3:-1]:
            tokens: list[Tensor] = []
            handle = block.register_forward_hook(
                lambda _, args, output: tokens.append(output[0] if isinstance(output, tuple) else output)  # noqa: B023
            )
            with torch.no_grad():
                score(x[item : item + 1])
            handle.remove()
            with Interception([pool], kept_attention) as seen, torch.no_grad():
                pooled = pool(tokens[0])
            if name == "open_clip CoCa":
                pooled = model.visual.ln_post(pooled) if options.get("pool_norm", True) else pooled
                feature = pooled[0, 0] @ model.visual.proj
            elif name == "transformers SigLIP":
                feature = pooled[0]
            else:
                feature = model.visual.head(pooled)[0]
            text = score.text_features[1]
            said = feature @ text if not options.get("unit_length", True) else reference.cosine(feature, text)
            (record,) = seen.records()
            (gradient,) = torch.autograd.grad(said, record.attention)
            for head in gradient[0]:
                total += head[0].relu()[-len(total) :] / gradient.shape[1]
        assert relative(got[item].flatten(), total) < 1e-5


def test_what_only_a_pool_has_is_refused_elsewhere(double: nn.Module) -> None:
    method = LeGrad.for_score(ImageTextScore(double, captions()))
    for option in ("pool_norm", "unit_length"):
        with pytest.raises(ValueError, match=f"{option}: .*; leave it out"):
            method.attribute(images((32, 32)).double(), target=0, **{option: False})


def test_a_part_of_a_block_is_refused(double: nn.Module) -> None:
    score = ImageTextScore(double, captions())
    with pytest.raises(ValueError, match="LeGrad reads what whole blocks hand on"):
        LeGrad(score, score.layers[-1].attn).attribute(images((32, 32)).double(), target=0)
