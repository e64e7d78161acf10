"""Does the interception reproduce a model? The first question to ask of a new one, answered live."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import adapters
from .attention import Interception, model_heads, single_head
from .attr import GradECLIP
from .scores import ClassScore, ImageTextScore, TextImageScore
from .timing import Stopwatch

TOLERANCE = 1e-4
"""How far a model may differ from itself under interception, relative to the largest value of its output."""


@dataclass(frozen=True)
class Check:
    """What one tower of a model showed.

    Attributes:
        tower: the tower that was checked, ``"image"`` or ``"text"``.
        layers: number of attention layers, all of which were intercepted at once.
        tokens: number of keys of the last layer.
        error: largest difference between the model's output and that of the intercepted model with its own heads,
            relative to the largest value of the output.
        change: the same difference with one head in the last layer, which is the network that the paper explains.
        map: shape of a Grad-ECLIP map.
        varies: whether the signed map is finite and not constant.
        seconds: time that this map took.

    >>> (check,) = self_check(adapters.families()["torchvision ViT"].build().eval())
    >>> check.tower, check.layers, check.map, check.error < TOLERANCE
    ('image', 3, (1, 1, 4, 4), True)
    """

    tower: str
    layers: int
    tokens: int
    error: float
    change: float
    map: tuple[int, ...]
    varies: bool
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the model reproduces itself and the map says something."""
        return self.error < TOLERANCE and self.varies


def self_check(model: nn.Module, images: Tensor | None = None, tokens: Tensor | None = None) -> list[Check]:
    """Runs every tower of a model as it is and under interception, and explains it once.

    Args:
        model: a model that an adapter knows.
        images: images ``(N, C, H, W)``; ``None`` (default) for noise at the native size.
        tokens: token ids ``(N, L)``; ``None`` (default) for random ones between the model's marks.

    Returns:
        One check for the image tower and, if there is one, one for the text tower.

    Raises:
        UnsupportedModelError: if no adapter knows the model.

    >>> [check.passed for check in self_check(adapters.families()["transformers BLIP"].build().eval())]
    [True, True]
    """
    tower = adapters.image_tower(model)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    if images is None:
        images = torch.randn(1, tower.channels, *tower.size, generator=generator)
    images = images.to(device, tower.dtype)
    try:
        text = adapters.text_tower(model)
    except adapters.UnsupportedModelError:
        if tower.classes:
            return [_check("image", ClassScore(model), images)]
        direction = torch.randn(1, tower.width, generator=generator)  # an encoder without classes or texts of its own
        return [_check("image", ImageTextScore(model, direction), images)]
    tokens = (_random_tokens(text, generator) if tokens is None else tokens).to(device)
    return [
        _check("image", ImageTextScore(model, tokens), images),
        _check("text", TextImageScore(model, images), tokens),
    ]


def _check(name: str, score: ImageTextScore | TextImageScore | ClassScore, inputs: Tensor) -> Check:
    encode = (adapters.text_tower if name == "text" else adapters.image_tower)(score.model).encode
    with torch.no_grad():
        expected = encode(inputs)
        with Interception(score.layers, model_heads) as seen:
            own = encode(inputs)
        with Interception(score.layers[-1:], single_head):
            single = encode(inputs)
    with Stopwatch(inputs.device) as watch:
        signed = GradECLIP(score, score.layers[-1:]).attribute(inputs, target=0, relu_attributions=False)
    return Check(
        tower=name,
        layers=len(score.layers),
        tokens=seen.records()[-1].key.shape[-2],
        error=_relative(own, expected),
        change=_relative(single, expected),
        map=tuple(signed.shape),
        varies=bool(signed.isfinite().all() and signed.std() > 0),
        seconds=watch.seconds,
    )


def _relative(got: Tensor, expected: Tensor) -> float:
    difference = (got - expected).abs().max() / expected.abs().max()
    return float(difference.detach().nan_to_num(float("inf")))


def _random_tokens(tower: adapters.TextTower, generator: torch.Generator) -> Tensor:
    length = min(tower.context_length, 16)
    words = torch.randint(1, max(2, tower.vocabulary - 2), (1, length - 4), generator=generator)
    start, end = (torch.tensor([[]] if mark is None else [[mark]], dtype=torch.long) for mark in (tower.start, tower.end))
    text = torch.cat([start, words, end], dim=1)
    padding = (tower.context_length if tower.pad else length) - text.shape[1]
    return torch.nn.functional.pad(text, (0, padding))
