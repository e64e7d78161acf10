"""Pictures with a class index per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from ...quoting import quoted
from ...scores.prompts import imagenet_templates
from .base import IGNORE, NOTHING, PHOTO, DataArguments, DataError, Sample
from .readers import fingerprint, folder, needed, pictures, read_class_names, read_with_mask


class IndexMasks:
    r"""``images/*.jpg`` with ``annotations/*.png`` that hold a class index per pixel, as ADE20K and COCO-Stuff have them.

    The label of a sample is the class that covers most of its pixels.

    Args:
        root: folder that holds both folders.
        class_names: text file with one name per line, or a JSON list; the first name is that of class 0.
        offset: the index in the masks that means class 0, at least 0 (default 0); lower ones mean no class, so that it is
            1 for ADE20K, where 0 means no class.
        ignore: the index in the masks of pixels that no metric counts (default 255).
        templates: sentences with ``{}`` in the place of a class name (default ``"a photo of a {}."``).

    Raises:
        DataError: for missing folders or names.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for part in ("images", "annotations"):
    ...         (Path(name) / part).mkdir()
    ...     Image.new("RGB", (4, 4)).save(Path(name) / "images" / "1.png")
    ...     Image.new("L", (4, 4), 2).save(Path(name) / "annotations" / "1.png")
    ...     _ = (Path(name) / "names.txt").write_text("wall\nfloor")
    ...     data = IndexMasks(Path(name), Path(name) / "names.txt", offset=1)
    ...     data.classes[data[0].label], data[0].mask(1).unique().tolist()
    ('floor', [1])
    """

    name: ClassVar[str] = "masks"
    segmented: ClassVar[bool] = True
    summary: ClassVar[str] = "pictures with a class index per pixel (ADE20K, COCO-Stuff)"
    layout: ClassVar[str] = """\
rooms/               --data masks --root rooms --class-names names.txt
  images/
    0001.jpg
  annotations/
    0001.png         of the same size, a PNG with a class index per pixel;
                     pixels of 255 are not counted
names.txt            a name in each line, the first that of index 0, or of 1
                     with --mask-offset 1
"""
    takes: ClassVar[tuple[str, ...]] = ("root", "class_names", "mask_offset", "templates", "samples")

    def __init__(
        self,
        root: Path,
        class_names: Path,
        offset: int = 0,
        ignore: int = 255,
        templates: Sequence[str] = PHOTO,
    ) -> None:
        self.classes: Sequence[str] = read_class_names([], class_names)
        self.masks, self.offset, self.ignore, self.templates = folder(root / "annotations"), offset, ignore, templates
        self.files = list(pictures(folder(root / "images")))
        if not self.files:
            raise DataError(f"root: no pictures in {quoted(root / 'images')}")
        self.about = fingerprint(root, len(self.files), self.classes, templates, offset, ignore)

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> IndexMasks:
        """By default with the eighty templates of OpenAI's classifier."""
        root = needed(arguments.root, "root", cls.name)
        names = needed(arguments.class_names, "class_names", cls.name)
        return cls(root, names, arguments.mask_offset, templates=arguments.templates or imagenet_templates())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[index]
        path = self.masks / f"{file.stem}.png"
        image, mask = read_with_mask(file, path)
        if mask.shape != (image.height, image.width):
            raise DataError(
                f"{path}: expected one index for each of {image.width} x {image.height} pixels, got {mask.shape}"
            )
        ids = torch.from_numpy(mask)
        segments = torch.where(ids == self.ignore, IGNORE, torch.where(ids < self.offset, NOTHING, ids - self.offset))
        if int(segments.max()) >= len(self.classes):
            raise DataError(f"{path}: class {int(segments.max())}, but there are {len(self.classes)} names")
        present = segments[segments >= 0]
        label = int(present.mode().values) if len(present) else None
        return Sample(file.name, index, image, label, segments)
