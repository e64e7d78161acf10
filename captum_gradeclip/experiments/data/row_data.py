"""Data sets of your own: the rows of a CSV file that name pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image
from typing_extensions import Self

from ...quoting import quoted
from .base import DataArguments, DataError, Sample
from .readers import fingerprint, folder, needed, read_picture
from .rows import Row, read_rows


class RowData:
    """The base of the data sets that are rows of a CSV file; a subclass has columns, and makes samples of rows.

    Args:
        file: the file; its first line names the columns, see :attr:`columns`.
        root: the folder that the files in the rows lie in; ``None`` (default) for that of the CSV file.

    Raises:
        DataError: for a file that cannot be read, naming line and column.
    """

    name: ClassVar[str] = "csv"
    summary: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    """The columns; the first one is ``"image"``, a file in the folder."""
    grouped: ClassVar[bool] = True
    """Whether all rows of one picture make one sample; otherwise each row is one."""
    takes: ClassVar[tuple[str, ...]] = ("annotations", "root", "samples")
    layout: ClassVar[str] = ""
    segmented: ClassVar[bool] = False
    classes: Sequence[str] = ()
    templates: Sequence[str] = ()

    def __init__(self, file: Path, root: Path | None = None) -> None:
        self.root = folder(file.parent if root is None else root)
        rows = read_rows(file, self.columns)
        self.groups = list(self._grouped(rows))
        for row in rows:
            self.check(row)
        self.about: Mapping[str, object] = fingerprint(self.root, len(self.groups), [dict(row.cells) for row in rows])

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> Self:
        """The file of ``annotations``, with pictures in ``root`` or beside it."""
        return cls(needed(arguments.annotations, "annotations", cls.name), arguments.root)

    def check(self, row: Row) -> None:
        """Refuses a row in which something is missing, before any work is done.

        Raises:
            DataError: naming line and column.
        """
        for column in self.columns:
            row.text(column)

    def sample(self, index: int, rows: Sequence[Row], image: Image.Image) -> Sample:
        """The sample that some rows of one picture make.

        Args:
            index: number of the sample.
            rows: its rows, at least one.
            image: the picture.

        Raises:
            DataError: naming line and column.
        """
        raise NotImplementedError

    def path(self, row: Row, column: str) -> Path:
        """The file that a row names in a column.

        Raises:
            DataError: if there is none.
        """
        found = self.root / row.text(column)
        if not found.is_file():
            raise row.error(column, f"there is no file {quoted(found)}")
        return found

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Sample:
        rows = self.groups[index]
        path = self.path(rows[0], "image")
        try:
            image = read_picture(path)
        except DataError as error:
            raise rows[0].error("image", str(error)) from None
        return self.sample(index, rows, image)

    def _grouped(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.cells["image"].strip() if self.grouped else str(row.line), []).append(row)
        yield from groups.values()
