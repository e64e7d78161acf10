"""Triples of your own: a CSV file with a base word, a word that goes with it and one that does not in each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image

from .base import Sample
from .row_data import RowData
from .rows import Row
from .triple import TEXTS, Triple


class TripleRows(RowData):
    """A sample for each row ``image, base, matched, mismatched, matched_phrase, mismatched_phrase, kind``.

    The phrases are columns of their own, since many need a preposition: "stand" and "sheep" become "stand on sheep".

    Args:
        file: the CSV file.
        root: the folder of the pictures; ``None`` (default) for that of the CSV file.

    Raises:
        DataError: for a file that cannot be read, naming line and column.
    """

    summary: ClassVar[str] = "rows of a CSV file"
    columns: ClassVar[tuple[str, ...]] = ("image", *TEXTS, "kind")
    grouped: ClassVar[bool] = False

    def sample(self, index: int, rows: Sequence[Row], image: Image.Image) -> Sample:
        """The triple of a row."""
        (row,) = rows
        triple = Triple(**{name: row.text(name) for name in (*TEXTS, "kind")})
        return Sample(f"line {row.line}: {row.text('image')}", index, image, triple=triple)
