"""Pictures with labeled boxes and masks, on which it is measured whether a model knows what lies where."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import masks_to_boxes

from .. import images
from ..experiments.data.base import DataError
from ..experiments.data.readers import folder, read_json, read_picture
from ..quoting import quoted
from ..scenes import PAIRS, Phrase, SceneDataset
from ..scenes.world import Split

_LEAST, _MOST, _REGIONS = 8**2, 1024**2, 100


@dataclass(frozen=True)
class Regions:
    """A picture with R labeled regions.

    Attributes:
        id: what it is called.
        image: the picture, RGB.
        boxes: left, top, right and bottom, as shares of the picture's width and height ``(R, 4)``.
        masks: ``(R, H, W)`` of the picture, boolean.
        labels: the class of each region ``(R,)``.
    """

    id: str
    image: Image.Image
    boxes: Tensor
    masks: Tensor
    labels: Tensor


class RegionData(Protocol):
    """Numbered pictures with regions."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        ...

    @property
    def things(self) -> Sequence[bool]:
        """For each class, whether it is one of things, which can be counted, rather than stuff."""
        ...

    @property
    def about(self) -> Mapping[str, object]:
        """What distinguishes these data from others, as JSON can write it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Regions: ...


@dataclass(frozen=True)
class SceneRegionData:
    """Scenes with the boxes and masks of their things; the classes are the 48 pairs of color and shape, all of things.

    Args:
        length: number of scenes, at least 1.
        split: ``"evaluation"`` (default), ``"validation"`` or ``"train"``.
        seed: seed of the scenes (default 0).
        counts: numbers of things in a scene, drawn with equal chance (default 2, 3 or 4).
        size: side of the pictures in pixels (default 96).

    >>> data = SceneRegionData(1)
    >>> [data.classes[label] for label in data[0].labels], data[0].boxes.shape
    (['blue ring', 'blue ring', 'red square', 'cyan triangle'], torch.Size([4, 4]))
    """

    length: int
    split: Split = "evaluation"
    seed: int = 0
    counts: tuple[int, ...] = (2, 3, 4)
    size: int = 96

    @property
    def classes(self) -> Sequence[str]:
        """``"red circle"`` and so on."""
        return [Phrase(*kind).words() for kind in PAIRS]

    @property
    def things(self) -> Sequence[bool]:
        """Everything is a thing."""
        return [True] * len(PAIRS)

    @property
    def about(self) -> Mapping[str, object]:
        """All arguments."""
        return {"data": "scenes", **vars(self), "counts": list(self.counts)}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Regions:
        image, masks, scene = SceneDataset(self.length, self.split, self.seed, self.size, self.counts)[index]
        seen = masks.flatten(1).any(dim=1)
        labels = torch.tensor([thing.pair for thing in scene.things])[seen]
        id = f"{self.split}-{self.seed}-{index:06d}"
        return Regions(id, image, torch.stack([box_of(mask) for mask in masks[seen]]), masks[seen], labels)


class _Segment(TypedDict):
    id: int
    category_id: int
    bbox: list[float]


class _Annotation(TypedDict):
    image_id: int
    file_name: str
    segments_info: list[_Segment]


class _Category(TypedDict):
    id: int
    name: str
    isthing: int


class _Image(TypedDict):
    id: int
    file_name: str


class _Panoptic(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class CocoPanoptic:
    """Pictures with panoptic segmentations in COCO's format, by CLIPSelf's protocol.

    Regions whose boxes have fewer than 8 x 8 or more than 1024 x 1024 pixels are left out, and so are those of a picture
    behind the first 100. In names of classes, "_" is a space and "/" is "or"; "-merged", "-other" and "-stuff" are dropped,
    which is ours.

    Args:
        root: folder of the pictures, ``val2017`` for instance.
        annotations: the JSON file, ``panoptic_val2017.json`` for instance.
        segments: folder of the PNG files of segments; ``None`` (default) for the one beside the JSON file that has its name.
        samples: use only the first so many pictures, at least 1 (default all).

    Raises:
        DataError: for a folder or file that is missing or has another format.

    >>> import json
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     root, file = Path(place, "val"), Path(place, "panoptic.json")
    ...     for one in (root, file.with_suffix("")):
    ...         one.mkdir()
    ...     Image.new("RGB", (20, 10)).save(root / "1.png")
    ...     Image.new("RGB", (20, 10), (7, 0, 0)).save(file.with_suffix("") / "1.png")
    ...     things = {"id": 1, "name": "wall-other-merged", "isthing": 0}
    ...     parts = [{"id": 7, "category_id": 1, "bbox": [0, 0, 20, 10]}]
    ...     one = {"image_id": 5, "file_name": "1.png", "segments_info": parts}
    ...     content = {"images": [{"id": 5, "file_name": "1.png"}], "annotations": [one], "categories": [things]}
    ...     _ = file.write_text(json.dumps(content))
    ...     data = CocoPanoptic(root, file)
    ...     data.classes, data[0].boxes.tolist()
    (['wall'], [[0.0, 0.0, 1.0, 1.0]])
    """

    def __init__(self, root: Path, annotations: Path, segments: Path | None = None, samples: int | None = None) -> None:
        self.root, self.segments = folder(root), folder(annotations.with_suffix("") if segments is None else segments)
        content = cast(_Panoptic, read_json(annotations))  # what has another format is refused below
        try:
            files = {one["id"]: one["file_name"] for one in content["images"]}
            categories = content["categories"]
            self.numbers = {one["id"]: number for number, one in enumerate(categories)}
            self.classes: Sequence[str] = [_name(one["name"]) for one in categories]
            self.things: Sequence[bool] = [bool(one["isthing"]) for one in categories]
            self.entries = [
                (files[one["image_id"]], one["file_name"], one["segments_info"]) for one in content["annotations"]
            ][:samples]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{quoted(annotations)}: expected COCO's panoptic format, with images, annotations and categories;"
                f" {quoted(error)} is missing"
            ) from None
        if not self.entries:
            raise DataError(f"{quoted(annotations)}: expected annotations of pictures, got none")
        self.about: Mapping[str, object] = {
            "data": "coco-panoptic",
            "annotations": str(annotations.resolve()),
            "pictures": len(self.entries),
        }

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Regions:
        file, segments, infos = self.entries[index]
        image = read_picture(self.root / file)
        ids = _segment_ids(self.segments / segments)
        width, height = image.size
        if ids.shape != (height, width):
            raise DataError(
                f"{self.segments / segments}: expected the size of its picture, {width} x {height}, got"
                f" {ids.shape[1]} x {ids.shape[0]}"
            )
        boxes, masks, labels = [], [], []
        for info in infos[:_REGIONS]:
            left, top, across, down = info["bbox"]
            mask = torch.from_numpy(ids == info["id"])
            if not _LEAST <= across * down <= _MOST or not mask.any():
                continue
            corners = left / width, top / height, (left + across) / width, (top + down) / height
            boxes.append(torch.tensor(corners).clamp(0, 1))
            masks.append(mask)
            labels.append(self.numbers[info["category_id"]])
        if not labels:
            return Regions(
                file, image, torch.zeros(0, 4), torch.zeros(0, height, width, dtype=torch.bool), torch.zeros(0).long()
            )
        return Regions(file, image, torch.stack(boxes), torch.stack(masks), torch.tensor(labels))


def box_of(mask: Tensor) -> Tensor:
    """The box around a mask ``(H, W)`` with at least one pixel: left, top, right and bottom as shares of its sides.

    >>> box_of(torch.tensor([[False, True], [False, False]]))
    tensor([0.5000, 0.0000, 1.0000, 0.5000])
    """
    height, width = mask.shape
    first_and_last: Tensor = masks_to_boxes(mask[None])[0]  # pixels, the last ones included
    return (first_and_last + torch.tensor([0, 0, 1, 1])) / torch.tensor([width, height, width, height])


def _segment_ids(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The number of the segment at each pixel ``(H, W)``, which red, green and blue hold, the lowest byte first."""
    try:
        values = np.asarray(images.decode(file).convert("RGB")).astype(np.int64)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: the segments cannot be read: {error}") from None
    return values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]


def _name(name: str) -> str:
    """The name of a class in words.

    >>> _name("wall-other-merged"), _name("Playing_field/court")
    ('wall', 'playing field or court')
    """
    return re.sub(r"-(merged|other|stuff)\b", "", name.lower()).replace("_", " ").replace("/", " or ").strip()
