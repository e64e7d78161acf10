"""Regions of your own: a CSV file with a picture, a word, what the word is about, and a mask in each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from .base import DataError, Sample
from .readers import read_with_mask
from .region import Region
from .row_data import RowData
from .rows import Row


class RegionRows(RowData):
    """A sample for each picture of the rows ``image, text, kind, mask``, with all its words.

    A mask is a picture of the same size, in which every pixel that is not 0 belongs to what the text is true of. What other
    texts of the same kind are true of counts as the things that could be meant as well.

    Args:
        file: the CSV file.
        root: the folder of the pictures and masks; ``None`` (default) for that of the CSV file.

    Raises:
        DataError: for a file that cannot be read, naming line and column.
    """

    summary: ClassVar[str] = "rows of a CSV file"
    columns: ClassVar[tuple[str, ...]] = ("image", "text", "kind", "mask")

    def sample(self, index: int, rows: Sequence[Row], image: Image.Image) -> Sample:
        """All words of a picture."""
        masks = [self._mask(row, image) for row in rows]
        regions = []
        for row, mask in zip(rows, masks):
            alike = [other for one, other in zip(rows, masks) if one.text("kind") == row.text("kind")]
            others = torch.stack(alike).any(dim=0) & ~mask
            regions.append(Region(row.text("text"), row.text("kind"), mask, others if others.any() else None))
        return Sample(rows[0].text("image"), index, image, regions=tuple(regions))

    def _mask(self, row: Row, image: Image.Image) -> Tensor:
        picture, file = self.path(row, "image"), self.path(row, "mask")
        try:
            _, values = read_with_mask(picture, file)
        except DataError as error:
            raise row.error("mask", str(error)) from None
        mask = torch.from_numpy(values if values.ndim == 2 else values.max(axis=2)) != 0
        if tuple(mask.shape) != (image.height, image.width):
            raise row.error(
                "mask",
                f"expected the picture's {image.width} x {image.height} pixels, got {mask.shape[1]} x {mask.shape[0]}",
            )
        if not mask.any():
            raise row.error("mask", "expected a mask of which some pixels are not 0, got one without any")
        return mask
