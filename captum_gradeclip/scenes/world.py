"""What a scene is: coloured things with a shape, a material, a size and a place, drawn at random from a seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 60),
    "blue": (40, 80, 225),
    "yellow": (245, 220, 40),
    "purple": (130, 50, 180),
    "orange": (255, 135, 10),
    "cyan": (50, 210, 220),
    "pink": (250, 140, 195),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
MATERIALS = ("plain", "striped")
SIZES = {"small": (0.17, 0.19), "large": (0.24, 0.27)}  # radius, as a share of the picture's side
PLACES = ("left", "right", "top", "bottom")

Split = Literal["train", "validation", "evaluation"]
# A scene belongs to the split that the hash of its own description names, so the three can never share one.
_BUCKETS: dict[Split, range] = {"train": range(0, 8), "validation": range(8, 9), "evaluation": range(9, 10)}


@dataclass(frozen=True)
class Thing:
    """One object of a scene; ``x`` (to the right), ``y`` (down) and ``radius`` are shares of the picture's side."""

    colour: str
    shape: str
    material: str
    size: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def places(self) -> frozenset[str]:
        """The sides of the picture on which the thing clearly lies.

        >>> sorted(Thing("red", "star", "plain", "small", x=0.2, y=0.8, radius=0.1, angle=0.0).places)
        ['bottom', 'left']
        """
        sides = {"left": self.x < 0.4, "right": self.x > 0.6, "top": self.y < 0.4, "bottom": self.y > 0.6}
        return frozenset(place for place, holds in sides.items() if holds)


@dataclass(frozen=True)
class Scene:
    """Things in the order in which they are painted, on a background that ``texture`` seeds."""

    things: tuple[Thing, ...]
    texture: int


def split_of(things: tuple[Thing, ...]) -> Split:
    """The split to which an arrangement belongs, decided by its description alone (positions on a 64 x 64 grid)."""
    words = sorted(f"{t.colour} {t.shape} {t.material} {t.size} {int(t.x * 64)} {int(t.y * 64)}" for t in things)
    bucket = zlib.crc32("; ".join(words).encode()) % 10
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


def sample_scene(seed: int, index: int, split: Split = "train", counts: tuple[int, ...] = (1, 1, 1, 2, 3, 4)) -> Scene:
    """Scene number ``index`` of a split: always the same one for the same arguments.

    Args:
        seed: of the whole series.
        index: position in the series, from 0.
        split: ``"train"``, ``"validation"`` or ``"evaluation"``; disjoint by construction (see :func:`split_of`).
        counts: numbers of things, one of which is drawn with equal chance (repeat a number to prefer it).

    Raises:
        ValueError: for an unknown split.

    >>> sample_scene(0, 7) == sample_scene(0, 7)
    True
    >>> split_of(sample_scene(0, 7, "evaluation").things)
    'evaluation'
    """
    if split not in _BUCKETS:
        raise ValueError(f"split: expected one of {get_args(Split)}, got {split!r}")
    rng = np.random.default_rng([seed, index, tuple(_BUCKETS).index(split)])
    while True:
        things = _arrange(rng, int(rng.choice(counts)))
        if split_of(things) == split:
            return Scene(things, texture=int(rng.integers(2**31)))


def _arrange(rng: np.random.Generator, count: int) -> tuple[Thing, ...]:
    """``count`` random things, none of which covers another; starts afresh when there is no room left."""
    while True:
        things: list[Thing] = []
        for _ in range(40 * count):
            thing = _sample_thing(rng)
            if all(np.hypot(thing.x - t.x, thing.y - t.y) > 0.95 * (thing.radius + t.radius) for t in things):
                things.append(thing)
            if len(things) == count:
                return tuple(things)


def _sample_thing(rng: np.random.Generator) -> Thing:
    size = str(rng.choice(list(SIZES)))
    radius = float(rng.uniform(*SIZES[size]))
    x, y = rng.uniform(0.9 * radius, 1 - 0.9 * radius, 2)
    return Thing(
        colour=str(rng.choice(list(COLOURS))),
        shape=str(rng.choice(SHAPES)),
        material=str(rng.choice(MATERIALS)),
        size=size,
        x=float(x),
        y=float(y),
        radius=radius,
        angle=float(rng.uniform(-0.35, 0.35)),
    )
