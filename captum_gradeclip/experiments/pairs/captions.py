"""Captions of two things, with the places of the words that name their colors and shapes."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import scenes
from ...scenes import Phrase, SceneItem, Thing

WORDS = (2, 3, 6, 7)
"""Places of the colors and shapes among the tokens of "a COLOR SHAPE and a COLOR SHAPE", behind the start mark."""
KINDS = ("color", "shape", "color", "shape")
"""What each of these words names; the first two belong to the first thing, the others to the second."""


@dataclass(frozen=True)
class PairBatch:
    """Scenes of two things with a caption each.

    Attributes:
        items: the scenes.
        pixels: the model's inputs ``(N, 3, H, W)``, on its device.
        tokens: the captions ``(N, L)``, on the same device.
        first: place of the first of the scenes in its series, which seeds what is drawn (default 0).
    """

    items: Sequence[SceneItem]
    pixels: Tensor
    tokens: Tensor
    first: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def captions(self, without: Container[int] = ()) -> list[str]:
        """The caption of each scene, without some of the four words."""
        return [caption(item.scene.things, without) for item in self.items]

    def masks(self, word: int) -> Tensor:
        """The mask of the thing that one of the four words belongs to, ``(N, H, W)``."""
        return torch.stack([item.masks[word // 2] for item in self.items])


def caption(things: Sequence[Thing], without: Container[int] = ()) -> str:
    """The caption "a COLOR SHAPE and a COLOR SHAPE" of two things.

    Args:
        things: two things.
        without: which of the four colors and shapes are left out, numbers 0 to 3 (default none of them).

    >>> ring = Thing("red", "ring", "plain", "small", x=0.2, y=0.5, radius=0.1, angle=0.0)
    >>> star = Thing("orange", "star", "plain", "small", x=0.8, y=0.5, radius=0.1, angle=0.0)
    >>> caption([ring, star]), caption([ring, star], without=[1, 2])
    ('a red ring and an orange star', 'a red and an star')
    """
    phrases = [scenes.with_article(Phrase(thing.colour, thing.shape).words()).split() for thing in things]
    words = [*phrases[0], "and", *phrases[1]]
    left_out = {place for number, place in enumerate(WORDS) if number in without}
    return " ".join(word for place, word in enumerate(words, start=1) if place not in left_out)
