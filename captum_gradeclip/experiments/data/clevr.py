"""CLEVR's scenes with the masks of their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ...quoting import quoted
from .base import DataArguments, DataError, Sample
from .json_places import Step, error_at
from .readers import fingerprint, folder, needed, read_json, read_with_mask
from .region import Region

VALUES = {
    "color": ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    "shape": ("cube", "sphere", "cylinder"),
    "material": ("rubber", "metal"),
    "size": ("small", "large"),
}
"""What CLEVR calls the values of each attribute."""
WORDS = {"rubber": "matte", "large": "big"}
"""The words of the Grad-ECLIP paper for values that CLEVR calls otherwise."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene: its values by attribute, and the column of its center in pixels."""

    values: Mapping[str, str]
    x: float


class Clevr:
    """The scenes of a ``CLEVR_*_scenes.json`` with pictures, and with masks that the user has made.

    The words of a picture are those of all values that some of its objects have, by color, shape, material and size, and
    ``"left"`` and ``"right"`` for the objects whose center lies in that half. The phrases are ``"small cube"`` and ``"left
    red thing"``, and, where two objects share a shape, ``"sphere"``, ``"left sphere"`` and ``"left"`` for the left one.

    Args:
        annotations: the JSON file, as CLEVR has it: ``scenes``, each with ``image_filename`` and ``objects``, each of these
            with ``color``, ``shape``, ``material``, ``size`` and ``pixel_coords``.
        root: the folder that holds ``images`` and ``masks``. A mask ``masks/NAME.png`` has the size of its picture, and its
            pixels hold the number of the object in the scene, counted from 1, and 0 where there is none.

    Raises:
        DataError: for a file of another format, naming line and column.
    """

    name: ClassVar[str] = "clevr"
    summary: ClassVar[str] = "CLEVR's scenes.json with masks of the objects"
    takes: ClassVar[tuple[str, ...]] = ("annotations", "root", "samples")
    layout: ClassVar[str] = ""
    segmented: ClassVar[bool] = False
    classes: Sequence[str] = ()
    templates: Sequence[str] = ()

    def __init__(self, annotations: Path, root: Path) -> None:
        self.images, self.masks = folder(root / "images"), folder(root / "masks")
        self.scenes = _read(annotations)
        self.about: Mapping[str, object] = fingerprint(root, len(self.scenes), self.scenes)

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> Clevr:
        """Both have to be given."""
        annotations = needed(arguments.annotations, "annotations", cls.name)
        return cls(annotations, needed(arguments.root, "root", cls.name))

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Sample:
        file, things = self.scenes[index]
        path = self.masks / f"{Path(file).stem}.png"
        image, values = read_with_mask(self.images / file, path)
        if values.shape != (image.height, image.width):
            raise DataError(
                f"{path}: expected one number for each of {image.width} x {image.height} pixels, got {values.shape}"
            )
        if values.min() < 0 or values.max() > len(things):
            raise DataError(f"{path}: expected 0, or the number of one of {len(things)} objects from 1, got {values.max()}")
        numbers = torch.from_numpy(values)
        masks = [numbers == number for number in range(1, len(things) + 1)]
        return Sample(file, index, image, regions=tuple(regions(things, masks, image.width)))


def regions(things: Sequence[Thing], masks: Sequence[Tensor], width: int) -> list[Region]:
    """All words and phrases about a scene, with the masks of the objects that each is true of.

    Args:
        things: the objects.
        masks: the mask ``(H, W)`` of each of them, boolean; an object that is hidden has an empty one.
        width: width of the picture in pixels.
    """
    found: list[Region] = []
    sides = ["left" if thing.x < width / 2 else "right" for thing in things]

    def add(text: str, kind: str, fits: Sequence[bool], among: Sequence[bool] | None = None) -> None:
        found.extend(Region.of_things(text, kind, masks, fits, among))

    for attribute, values in VALUES.items():
        for value in values:
            add(WORDS.get(value, value), attribute, [thing.values[attribute] == value for thing in things])
    for side in ("left", "right"):
        add(side, "location", [one == side for one in sides])
    if things:
        first = things[0].values
        both = [all(thing.values[name] == first[name] for name in ("size", "shape")) for thing in things]
        add(f"{WORDS.get(first['size'], first['size'])} {first['shape']}", "size + shape", both)
        here = [thing.values["color"] == first["color"] and side == sides[0] for thing, side in zip(things, sides)]
        add(f"{sides[0]} {first['color']} thing", "location + color", here)
    pair = next((pair for pair in combinations(range(len(things)), 2) if _apart(things, pair, width)), None)
    if pair is not None:
        left = min(pair, key=lambda number: things[number].x)
        shape = things[left].values["shape"]
        fits, among = [n == left for n in range(len(things))], [n in pair for n in range(len(things))]
        for text, kind in ((shape, "shape"), (f"left {shape}", "location + shape"), ("left", "location")):
            add(text, f"left thing: {kind}", fits, among)
    return found


def _apart(things: Sequence[Thing], pair: tuple[int, int], width: int) -> bool:
    """Whether two things are the only ones of their shape, and clearly beside each other."""
    one, other = (things[number] for number in pair)
    shape = one.values["shape"]
    alone = [thing.values["shape"] for thing in things].count(shape) == 2
    return alone and other.values["shape"] == shape and abs(one.x - other.x) > 0.2 * width


def _read(file: Path) -> list[tuple[str, list[Thing]]]:
    content = read_json(file)

    def part(value: object, steps: Sequence[Step], kind: type, name: str) -> object:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise error_at(file, steps, f"expected {name}, got {quoted(value) if value is not None else 'nothing'}")
        return value

    def inside(value: object, steps: Sequence[Step], step: str, kind: type, name: str) -> object:
        assert isinstance(value, dict)
        return part(value.get(step), [*steps, step], kind, name)

    part(content, [], dict, "an object with scenes, as CLEVR has it")
    scenes = inside(content, [], "scenes", list, "a list of scenes")
    assert isinstance(scenes, list)
    if not scenes:
        raise error_at(file, ["scenes"], "expected at least one scene, got none")
    found = []
    for number, scene in enumerate(scenes):
        steps: list[Step] = ["scenes", number]
        part(scene, steps, dict, "a scene")
        name = inside(scene, steps, "image_filename", str, "the name of a picture")
        objects = inside(scene, steps, "objects", list, "a list of objects")
        assert isinstance(name, str) and isinstance(objects, list)
        things = []
        for place, one in enumerate(objects):
            where: list[Step] = [*steps, "objects", place]
            part(one, where, dict, "an object")
            values = {}
            for attribute, known in VALUES.items():
                value = inside(one, where, attribute, str, f"one of {', '.join(known)}")
                if value not in known:
                    raise error_at(file, [*where, attribute], f"expected one of {', '.join(known)}, got {quoted(value)}")
                values[attribute] = str(value)
            center = inside(one, where, "pixel_coords", list, "the center [x, y, depth] in pixels")
            assert isinstance(center, list)
            if len(center) < 2:
                raise error_at(file, [*where, "pixel_coords"], f"expected [x, y, depth], got {quoted(center)}")
            x = part(center[0], [*where, "pixel_coords", 0], (int | float), "a number")  # type: ignore[arg-type]
            things.append(Thing(values, float(x)))  # type: ignore[arg-type]
        found.append((name, things))
    return found
