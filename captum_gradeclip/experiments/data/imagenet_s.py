"""ImageNet-S, whose validation pictures have masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from ...quoting import quoted
from ...scores.prompts import imagenet_templates
from .base import IGNORE, NOTHING, PHOTO, DataArguments, DataError, Sample
from .readers import fingerprint, folder, needed, pictures, read_class_names, read_with_mask, subfolders

MERGED = {
    "n04356056": "n04355933",
    "n04493381": "n02808440",
    "n03642806": "n03832673",
    "n04008634": "n03773504",
    "n03887697": "n15075141",
}
"""Classes of ImageNet, by WordNet's number, that ImageNet-S counts as another one."""


class ImageNetS:
    """ImageNet-S: ``validation/<wnid>/*.JPEG`` with ``validation-segmentation/<wnid>/*.png``.

    A mask holds ``R + 256 G``: 0 where a pixel belongs to no class, 1000 where no metric counts it, and elsewhere one more
    than the place of its class among the sorted folders.

    Args:
        root: folder that holds both folders.
        class_names: text file with one name per line, or a JSON list, in the order of the sorted folders without those in
            :data:`MERGED`; by default as for :class:`~captum_gradeclip.experiments.ClassFolders`.
        templates: sentences with ``{}`` in the place of a class name (default ``"a photo of a {}."``).

    Raises:
        DataError: for missing folders, or another number of names than of classes.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for part, file in (("validation", "1.JPEG"), ("validation-segmentation", "1.png")):
    ...         (Path(name) / part / "n01440764").mkdir(parents=True)
    ...         Image.new("RGB", (4, 4), (1, 0, 0)).save(Path(name) / part / "n01440764" / file)
    ...     _ = (Path(name) / "names.txt").write_text("tench")
    ...     data = ImageNetS(Path(name), Path(name) / "names.txt")
    ...     data.classes, data[0].mask(0).unique().tolist()
    (['tench'], [1])
    """

    name: ClassVar[str] = "imagenet-s"
    segmented: ClassVar[bool] = True
    summary: ClassVar[str] = "ImageNet-S, pictures with a mask of their class"
    layout: ClassVar[str] = """\
ImageNetS919/        --data imagenet-s --root ImageNetS919
  validation/
    n01440764/       a folder for each class, by WordNet id
      0001.JPEG
  validation-segmentation/
    n01440764/
      0001.png       a color PNG of the same size, the class in R + 256 G
"""
    takes: ClassVar[tuple[str, ...]] = ("root", "class_names", "templates", "samples")

    def __init__(self, root: Path, class_names: Path | None = None, templates: Sequence[str] = PHOTO) -> None:
        self.masks, self.templates = folder(root / "validation-segmentation"), templates
        folders = subfolders(root / "validation")
        ids = [one for one in folders if one not in MERGED]
        self.classes: Sequence[str] = read_class_names(ids, class_names)
        self.files = [
            (file, ids.index(MERGED.get(name, name)))
            for name in folders
            if MERGED.get(name, name) in ids
            for file in pictures(root / "validation" / name)
        ]
        if not self.files:
            raise DataError(f"root: {quoted(root / 'validation')} has no folders of classes with pictures")
        self.about = fingerprint(root, len(self.files), self.classes, templates)

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> ImageNetS:
        """By default with the eighty templates of OpenAI's classifier."""
        root = needed(arguments.root, "root", cls.name)
        return cls(root, arguments.class_names, arguments.templates or imagenet_templates())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file, label = self.files[index]
        path = self.masks / file.parent.name / f"{file.stem}.png"
        image, mask = read_with_mask(file, path)
        if mask.ndim != 3 or mask.shape[2] < 2:
            raise DataError(f"{path}: expected a color PNG with the class in R + 256 G, got shape {mask.shape}")
        if mask.shape[:2] != (image.height, image.width):
            raise DataError(f"{path}: {mask.shape[1]} x {mask.shape[0]}, but its picture is {image.width} x {image.height}")
        ids = torch.from_numpy(mask[..., 0] + 256 * mask[..., 1])
        highest = int(torch.where(ids == 1000, 0, ids).max())
        if highest > len(self.classes):
            raise DataError(f"{path}: class {highest}, but there are {len(self.classes)} classes")
        segments = torch.where(ids == 1000, IGNORE, torch.where(ids == 0, NOTHING, ids - 1))
        return Sample(f"{file.parent.name}/{file.name}", index, image, label, segments)
