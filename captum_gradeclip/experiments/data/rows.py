"""Rows of a table in a text file, each of which knows where it stands, so that an error can name file, line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...quoting import quoted
from .base import DataError
from .readers import read_text

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        file: the file.
        line: number of the line in which the row begins, from 1.
        cells: texts by name of their column.
        places: number of each column, from 1.
    """

    file: Path
    line: int
    cells: Mapping[str, str]
    places: Mapping[str, int]

    def error(self, column: str, message: str) -> DataError:
        """An error that names file, line and column.

        Args:
            column: name of the column.
            message: what was expected, and what is there.
        """
        return DataError(f"{self.file}: line {self.line}, column {self.places[column]} ({column}): {message}")

    def text(self, column: str) -> str:
        """The text in a column.

        Raises:
            DataError: if there is none.
        """
        found = self.cells[column].strip()
        if not found:
            raise self.error(column, "expected a text, got nothing")
        return found

    def number(self, column: str, least: float = float("-inf"), most: float = float("inf")) -> float:
        """The number in a column.

        Args:
            column: name of the column.
            least: smallest number that is allowed (default: any).
            most: largest number that is allowed (default: any).

        Raises:
            DataError: for anything else.
        """
        return as_number(self.text(column), lambda said: self.error(column, said), least, most)


def as_number(text: object, error: Callable[[str], DataError], least: float, most: float) -> float:
    """A number within bounds, from a text or from a cell of a spreadsheet.

    Args:
        text: what is there.
        error: makes the error of a message.
        least: smallest number that is allowed.
        most: largest number that is allowed.
    """
    try:
        found = float(str(text))
    except ValueError:
        raise error(f"expected a number, got {quoted(text)}") from None
    if not least <= found <= most:
        raise error(f"expected a number from {least:g} to {most:g}, got {found:g}")
    return found


def read_rows(file: Path, columns: Sequence[str]) -> list[Row]:
    r"""The rows of a CSV file whose first line names the columns.

    Args:
        file: the file, in UTF-8; cells are separated by commas, semicolons or tabs, whichever the first line has.
        columns: the columns that are needed, in any order and in upper or lower case; others may be there too.

    Raises:
        DataError: for a file without these columns or without rows, one that is no CSV, and a row of another length, naming
            file, line and, where there is one, column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "a.csv")
    ...     _ = file.write_text("Word;count\nred;3\n")
    ...     (row,) = read_rows(file, ["word", "count"])
    >>> row.line, row.text("word"), row.number("count")
    (2, 'red', 3.0)
    """
    text = read_text(file).removeprefix("\ufeff")
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[Row] = []
    places: dict[str, int] = {}
    begun, width = 1, 0
    try:
        for cells in reader:
            number, begun = begun, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not places:
                places, width = _columns(file, number, cells, columns), len(cells)
            elif len(cells) != width:
                raise DataError(f"{file}: line {number}: expected {width} cells as in the first line, got {len(cells)}")
            else:
                values = {name: cells[place - 1] for name, place in places.items()}
                found.append(Row(file, number, values, places))
    except csv.Error as error:
        raise DataError(f"{file}: line {max(reader.line_num, 1)}: it is no CSV: {error}") from None
    if not found:
        raise DataError(f"{file}: line {begun}: expected rows under the columns {', '.join(columns)}, got none")
    return found


def _columns(file: Path, number: int, cells: Sequence[str], needed: Sequence[str]) -> dict[str, int]:
    """The number of each needed column, from 1, by the first line."""
    names = [cell.strip().lower() for cell in cells]
    missing = [one for one in needed if one.lower() not in names]
    if missing:
        raise DataError(
            f"{file}: line {number}: expected the columns {', '.join(needed)} in the first line; {', '.join(missing)} is"
            f" missing among {quoted(', '.join(cells))}"
        )
    return {one: names.index(one.lower()) + 1 for one in needed}
