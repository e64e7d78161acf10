"""The report of a study: its tables and figures, what follows from them in words, and all of it in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ... import show
from ...files import to_json, write_texts
from ...metrics import Regression
from ...quoting import legible
from ..tables import Cell, Table


@dataclass(frozen=True)
class Figures4(Cell):
    """A figure with four digits behind the point, since many measures are small."""

    def __str__(self) -> str:
        return f"{self.value:.4f}"


@dataclass(frozen=True)
class PValue(Cell):
    """A p-value; one that is too small to be told is printed as less than a thousandth."""

    def __str__(self) -> str:
        return "< .001" if self.value < 0.001 else f"{self.value:.3f}"


@dataclass(frozen=True)
class Count(Cell):
    """A number of cases."""

    def __str__(self) -> str:
        return f"{self.value:.0f}"


@dataclass(frozen=True)
class Listing(Table):
    """A table whose rows do not compete, so that none of them is printed in bold."""

    def ranked(self, column: str) -> list[str]:
        """No rows."""
        return []


@dataclass(frozen=True)
class Report:
    """What a study found out about one method.

    Attributes:
        name: begins the names of all files.
        tables: the tables by name; the one called ``""`` has the name of the report itself.
        figures: the figures by name.
        findings: what follows, in sentences.
        facts: everything as plain numbers and texts, for JSON.
        texts: further files by their ending, ``"words.csv"`` for example.
    """

    name: str
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    findings: Sequence[str]
    facts: Mapping[str, object]
    texts: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """All tables, with what follows from them."""
        said = "\n".join(f"- {legible(one)}" for one in self.findings)
        return "\n".join([*(table.markdown() for table in self.tables.values()), said, ""])

    def write(self, folder: Path) -> list[Path]:
        """Writes a CSV and a LaTeX file for each table, a PNG for each figure, and all in one Markdown and one JSON file.

        Args:
            folder: an existing folder.

        Returns:
            The files.
        """
        files = {f"{self.name}.md": self.markdown(), f"{self.name}.json": to_json(self._content(), indent=2)}
        for name, table in self.tables.items():
            files |= {self._file(name, "csv"): table.csv(), self._file(name, "tex"): table.latex()}
        files |= {f"{self.name}-{ending}": text for ending, text in self.texts.items()}
        write_texts(folder, files)
        for name, figure in self.figures.items():
            show.save(figure, folder / self._file(name, "png"))
        return [folder / name for name in (*files, *(self._file(name, "png") for name in self.figures))]

    def _file(self, name: str, ending: str) -> str:
        return f"{self.name}-{name}.{ending}" if name else f"{self.name}.{ending}"

    def _content(self) -> dict[str, object]:
        tables = {
            name or self.name: {
                "title": table.title,
                "note": table.note,
                "rows": {row: {column: asdict(cell) for column, cell in cells.items()} for row, cells in table.rows.items()},
            }
            for name, table in self.tables.items()
        }
        return {**self.facts, "findings": list(self.findings), "tables": tables}


def mean_cell(values: Sequence[float | None]) -> Cell | None:
    """The mean of the values that are known, with its interval; ``None`` if none is.

    >>> str(mean_cell([0.5, None, 0.25])), mean_cell([None])
    ('0.3750', None)
    """
    known = [value for value in values if value is not None]
    return Figures4.of(known) if known else None


def cells(values: Mapping[str, Cell | None]) -> dict[str, Cell]:
    """The cells of a row, without those that are not known."""
    return {column: cell for column, cell in values.items() if cell is not None}


def regression_cells(line: Regression) -> dict[str, Cell]:
    """The cells of a regression in a table: slope, R^2, p-value and number of points."""
    told = {"slope": Figures4(line.slope), "R^2": Figures4(line.r_squared), "p": PValue(line.p_value)}
    return {**(told if line.defined else {}), "points": Count(line.count)}


def told_regression(name: str, line: Regression) -> str:
    """A regression in words."""
    if not line.defined:
        return f"{name}: no line, since there are fewer than three points, or all have one value"
    return f"{name}: slope {line.slope:.4f}, R^2 {line.r_squared:.4f}, p {PValue(line.p_value)} ({line.count} points)"


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are known; ``None`` if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
