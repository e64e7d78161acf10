"""Words about scenes with the masks of the things that have what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import ClassVar

from torch import Tensor

from ... import scenes
from ...scenes import Phrase, Scene, SceneDataset, Thing
from ...scenes.world import Split
from .base import DataArguments, Sample
from .region import Region

_ATTRIBUTES: Mapping[str, Callable[[Thing], str]] = {
    "color": lambda thing: thing.colour,
    "shape": lambda thing: thing.shape,
    "material": lambda thing: thing.material,
    "size": lambda thing: thing.size,
}
_APART = 0.2  # share of the picture's width, from which on one of two things is the left one


@dataclass(frozen=True)
class SceneRegions:
    """Held-out scenes with all words for the colors, shapes, materials, sizes and places of their things, and some phrases.

    A place is the side of the picture on which a thing clearly lies, as in the captions of the embedded model.

    Args:
        length: number of scenes, at least 1.
        counts: the numbers of things in a scene, drawn with equal chance (default 2, 3 or 4).
        split: ``"evaluation"`` (default), ``"validation"`` or ``"train"``.
        seed: seed of the scenes (default 0).

    >>> [(region.kind, region.text) for region in SceneRegions(1)[0].regions][:3]
    [('color', 'blue'), ('color', 'red'), ('color', 'cyan')]
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
    def from_arguments(cls, arguments: DataArguments) -> SceneRegions:
        """By default 500 scenes."""
        length = 500 if arguments.samples is None else arguments.samples
        return cls(length, arguments.counts, arguments.split, arguments.seed)

    @property
    def about(self) -> Mapping[str, object]:
        """All arguments."""
        return asdict(self)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        image, masks, scene = SceneDataset(self.length, self.split, self.seed, counts=self.counts)[index]
        id = f"{self.split}-{self.seed}-{index:06d}"
        return Sample(id, index, image, regions=tuple(regions(scene, list(masks))))


def regions(scene: Scene, masks: Sequence[Tensor]) -> list[Region]:
    """All words and phrases about a scene, with the masks of the things that each is true of.

    Args:
        scene: the scene.
        masks: the mask ``(H, W)`` of each of its things, boolean.
    """
    things = scene.things
    found: list[Region] = []

    def add(text: str, kind: str, fits: Sequence[bool], among: Sequence[bool] | None = None) -> None:
        found.extend(Region.of_things(text, kind, masks, fits, among))

    for kind, attribute in _ATTRIBUTES.items():
        for value in dict.fromkeys(map(attribute, things)):
            add(value, kind, [attribute(thing) == value for thing in things])
    for place in scenes.PLACES:
        add(place, "location", [place in thing.places for thing in things])
    first = things[0]
    alike = [(thing.size, thing.shape) == (first.size, first.shape) for thing in things]
    add(Phrase(size=first.size, shape=first.shape).words(), "size + shape", alike)
    for place in sorted(first.places)[:1]:
        here = [thing.colour == first.colour and place in thing.places for thing in things]
        where = f"at the {place}" if place in ("top", "bottom") else f"on the {place}"
        add(f"{Phrase(first.colour).words()} {where}", "location + color", here)
    for pair in combinations(range(len(things)), 2):
        one, other = (things[number] for number in pair)
        alone = [thing.shape for thing in things].count(one.shape) == 2
        if alone and one.shape == other.shape and abs(one.x - other.x) > _APART:
            left = min(pair, key=lambda number: things[number].x)
            fits, among = [n == left for n in range(len(things))], [n in pair for n in range(len(things))]
            texts = {"shape": one.shape, "location + shape": f"{one.shape} on the left", "location": "left"}
            for kind, text in texts.items():
                add(text, f"left thing: {kind}", fits, among)
            break
    return found
