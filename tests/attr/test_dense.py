"""Dense features: the model's own last block with value-only attention, written out, and with its graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import ImageTextScore, adapters
from captum_gradeclip.attr import MaskCLIP, NotDefinedError
from captum_gradeclip.attr.dense import dense_features
from captum_gradeclip.scores import ImageScore

from ..conftest import FAMILIES, captions, fingerprint, images, relative, stir, varies
from ..reference import equations as reference
from ..reference.towers import prepared

DENSE = [
    name
    for name, family in FAMILIES.items()
    if family.text
    and (ImageScore(model := family.build()).readout.kind == "token" or adapters.image_tower(model).sites[0].kind == "pool")
]


def written_out(visual: Any, image: Tensor, residual: bool) -> Tensor:
    """Dense features ``(D, h, w)`` of one image of open_clip's ViT, block by block."""
    x = prepared(visual, image)
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x, _ = reference.block(x, block, block.attn.num_heads, causal=False, track=False)
    values = (last.ln_1(x) @ last.attn.in_proj_weight.T + last.attn.in_proj_bias).chunk(3, dim=1)[2]
    z = values @ last.attn.out_proj.weight.T + last.attn.out_proj.bias
    if residual:
        z = x + z
        z = z + last.mlp(last.ln_2(z))
    features = F.normalize(visual.ln_post(z)[1:] @ visual.proj, dim=-1)
    return features.T.unflatten(1, tuple(side // 8 for side in image.shape[-2:]))


@pytest.mark.parametrize("residual", [True, False])
def test_they_are_the_last_block_with_value_only_attention(double: Any, residual: bool) -> None:
    x = images((40, 24)).double()
    found = dense_features(double, x, residual=residual)
    expected = torch.stack([written_out(double.visual, image, residual) for image in x])
    assert varies(found) and relative(found, expected) < 1e-9


@pytest.mark.parametrize("name", DENSE)
def test_mask_clip_compares_them_with_the_text(name: str) -> None:
    model = stir(FAMILIES[name].build())
    score, x = ImageTextScore(model, captions()), images(FAMILIES[name].size, 3)
    maps = MaskCLIP(score, score.layers[-1]).attribute_targets(x)
    found = torch.einsum("ndhw,td->nthw", dense_features(model, x), score.text_features)
    assert varies(maps) and relative(found, maps) < 1e-4


def test_their_graph_reaches_what_made_them_and_not_the_rest(double: Any) -> None:
    x = images((32, 32)).double()
    weight = torch.randn(2, 24, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    table = double.visual.positional_embedding
    (gradient,) = torch.autograd.grad((dense_features(double, x) * weight).sum(), table)
    step = torch.zeros_like(table)
    step[5, 3] = 1e-6
    with torch.no_grad():
        table += step
        above = (dense_features(double, x) * weight).sum()
        table -= 2 * step
        below = (dense_features(double, x) * weight).sum()
        table += step
    assert torch.isclose((above - below) / 2e-6, gradient[5, 3], rtol=1e-5)
    last = double.visual.transformer.resblocks[-1].attn
    found = torch.autograd.grad(dense_features(double, x).sum(), last.in_proj_weight)[0].chunk(3)
    assert not found[0].any() and not found[1].any() and found[2].any()  # neither queries nor keys are read


def test_the_model_is_as_it_was(vit: nn.Module) -> None:
    before = fingerprint(vit)
    dense_features(vit, images((32, 32)))
    with torch.no_grad():
        assert not dense_features(vit, images((32, 32), 17)).requires_grad  # as many examples as tokens
    assert fingerprint(vit) == before


@pytest.mark.parametrize("name", ["open_clip ViT, average", "open_clip SigLIP"])
def test_a_tower_that_mixes_its_tokens_behind_the_block_is_refused(name: str) -> None:
    with pytest.raises(NotDefinedError, match="reads"):
        dense_features(FAMILIES[name].build().eval(), images((32, 32)))


def test_images_that_are_not_finite_are_refused(vit: nn.Module) -> None:
    with pytest.raises(ValueError, match="images: expected finite"):
        dense_features(vit, images((32, 32)) * torch.nan)
