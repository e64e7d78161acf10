"""What a pass over a large input will cost, told before it is run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import adapters, attr
from .adapters.base import execution_device
from .attr.registry import Named
from .progress import duration as duration
from .scores import ModelScore
from .timing import Stopwatch

_HEAD = 64
"""Channels of a head, in nearly all models."""
_SLOWER = 2.5
"""How much slower the products of queries and keys are than others of as many numbers, since all of their results go through
memory; measured on CPUs."""
_AT_ONCE = 16
"""Images of the pass that is timed on a GPU, which takes hardly longer for them than for one."""
_STATES = 12
"""States of all tokens that a block holds at once: its input, queries, keys, values, and four times as many in its MLP."""


@dataclass(frozen=True)
class Estimate:
    """The cost of one pass of an image tower.

    Attributes:
        patches: number of patches.
        seconds: its time.
        memory: bytes that it takes beside the weights.

    >>> print(Estimate(patches=4096, seconds=0.5, memory=2**30))
    4,096 patches, about 0.5 s and 1.0 GiB a pass
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

    Returns:
        The number of patches, seconds and bytes of a pass of one image.

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


def expect(
    score: ModelScore,
    inputs: Tensor,
    methods: Named | list[Named] = "all",
    targets: int = 1,
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, float]:
    """Times a pass of some inputs, and tells from it how long methods will take.

    Args:
        score: as for :func:`captum_gradeclip.attr.compare`, and so are the other arguments.
        inputs: images ``(N, C, H, W)`` or token ids ``(N, L)``.
        methods: what is going to be run.
        targets: number of targets, at least 1 (default).
        options: options by the name of a method.

    Returns:
        About how many seconds each method will take, by its printed name. Methods that are not defined for the inputs have
        none.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> found = expect(score, torch.rand(1, 3, 96, 96), ["Grad-ECLIP", "RISE"], options={"RISE": {"n_masks": 500}})
    >>> found["RISE"] > 100 * found["Grad-ECLIP"]
    True
    """
    device, image = inputs.device, inputs.is_floating_point()
    many = _AT_ONCE if device.type != "cpu" and image else 1
    given = {attr.find_method(name): some for name, some in (options or {}).items()}
    with torch.no_grad():
        batch = inputs.repeat_interleave(many, dim=0)
        score(batch)  # the first pass of a model is slower than all others
        with Stopwatch(device) as watch:
            score(batch)
    kinds = [attr.find_method(one) for one in attr.find_methods(methods)]
    return {
        kind.info.name: watch.seconds / many * kind.passes(score, inputs, targets, kind.checked(given.get(kind, {})))
        for kind in kinds
        if (kind.info.image if image else kind.info.text)
    }


def told(seconds: Mapping[str, float]) -> str:
    """How long all of some work will take, and those parts of it that take most.

    Args:
        seconds: the time of each part by its name.

    Returns:
        One line.

    >>> told({"RISE": 130.0, "Grad-ECLIP": 0.4, "M2IB": 61.0, "GAME": 0.6})
    'about 3 min: RISE 2 min, M2IB 61 s, others 1.0 s'
    """
    total, rest = sum(seconds.values()), 0.0
    parts = []
    for name, one in sorted(seconds.items(), key=lambda pair: -pair[1]):
        if one < total / 20:
            rest += one
        else:
            parts.append(f"{name} {duration(one)}")
    return f"about {duration(total)}: {', '.join([*parts, *([f'others {duration(rest)}'] if rest else [])])}"
