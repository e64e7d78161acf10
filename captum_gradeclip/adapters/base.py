"""A tower as we see it: a handful of facts, stated by one short file per library."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
            normalised, by the model's own forward pass; of a classifier, its logits.
        layers: attention layers in order, the last one last; an attention pool is the last of them.
        readout: images to the row of the token that the score reads ``(N,)``; ``None`` where it reads several (an
            average, two class tokens, an attention pool behind the blocks).
        patch: side of a patch (or total stride) in pixels.
        size: native height and width in pixels.
        mean: per channel, of the model's preprocessing.
        std: per channel.
        width: D.
        dtype: of the images that the tower takes.
        alone: whether all that follows the last block's attention runs on the read-out token alone, if that comes first
            (nothing there depends on the number of tokens, as rotary positions do).
        pool: whether what is read comes from an attention pool behind the blocks, which then is the last of the layers.
        labels: gives the names of the classes of a classifier, or ``None`` if it does not carry them.
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
    alone: bool = False
    pool: bool = False
    labels: Callable[[], tuple[str, ...] | None] = lambda: None


@dataclass(frozen=True)
class TextTower:
    """A text encoder.

    Attributes:
        encode: token ids ``(N, L)`` to features ``(N, D)``, not normalised, by the model's own forward pass.
        layers: attention layers in order, the last one last.
        readout: token ids to the row of the token that the score reads ``(N,)``; ``None`` if all are averaged.
        context_length: the most tokens a text may have, marks included.
        width: D.
        pad: whether every text must be padded to ``context_length``.
        vocabulary: number of token ids.
        start: id of the mark before a text, if there is one.
        end: id of the mark behind it.
        project: the matrix ``(D, D)`` that the encoder ends with, if there is a square one, as a function of ``(N, D)``.
    """

    encode: Callable[[Tensor], Tensor]
    layers: Sequence[nn.Module]
    readout: Callable[[Tensor], Tensor] | None
    context_length: int
    width: int
    pad: bool
    vocabulary: int
    start: int | None
    end: int | None
    project: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Family:
    """A row of the table of what is supported, with a tiny random model on which that can be checked offline.

    Attributes:
        name: library and kind of model, ``"transformers CLIP"``.
        models: classes of the library that belong to it.
        build: a tiny random model from a configuration; its texts have up to :data:`CONTEXT` tokens below
            :data:`VOCABULARY`, which is the number of classes of a classifier as well.
        size: native height and width of the tiny model's images.
        oblong: another size that it takes; ``None`` if its forward pass takes one size only.
        text: whether there is a text encoder beside the image encoder.
        note: what a user should know.
    """

    name: str
    models: str
    build: Callable[[], nn.Module]
    size: tuple[int, int] = (32, 32)
    oblong: tuple[int, int] | None = (40, 24)
    text: bool = True
    note: str = ""


ROTARY = "rotary positions are applied before attention, so queries and keys are the rotated ones"
SEVERAL = "no single read-out token: summed over the tokens that the score reads (our extension)"
CONTEXT, VOCABULARY = 12, 50
START, END = VOCABULARY - 2, VOCABULARY - 1


def blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer encoder, by the names that libraries give to their list.

    Raises:
        UnsupportedModelError: if there is none.
    """
    for name, part in module.named_modules():
        if isinstance(part, (nn.ModuleList, nn.Sequential)) and name.split(".")[-1] in _BLOCKS and len(part):
            return list(part)
    raise UnsupportedModelError(f"model: no list of transformer blocks in {type(module).__name__}")


_BLOCKS = ("resblocks", "blocks", "layers", "layer", "block", "h")


def uncompiled(module: Any) -> Any:
    """The module that :func:`torch.compile` was given: compiled code makes no calls that could be intercepted."""
    original = getattr(module, "_orig_mod", None)
    if original is None:
        return module
    warnings.warn(
        f"{type(original).__name__} was compiled by torch.compile; it is explained as it was written, not compiled",
        stacklevel=4,
    )
    return original


def first_row(inputs: Tensor) -> Tensor:
    """The read-out token of a tower with a class token in front."""
    return torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)


def unsupported(kind: str, supported: str) -> UnsupportedModelError:
    """The error for a tower that no adapter explains, with what to do instead."""
    if any(name in kind.lower() for name in _WITHOUT_PLAIN_ATTENTION):
        return UnsupportedModelError(
            f"model: {kind} is convolutional or hierarchical: no layer attends from one read-out token to all patches of"
            " the image, so there are no queries, keys and values that Grad-ECLIP could explain; use"
            " captum.attr.LayerGradCam on its last stage"
        )
    return UnsupportedModelError(
        f"model: {kind} has no adapter; supported are {supported}. Any model with plain attention can be explained through"
        " a callable, GradECLIP(lambda x: model(x), layer); for convolutional ones use captum.attr.LayerGradCam"
    )


_WITHOUT_PLAIN_ATTENTION = (
    *("swin", "convnext", "resnet", "regnet", "efficientnet", "mobilenet", "mobilevit", "densenet", "vgg", "nfnet"),
    *("maxvit", "maxxvit", "coatnet", "hiera", "mvit", "multiscale", "pvt", "pyramid", "segformer", "davit", "focal"),
    *("nest", "edgenext", "convformer", "metaformer", "poolformer", "fastvit", "efficientvit", "levit", "twins"),
)


def replaced(module: nn.Module, name: str, value: Any) -> Any:
    """A shallow view of a module in which one parameter, part or attribute is another; the module is not touched.

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
    elif head in module._parameters:
        view._parameters = {**module._parameters, head: value}  # a plain tensor will do
    elif head in module._modules:
        view._modules = {**module._modules, head: value}
    else:
        view.__dict__[head] = value
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


def square(projection: Any) -> Callable[[Tensor], Tensor] | None:
    """A projection, a matrix or a linear layer, as a function, if it is square and without a bias."""
    if isinstance(projection, nn.Linear):
        return projection if projection.bias is None and projection.in_features == projection.out_features else None
    if projection is None or projection.shape[0] != projection.shape[1]:
        return None
    return lambda features: features @ projection


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
