"""Scenes: colored things with a shape, a material, a size and a place, drawn at random from a seed."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..arguments import one_of

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
"""The colors of things by name, red, green and blue from 0 to 255."""
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
"""The shapes of things."""
PAIRS = list(itertools.product(COLOURS, SHAPES))
"""The 48 pairs of a color and a shape, which are the classes of scenes, in their order."""
MATERIALS = ("plain", "striped")
"""The materials of things."""
SIZES = {"small": (0.17, 0.19), "large": (0.24, 0.27)}
"""The sizes of things by name: the least and the largest radius, as a share of the picture's side."""
MOST_THINGS = 6
"""More things than this hardly ever find room beside each other, and the search for it would not end."""
PLACES = ("left", "right", "top", "bottom")
"""The halves of a picture in which captions say that a thing lies."""

Split = Literal["train", "validation", "evaluation"]
# The hash of a scene's description decides its split, so that no scene can belong to two of them.
_BUCKETS: dict[Split, range] = {"train": range(0, 8), "validation": range(8, 9), "evaluation": range(9, 10)}


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Attributes:
        colour: a key of :data:`COLOURS`.
        shape: one of :data:`SHAPES`.
        material: one of :data:`MATERIALS`.
        size: a key of :data:`SIZES`.
        x: center, as a share of the picture's width from the left, 0 to 1.
        y: center, as a share of the picture's height from the top, 0 to 1.
        radius: radius, as a share of the picture's side.
        angle: rotation in radians, clockwise.

    >>> from captum_gradeclip.scenes import name
    >>> thing = Thing("red", "star", "plain", "small", x=0.2, y=0.5, radius=0.18, angle=0.0)
    >>> name(thing).text, sorted(thing.places)
    ('red star', ['left'])
    """

    colour: str
    shape: str
    material: str
    size: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def pair(self) -> int:
        """The number of its color and shape among :data:`PAIRS`.

        >>> PAIRS[Thing("red", "star", "plain", "small", x=0.2, y=0.8, radius=0.1, angle=0.0).pair]
        ('red', 'star')
        """
        return PAIRS.index((self.colour, self.shape))

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
    """An arrangement of things on a background.

    Attributes:
        things: the things in the order in which they are painted.
        texture: seed of the background and of the noise.

    >>> from captum_gradeclip.scenes import draw
    >>> thing = Thing("red", "square", "plain", "large", x=0.5, y=0.5, radius=0.25, angle=0.0)
    >>> picture, masks = draw(Scene((thing,), texture=0), size=64)
    >>> picture.size, masks.shape, bool(masks[0, 32, 32]), bool(masks[0, 0, 0])
    ((64, 64), (1, 64, 64), True, False)
    """

    things: tuple[Thing, ...]
    texture: int


def split_of(things: tuple[Thing, ...]) -> Split:
    """Tells to which split an arrangement belongs, by its description alone.

    Args:
        things: the things, in any order; their positions are rounded to a grid of 64 x 64.

    Returns:
        ``"train"``, ``"validation"`` or ``"evaluation"``.

    >>> things = sample_scene(seed=0, index=5, split="validation", counts=(3,)).things
    >>> split_of(things), split_of(things[::-1])
    ('validation', 'validation')
    """
    words = sorted(f"{t.colour} {t.shape} {t.material} {t.size} {int(t.x * 64)} {int(t.y * 64)}" for t in things)
    bucket = zlib.crc32("; ".join(words).encode()) % 10
    return next(split for split, buckets in _BUCKETS.items() if bucket in buckets)


def sample_scene(seed: int, index: int, split: Split = "train", counts: tuple[int, ...] = (1, 1, 1, 2, 3, 4)) -> Scene:
    """Draws scene number ``index`` of a split, always the same one for the same arguments.

    Args:
        seed: seed of the whole series of scenes.
        index: number of the scene in the series, from 0.
        split: ``"train"`` (the default), ``"validation"`` or ``"evaluation"``; disjoint by construction, see
            :func:`split_of`.
        counts: numbers of things, one of which is drawn with equal chance; a number that is repeated is drawn more often
            (default 1, 1, 1, 2, 3, 4).

    Returns:
        The scene.

    Raises:
        ValueError: if the split is unknown.

    >>> sample_scene(0, 7) == sample_scene(0, 7)
    True
    >>> split_of(sample_scene(0, 7, "evaluation").things)
    'evaluation'
    """
    one_of("split", split, Split)
    rng = np.random.default_rng([seed, index, tuple(_BUCKETS).index(split)])
    while True:
        things = _arrange(rng, int(rng.choice(counts)))
        if split_of(things) == split:
            return Scene(things, texture=int(rng.integers(2**31)))


def twin(scene: Scene, seed: int) -> Scene:
    """A training scene with the same colors at the same places, in which shapes are exchanged.

    A caption that names color and shape of one thing is hardly ever true of both. Only who knows which color belongs to
    which shape can tell the two apart.

    Args:
        scene: a scene of the training split.
        seed: seed of the choice.

    Returns:
        A scene of the training split, in which two things have exchanged their shapes, or one has another shape.

    >>> scene = sample_scene(0, 4)
    >>> [thing.colour for thing in twin(scene, 0).things] == [thing.colour for thing in scene.things]
    True
    """
    rng = np.random.default_rng([seed, scene.texture])
    numbers = rng.permutation(len(scene.things))
    one, other = scene.things[numbers[0]], scene.things[numbers[-1]]  # of a single thing, both are it
    changes = [{numbers[0]: replace(one, shape=other.shape), numbers[-1]: replace(other, shape=one.shape)}]
    # Of a few things, no other shape belongs to the split; then another material will do as well.
    for others in (False, True):
        for number, shape in itertools.product(numbers, rng.permutation(SHAPES)):
            thing = scene.things[number]
            material = next(name for name in MATERIALS if (name == thing.material) != others)
            changes.append({number: replace(thing, shape=str(shape), material=material)})
    for change in changes:
        things = tuple(change.get(number, thing) for number, thing in enumerate(scene.things))
        if [thing.shape for thing in things] != [thing.shape for thing in scene.things] and split_of(things) == "train":
            return Scene(things, scene.texture)
    raise AssertionError("one change of at least ten belongs to the training split")


def _arrange(rng: np.random.Generator, count: int) -> tuple[Thing, ...]:
    """Draws ``count`` things, none of which covers another; starts again when there is no room left."""
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
