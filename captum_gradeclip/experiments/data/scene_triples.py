"""Triples of words about scenes: a color and a noun, or a relation and a noun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from ... import scenes
from ...scenes import Caption, Phrase, Scene, SceneDataset, Thing
from ...scenes.world import Split
from .base import DataArguments, LeftOutError, Sample
from .triple import Triple

ADJECTIVE, RELATION = "adjective + noun", "relation + noun"
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


@dataclass(frozen=True)
class SceneTriples:
    """Two samples of each held-out scene: "ring" with "red", and "star" with "left" as in "a thing left of a star".

    The color that does not match belongs to nothing in the scene, and a relation does not match if nothing stands in it to
    a thing of that shape. Relations stand in the place of the verbs of the Grad-ECLIP paper, which scenes do not have. A
    scene in which no relation excludes its opposite has no second sample; it is left out and counted.

    Args:
        length: number of scenes, at least 1; there are twice as many samples.
        counts: the numbers of things in a scene, drawn with equal chance (default 2, 3 or 4).
        split: ``"evaluation"`` (default), ``"validation"`` or ``"train"``.
        seed: seed of the scenes (default 0).

    >>> SceneTriples(1)[0].triple.texts
    ('triangle', 'cyan', 'orange', 'cyan triangle', 'orange triangle')
    """

    length: int
    counts: tuple[int, ...] = (2, 3, 4)
    split: Split = "evaluation"
    seed: int = 0

    name: ClassVar[str] = "scenes"
    segmented: ClassVar[bool] = False
    summary: ClassVar[str] = "held-out scenes of the embedded model"
    takes: ClassVar[tuple[str, ...]] = ("samples", "split", "seed", "counts")
    layout: ClassVar[str] = ""
    classes: ClassVar[Sequence[str]] = ()
    templates: ClassVar[Sequence[str]] = ()

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> SceneTriples:
        """By default of 500 scenes."""
        samples = 1000 if arguments.samples is None else arguments.samples
        return cls(-(-samples // 2), arguments.counts, arguments.split, arguments.seed)

    @property
    def about(self) -> Mapping[str, object]:
        """All arguments."""
        return asdict(self)

    def __len__(self) -> int:
        return 2 * self.length

    def __getitem__(self, index: int) -> Sample:
        number, second = divmod(index, 2)
        image, _, scene = SceneDataset(self.length, self.split, self.seed, counts=self.counts)[number]
        id = f"{self.split}-{self.seed}-{number:06d}-{'relation' if second else 'adjective'}"
        rng = np.random.default_rng([self.seed, index])
        triple = relation(scene, rng) if second else adjective(scene, rng)
        if triple is None:
            raise LeftOutError(f"{id}: no relation of this scene excludes its opposite")
        return Sample(id, index, image, triple=triple)


def adjective(scene: Scene, rng: np.random.Generator) -> Triple:
    """The shape and color of one thing, and a color of none."""
    thing: Thing = scene.things[int(rng.integers(len(scene.things)))]
    absent = [color for color in scenes.COLOURS if all(color != one.colour for one in scene.things)]
    wrong = str(rng.choice(absent))
    matched, mismatched = (Phrase(color, thing.shape).words() for color in (thing.colour, wrong))
    return Triple(thing.shape, thing.colour, wrong, matched, mismatched, ADJECTIVE)


def relation(scene: Scene, rng: np.random.Generator) -> Triple | None:
    """A shape with a relation in which something stands to it, and with the opposite one; ``None`` if there is none."""

    def said(shape: str, how: str) -> Caption:
        return Caption(f"a thing {how} {scenes.with_article(shape)}", (Phrase(), Phrase(shape=shape)), how)

    found = [
        (shape, how)
        for shape in dict.fromkeys(thing.shape for thing in scene.things)
        for how in _OPPOSITE
        if scenes.holds(said(shape, how), scene) and not scenes.holds(said(shape, _OPPOSITE[how]), scene)
    ]
    if not found:
        return None
    shape, how = found[int(rng.integers(len(found)))]
    right, wrong = said(shape, how), said(shape, _OPPOSITE[how])
    return Triple(shape, how.split()[0], _OPPOSITE[how].split()[0], right.text, wrong.text, RELATION)
