"""What a pass over a large input will cost, told before it is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from . import adapters
from .adapters.base import execution_device
from .timing import Stopwatch

_HEAD = 64
"""Channels of a head, in nearly all models."""
_SLOWER = 2.5
"""How much slower the products of queries and keys are than others of as many numbers, since all of their results go through
memory; measured on CPUs."""
_STATES = 12
"""States of all tokens that a block holds at once: its input, queries, keys, values, and four times as many in its MLP."""


@dataclass(frozen=True)
class Estimate:
    """The cost of one pass of an image tower.

    Attributes:
        patches: number of patches.
        seconds: its time.
        memory: bytes that it takes beside the weights.
    """

    patches: int
    seconds: float
    memory: int

    def __str__(self) -> str:
        amount = f"{self.memory / 2**30:.1f} GiB" if self.memory > 2**29 else f"{self.memory / 2**20:.0f} MiB"
        return f"{self.patches:,} patches, about {duration(self.seconds)} and {amount} a pass"


def estimate(model: nn.Module, size: Sequence[int]) -> Estimate:
    r"""Times a pass at the model's own size, and scales it to another one.

    With n tokens of width d and L blocks of P weights each, a pass takes

    .. math:: 2 n L P + 4 c n^2 d L

    multiplications and additions, where c says how much slower attention is than the rest, and its largest matrix has one
    number for each head and pair of tokens.

    Args:
        model: a model that an adapter knows; used as it is.
        size: height and width of the input in pixels.

    Raises:
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import scenes
    >>> model, _, _ = scenes.load()
    >>> height, width = model.visual.image_size
    >>> estimate(model, (2 * height, 2 * width)).patches == 4 * estimate(model, (height, width)).patches
    True
    """
    tower = adapters.image_tower(model)
    weights = [sum(one.numel() for one in site.module.parameters()) for site in tower.sites if site.kind == "self"]
    block = sum(weights) / max(1, len(weights)) or 1.0
    width = math.sqrt(block / 12)  # four matrices of attention, and eight of an MLP of four times the width

    def work(tokens: int) -> float:
        return 2 * tokens * block + 4 * _SLOWER * tokens**2 * width

    device = execution_device(model)
    images = torch.zeros(1, tower.channels, *tower.size, dtype=tower.dtype, device=device)
    with torch.no_grad():
        tower.encode(images)  # the first pass of a model is slower than all others
        with Stopwatch(device) as watch:
            tower.encode(images)
    native, patches = math.prod(tower.grid(tower.size)), math.prod(tower.grid(size))
    numbers = patches**2 * width / _HEAD + _STATES * patches * width
    return Estimate(patches, watch.seconds * work(patches) / work(native), round(numbers * tower.dtype.itemsize))


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    Args:
        seconds: the time in seconds.

    >>> duration(0.25), duration(7.4), duration(200)
    ('0.2 s', '7 s', '3 min')
    """
    return f"{seconds:.1f} s" if seconds < 3 else f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
