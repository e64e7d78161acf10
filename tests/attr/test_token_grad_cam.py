"""Grad-CAM on tokens against its sums written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore
from captum_gradeclip.attr import (
    TokenGradCam,
)

from ..conftest import FAMILIES, captions, images, relative, stir, varies


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


def test_a_part_of_a_block_stands_for_the_block(double: Any) -> None:
    score, x = ImageTextScore(double, captions()), images((40, 24)).double()
    block = score.layers[-1]
    whole, part = (TokenGradCam(score, layer).attribute(x, target=1) for layer in (block, block.attn))
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
