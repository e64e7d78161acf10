"""Tables for papers fit a column of them, measured in LaTeX's own letters."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import pytest
from PIL import ImageFont

from captum_gradeclip.attr import METHODS
from captum_gradeclip.experiments import Table, tables
from captum_gradeclip.experiments.latex import COLUMN
from captum_gradeclip.experiments.tables import Cell

LOCALIZATION = (
    *("PG", "energy-PG", "pixel acc. (all, mean)", "pixel acc. (foreground, mean)", "AP (both)", "AP (foreground)"),
    *("mIoU (both, mean)", "mask IoU (foreground, 0.5)"),
)
FAITHFULNESS = tuple(f"{what} {asked}@{k}" for what in ("Del", "Ins", "IMD") for asked in ("GT", "Pred") for k in (1, 5))
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
PLAIN, BOLD = (ImageFont.truetype(str(FONTS / name), 1000) for name in ("cmr10.ttf", "cmb10.ttf"))


def points(text: str) -> float:
    """The width at 10 points of what stands between two ampersands."""
    bold = re.fullmatch(r"\\textbf\{(.*)\}", text)
    stack = re.fullmatch(r"\\shortstack\{(.*)\}", text)
    if bold:
        return BOLD.getlength(bold[1]) / 100
    return max(PLAIN.getlength(one.replace("\\", "")) / 100 for one in (stack[1].split("\\\\") if stack else [text]))


def measured(tex: str) -> tuple[float, list[list[str]]]:
    """The width of a table in points, and its cells."""
    assert tex.startswith("%") and r"\setlength{\tabcolsep}{3pt}" in tex and tex.count("{") == tex.count("}")
    rows = [line.removesuffix(r" \\").split(" & ") for line in tex.splitlines() if " & " in line]
    kind = re.search(r"begin\{tabular\}\{@\{\}(l|p\{(\d+)pt\})(c+)@\{\}\}", tex)
    assert kind is not None and max(map(len, rows)) == 1 + len(kind[3])
    columns = [max(points(row[place]) for row in rows if place < len(row)) for place in range(1, 1 + len(kind[3]))]
    name = float(kind[2]) if kind[2] else max(points(row[0]) for row in rows)
    return name + sum(columns) + 6 * len(columns), rows


@pytest.mark.parametrize("columns", [("PG",), LOCALIZATION, FAITHFULNESS], ids=len)
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("more", [(), ("CLIP Surgery, 60 labels encoded by the tower of texts",)], ids=["", "long names"])
def test_a_table_fits_a_column(columns: tuple[str, ...], published: bool, more: tuple[str, ...]) -> None:
    rows = [*(kind.__name__ for kind in METHODS), *more]
    cells = {row: {column: Cell(number / 16) for column in columns} for number, row in enumerate(rows)}
    known = {row: dict.fromkeys(columns, 0.123) for row in rows} if published else None
    table = Table("a title", columns, cells, published=known)
    width, found = measured(table.latex())
    assert 60 < width <= COLUMN
    figures = [cell for row in found if row[0].strip() for cell in row[1:]]
    assert len(figures) == len(rows) * len(columns) and sum("textbf" in cell for cell in figures) == len(columns)
    told = " ".join(re.sub(r"\\shortstack\{(.*?)\}(?= |$)", r"\1", cell) for row in found if not row[0] for cell in row[1:])
    assert told.replace(r"\\", " ") == " ".join(columns)


def test_as_many_columns_as_there_is_room_for_stand_side_by_side() -> None:
    columns = [f"c{number}" for number in range(12)]
    table = Table("a title", columns, {"GAME": dict.fromkeys(columns, Cell(0.5))})
    rows = measured(table.latex())[1]
    assert len(rows[0]) - 1 >= 5 and tables.printed_name("GAME") in rows[1][0]
