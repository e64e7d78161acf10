"""Data sets as samples: scenes, folders of classes, ImageNet-S, COCO captions, folders with index masks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import images, scenes
from ..scenes import Phrase, SceneDataset
from ..scenes.world import Split

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
IGNORE = -1
PHOTO = ("a photo of a {}.",)


class DataError(ValueError):
    """A file of a data set is missing, broken or says something impossible; the message names it."""


@dataclass(frozen=True)
class Sample:
    """One picture with what is known of it.

    Attributes:
        id: of the picture in its data set.
        index: its number there, from which its random numbers are drawn.
        image: RGB.
        label: index of its class.
        segments: ``(H, W)``, a class index per pixel, -2 where there is none of them, -1 where nothing counts.
        captions: true sentences.
    """

    id: str
    index: int
    image: Image.Image
    label: int | None = None
    segments: Tensor | None = None
    captions: tuple[str, ...] = ()

    def mask(self, label: int) -> Tensor:
        """``(H, W)``: 1 on a class, 0 elsewhere, -1 where nothing counts."""
        assert self.segments is not None
        return torch.where(self.segments == IGNORE, IGNORE, (self.segments == label).long())


class Data(Protocol):
    """A data set: ``classes`` are names for prompts, ``templates`` sentences around them; ``segmented`` ones have masks.

    ``about`` is all that tells it from another one; it is kept beside records, and compared before they are used again.
    """

    name: str
    segmented: bool
    classes: Sequence[str]
    templates: Sequence[str]

    @property
    def about(self) -> dict[str, Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


NOTHING = -2
"""In segments: a pixel of none of the classes."""


@dataclass(frozen=True)
class Scenes:
    """The held-out scenes of the embedded model; the classes are the 48 pairs of colour and shape.

    The label is what the first thing is; the first caption names all things.
    """

    length: int
    counts: tuple[int, ...] = (2, 3, 4)
    split: Split = "evaluation"
    seed: int = 0
    name: str = "scenes"
    segmented: bool = True
    templates: Sequence[str] = ("{}",)
    kinds: Sequence[tuple[str, str]] = field(
        default=tuple((c, s) for c in scenes.COLOURS for s in scenes.SHAPES), repr=False
    )

    @property
    def about(self) -> dict[str, Any]:
        """Length, numbers of things, split and seed."""
        return asdict(self)

    @property
    def classes(self) -> Sequence[str]:
        """``"red circle"`` and so on."""
        return [Phrase(*kind).words() for kind in self.kinds]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        image, masks, scene = SceneDataset(self.length, self.split, self.seed, counts=self.counts)[index]
        segments = torch.full(masks.shape[1:], NOTHING)
        kinds = [self.kinds.index((thing.colour, thing.shape)) for thing in scene.things]
        for kind, mask in zip(kinds, masks):
            segments[mask] = kind
        phrases = dict.fromkeys(Phrase(thing.colour, thing.shape) for thing in scene.things)
        # The context has room for three things.
        named = " and ".join(scenes.with_article(phrase.words()) for phrase in list(phrases)[:3])
        other = scenes.sample_caption(scene, np.random.default_rng(index)).text
        return Sample(f"{self.split}-{self.seed}-{index:06d}", index, image, kinds[0], segments, (named, other))


class First:
    """The first samples of a data set."""

    def __init__(self, data: Data, count: int) -> None:
        self.data, self.count = data, min(count, len(data))
        self.name, self.classes, self.templates = data.name, data.classes, data.templates
        self.segmented, self.about = data.segmented, {**data.about, "first": count}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.data[index]


class ClassFolders:
    """Pictures in a folder per class, as for torchvision's ``ImageFolder``: ImageNet's validation set, say.

    Args:
        root: the folder.
        class_names: a text file with a name per line or a JSON list, in the order of the sorted folders; by default the
            folders' own names, or those of OpenAI's classifier if there are its 1000 classes of ImageNet.
        templates: sentences around the names.

    Raises:
        DataError: for a folder without classes, or another number of names.
    """

    name = "folders"
    segmented = False

    def __init__(self, root: Path, class_names: Path | None = None, templates: Sequence[str] = PHOTO) -> None:
        self.root, self.templates = root, templates
        folders = sorted(one.name for one in _folder(root).iterdir() if one.is_dir())
        self.classes = _names(folders, class_names)
        self.files = [
            (file, label)
            for label, folder in enumerate(folders)
            for file in sorted((root / folder).iterdir())
            if file.suffix.lower() in SUFFIXES
        ]
        if not self.files:
            raise DataError(f"--root: {str(root)!r} has no folders of classes with pictures")
        self.about = _about(root, len(self.files), self.classes, templates)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file, label = self.files[index]
        return Sample(f"{file.parent.name}/{file.name}", index, _picture(file), label)


MERGED = {
    "n04356056": "n04355933",
    "n04493381": "n02808440",
    "n03642806": "n03832673",
    "n04008634": "n03773504",
    "n03887697": "n15075141",
}
"""Classes of ImageNet that ImageNet-S counts as another one."""


class ImageNetS:
    """ImageNet-S: ``validation/<wnid>/*.JPEG`` with ``validation-segmentation/<wnid>/*.png``.

    A mask holds ``class = R + 256 G``: 0 for what is no class, 1000 where nothing counts, else one more than the place of
    the class among the sorted folders.

    Args:
        root: the folder that holds both.
        class_names: as for :class:`ClassFolders`.
        templates: sentences around the names.

    Raises:
        DataError: for missing folders.
    """

    name = "imagenet-s"
    segmented = True

    def __init__(self, root: Path, class_names: Path | None = None, templates: Sequence[str] = PHOTO) -> None:
        self.masks, self.templates = _folder(root / "validation-segmentation"), templates
        pictures = _folder(root / "validation")
        folders = sorted(one.name for one in pictures.iterdir() if one.is_dir())
        ids = [one for one in folders if one not in MERGED]
        self.classes = _names(ids, class_names)
        self.files = [
            (file, ids.index(MERGED.get(folder, folder)))
            for folder in folders
            if MERGED.get(folder, folder) in ids
            for file in sorted((pictures / folder).iterdir())
            if file.suffix.lower() in SUFFIXES
        ]
        if not self.files:
            raise DataError(f"--root: {str(pictures)!r} has no folders of classes with pictures")
        self.about = _about(root, len(self.files), self.classes, templates)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file, label = self.files[index]
        path = self.masks / file.parent.name / f"{file.stem}.png"
        image, mask = _picture(file), _array(path)
        if mask.ndim != 3 or mask.shape[2] < 2:
            raise DataError(f"{path}: expected a colour PNG with the class in R + 256 G, got shape {mask.shape}")
        if mask.shape[:2] != (image.height, image.width):
            raise DataError(f"{path}: {mask.shape[1]} x {mask.shape[0]}, but its picture is {image.width} x {image.height}")
        ids = torch.from_numpy(mask[..., 0].astype(np.int64) + 256 * mask[..., 1].astype(np.int64))
        highest = int(torch.where(ids == 1000, 0, ids).max())
        if highest > len(self.classes):
            raise DataError(f"{path}: class {highest}, but there are {len(self.classes)} classes")
        segments = torch.where(ids == 1000, IGNORE, torch.where(ids == 0, NOTHING, ids - 1))
        return Sample(f"{file.parent.name}/{file.name}", index, image, label, segments)


class CocoCaptions:
    """COCO with the captions and splits of Karpathy's ``dataset_coco.json``.

    Args:
        root: the folder with ``train2014`` and ``val2014``.
        annotations: the JSON file.
        split: ``"val"`` as in the paper, or ``"test"``.
        captions: how many per picture.

    Raises:
        DataError: for a file that is no such JSON, or has no picture of the split.
    """

    name = "coco"
    segmented = False
    classes: Sequence[str] = ()
    templates: Sequence[str] = ()

    def __init__(self, root: Path, annotations: Path, split: str = "val", captions: int = 5) -> None:
        self.root, self.captions = _folder(root), captions
        content = _json(annotations)
        try:
            entries = [
                (f"{one.get('filepath', '')}/{one['filename']}".lstrip("/"), tuple(s["raw"] for s in one["sentences"]))
                for one in content["images"]
                if one["split"] == split
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{annotations}: expected Karpathy's format, images with filename, split and sentences; {error!r} is missing"
            ) from None
        if not entries:
            raise DataError(f"{annotations}: no picture of the split {split!r}")
        self.entries = entries
        self.about = _about(root, len(entries), split, captions, entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        file, sentences = self.entries[index]
        chosen = tuple(sentence.strip() for sentence in sentences[: self.captions] if sentence.strip())
        if not chosen:
            raise DataError(f"{file}: it has no captions")
        return Sample(file, index, _picture(self.root / file), captions=chosen)


class IndexMasks:
    """``images/*.jpg`` with ``annotations/*.png`` that hold a class index per pixel, as ADE20K and COCO-Stuff have them.

    Args:
        root: the folder that holds both.
        class_names: a name per line, or a JSON list; index 0 is the first.
        offset: of the indices in the masks: 1 where 0 means no class, as in ADE20K.
        ignore: the index of pixels that count for nothing.
        templates: sentences around the names.

    Raises:
        DataError: for missing folders or names.
    """

    name = "masks"
    segmented = True

    def __init__(
        self,
        root: Path,
        class_names: Path,
        offset: int = 0,
        ignore: int = 255,
        templates: Sequence[str] = PHOTO,
    ) -> None:
        self.classes = _names([], class_names)
        self.masks, self.offset, self.ignore, self.templates = _folder(root / "annotations"), offset, ignore, templates
        self.files = sorted(one for one in _folder(root / "images").iterdir() if one.suffix.lower() in SUFFIXES)
        if not self.files:
            raise DataError(f"--root: no pictures in {str(root / 'images')!r}")
        self.about = _about(root, len(self.files), self.classes, templates, offset, ignore)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        path = self.masks / f"{file.stem}.png"
        image, mask = _picture(file), _array(path)
        if mask.shape != (image.height, image.width):
            raise DataError(
                f"{path}: expected one index for each of {image.width} x {image.height} pixels, got {mask.shape}"
            )
        ids = torch.from_numpy(mask.astype(np.int64))
        segments = torch.where(ids == self.ignore, IGNORE, torch.where(ids < self.offset, NOTHING, ids - self.offset))
        if int(segments.max()) >= len(self.classes):
            raise DataError(f"{path}: class {int(segments.max())}, but there are {len(self.classes)} names")
        present = segments[segments >= 0]
        label = int(present.mode().values) if len(present) else None
        return Sample(file.name, index, image, label, segments)


def _about(root: Path, samples: int, *more: Any) -> dict[str, Any]:
    return {"root": str(root.resolve()), "files": samples, "content": sha256(repr(more).encode()).hexdigest()[:16]}


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(f"--root: {str(path)!r} is not a folder")
    return path


def _picture(file: Path) -> Image.Image:
    try:
        return images.read(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from None


def _array(file: Path) -> np.ndarray[Any, Any]:
    try:
        with Image.open(file) as picture:
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file}: the mask cannot be read: {error}") from None


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise DataError(f"{file}: it is no JSON, it may be cut off: {error}") from None


def _names(folders: Sequence[str], file: Path | None) -> Sequence[str]:
    if file is None:
        if len(folders) == 1000 and all(one.startswith("n0") or one.startswith("n1") for one in folders):
            from open_clip import IMAGENET_CLASSNAMES

            return tuple(IMAGENET_CLASSNAMES)
        ids = [one for one in folders if re.fullmatch(r"n\d{8}", one)]
        if ids:
            raise DataError(f"--class-names: folders such as {ids[0]!r} are no names to ask for; give a file of names")
        return [one.replace("_", " ") for one in folders]
    if file.suffix == ".json":
        content = _json(file)
    else:
        try:
            content = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except OSError as error:
            raise DataError(f"{file}: {error.strerror or error}") from None
    if not isinstance(content, list) or not content or not all(isinstance(one, str) for one in content):
        raise DataError(f"{file}: expected a name per line, or a JSON list of names")
    if folders and len(content) != len(folders):
        raise DataError(f"{file}: {len(content)} names for {len(folders)} folders of classes")
    return content
