"""Tiny random models of every family, built from configurations, with weights that make masks and gradients matter."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn

CONTEXT = 12
VOCABULARY = 50
END = VOCABULARY - 1
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 8, "width": 32, "heads": 4}
VIT = {"image_size": 32, "patch_size": 8, "layers": 4, "width": 48, "head_width": 12}
RESNET = {"image_size": 64, "layers": (1, 1, 1, 1), "width": 8, "head_width": 16}


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights large enough that attention is far from uniform and every map varies."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape, generator=generator)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.3 * torch.randn(buffer.shape, generator=generator)
            if name.endswith("running_var"):
                buffer *= 0.5 + torch.rand(buffer.shape, generator=generator)
    return model.eval()


def captions(seed: int = 0, count: int = 3) -> Tensor:
    """Token ids with the end mark in the middle, at a different place in each."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(count, CONTEXT, dtype=torch.long)
    for row, length in enumerate((3, 7, 5, 10, 4)[:count]):
        tokens[row, 0] = END - 1
        tokens[row, 1 : 1 + length] = torch.randint(1, END - 1, (length,), generator=generator)
        tokens[row, 1 + length] = END
    return tokens


@dataclass(frozen=True)
class Family:
    """A row of the table of models: how to build one, and the sizes of images that it is asked to take."""

    build: Callable[[], nn.Module]
    size: tuple[int, int]
    oblong: tuple[int, int]
    patch: int


FAMILIES = {
    "open_clip ViT": Family(lambda: CLIP(24, VIT, TEXT, quick_gelu=True), (32, 32), (40, 24), 8),
    "open_clip ViT, custom text": Family(
        lambda: CustomTextCLIP(24, VIT, {**TEXT, "pool_type": "eos", "eos_id": END}), (32, 32), (24, 56), 8
    ),
    "open_clip ResNet": Family(lambda: CLIP(24, RESNET, TEXT), (64, 64), (96, 128), 32),
}


@pytest.fixture(params=FAMILIES, scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def model(family: Family) -> nn.Module:
    torch.manual_seed(0)
    return stir(family.build())


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    torch.manual_seed(0)
    return stir(FAMILIES["open_clip ViT"].build())


def images(size: tuple[int, int], count: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max())


def varies(x: Tensor) -> bool:
    """Not a map that would let any test pass."""
    return bool(x.flatten(1).std(dim=1).gt(1e-3 * x.abs().amax()).all()) and bool(x.abs().max() > 0)
