"""A tower as we see it: a handful of facts, stated by one short file per library."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UnsupportedModelError(TypeError):
    """No adapter knows this model, or its tower has no attention that could be explained."""


@dataclass(frozen=True)
class ImageTower:
    """An image encoder.

    Attributes:
        encode: images ``(N, 3, H, W)`` of any size that is a multiple of ``patch`` to features ``(N, D)``, not
            normalised, by the model's own forward pass.
        layers: attention layers in order, the last one last.
        readout: images to the row of the token that the score reads ``(N,)``; ``None`` where all tokens are averaged.
        patch: side of a patch (or total stride) in pixels.
        size: native height and width in pixels.
        mean: per channel, of the model's preprocessing.
        std: per channel.
        width: D.
        dtype: of the images that the tower takes.
    """

    encode: Callable[[Tensor], Tensor]
    layers: Sequence[nn.Module]
    readout: Callable[[Tensor], Tensor] | None
    patch: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    dtype: torch.dtype


@dataclass(frozen=True)
class TextTower:
    """A text encoder.

    Attributes:
        encode: token ids ``(N, L)`` to features ``(N, D)``, not normalised, by the model's own forward pass.
        layers: attention layers in order, the last one last.
        readout: token ids to the row of the token that the score reads ``(N,)``; ``None`` if all are averaged.
        context_length: the most tokens a text may have, marks included.
        width: D.
    """

    encode: Callable[[Tensor], Tensor]
    layers: Sequence[nn.Module]
    readout: Callable[[Tensor], Tensor] | None
    context_length: int
    width: int


def replaced(module: nn.Module, name: str, value: Tensor) -> nn.Module:
    """A shallow view of a module in which one parameter is another tensor; the module itself is not touched.

    All else, hooks included, is shared. :func:`torch.func.functional_call` would swap the parameter inside the user's
    own module for a moment, which two threads that explain images of different sizes would see of each other.

    >>> linear = nn.Linear(2, 1, bias=False)
    >>> replaced(linear, "weight", torch.ones(1, 3))(torch.ones(3))
    tensor([3.])
    >>> linear.weight.shape
    torch.Size([1, 2])
    """
    head, _, rest = name.partition(".")
    view = copy.copy(module)
    if rest:
        view._modules = {**module._modules, head: replaced(module.get_submodule(head), rest, value)}
    else:
        view._parameters = {**module._parameters, head: value}  # type: ignore[dict-item]  # a plain tensor will do
    return view


def resize_positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A position table for another patch grid: prefix rows kept, the rest bicubic, ``align_corners=False``.

    Args:
        table: ``(prefix + h * w, C)`` for the ``native`` grid ``(h, w)``.
        native: ``(h, w)``.
        grid: the wanted ``(h, w)``.

    >>> resize_positions(torch.zeros(1 + 4, 8), (2, 2), (3, 5)).shape
    torch.Size([16, 8])
    """
    prefix = len(table) - native[0] * native[1]
    patches = table[prefix:].T.reshape(1, -1, *native)
    wide = torch.promote_types(table.dtype, torch.float32)
    patches = F.interpolate(patches.to(wide), size=grid, mode="bicubic", align_corners=False).to(table.dtype)
    return torch.cat([table[:prefix], patches[0].flatten(1).T])


def check_size(images: Tensor, patch: int) -> tuple[int, int]:
    """Height and width of a batch of images.

    Raises:
        ValueError: unless the batch is ``(N, 3, H, W)`` and both sides are multiples of the patch.
    """
    if images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"images: expected (N, 3, H, W), got shape {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if height < patch or width < patch or height % patch or width % patch:
        near = tuple(max(1, round(side / patch)) * patch for side in (height, width))
        raise ValueError(
            f"images: height and width must be multiples of the patch size {patch}, got {height} x {width};"
            f" resize to {near[0]} x {near[1]}"
        )
    return height, width
