"""Captions of your own: a CSV file with a picture and a caption in each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image

from .base import Sample
from .row_data import RowData
from .rows import Row


class CaptionRows(RowData):
    """A sample for each picture of the rows ``image, caption``, with all its captions.

    Args:
        file: the CSV file.
        root: the folder of the pictures; ``None`` (default) for that of the CSV file.

    Raises:
        DataError: for a file that cannot be read, naming line and column.
    """

    summary: ClassVar[str] = "rows of a CSV file"
    columns: ClassVar[tuple[str, ...]] = ("image", "caption")

    def sample(self, index: int, rows: Sequence[Row], image: Image.Image) -> Sample:
        """All captions of a picture."""
        captions = tuple(row.text("caption") for row in rows)
        return Sample(rows[0].text("image"), index, image, captions=captions)
