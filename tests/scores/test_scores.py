"""Score modules: errors that name the image, the model or the tower that is wrong."""

from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP
from torch import nn

from captum_gradeclip import ImageTextScore, TextImageScore, adapters, scenes

from ..conftest import FAMILIES, TEXT, VIT, captions, images


def test_images_are_checked() -> None:
    model, _, _ = scenes.load()
    for x, error, message in (
        (torch.full((1, 3, 64, 64), float("inf")), ValueError, "NaN or infinite"),
        (torch.zeros(1, 7), ValueError, r"or \(M, 128\)"),
        (torch.zeros(1, 3, 60, 64), ValueError, "multiples of the patch size 8, got 60 x 64; resize to 64 x 64"),
        (torch.zeros(1, 3, 4, 64), ValueError, "resize to 8 x 64"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), TypeError, "images: expected floats"),
    ):
        with pytest.raises(error, match=message):
            TextImageScore(model, x)


def test_unknown_models_and_towers() -> None:
    with pytest.raises(
        adapters.UnsupportedModelError, match=r"expected a model of open_clip.*got torch.nn.modules.linear.Linear"
    ):
        ImageTextScore(nn.Linear(2, 2), torch.zeros(1, 2))
    model = FAMILIES["open_clip ViT"].build()
    model.visual = nn.Conv2d(3, 4, 1)
    with pytest.raises(adapters.UnsupportedModelError, match=r"Conv2d.*LayerGradCam"):
        ImageTextScore(model, captions())
    pooled = CLIP(24, {**VIT, "attentional_pool": "parallel"}, TEXT)
    with pytest.raises(adapters.UnsupportedModelError, match="'parallel' pair of attention pools"):
        ImageTextScore(pooled, captions())
    unpooled = CLIP(24, {**VIT, "pool_type": "none"}, TEXT)
    with pytest.raises(adapters.UnsupportedModelError, match="image pooling 'none'"):
        ImageTextScore(unpooled, captions())


def test_a_users_subclass_is_recognised(vit: nn.Module) -> None:
    class Mine(type(vit)):
        pass

    vit.__class__, kept = Mine, vit.__class__
    try:
        assert ImageTextScore(vit, captions())(images((32, 32))).shape == (2, 3)
    finally:
        vit.__class__ = kept
