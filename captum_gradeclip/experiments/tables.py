"""Records as tables and curves, in files that papers and spreadsheets read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table as Screen

from ..metrics import area_under, bootstrap_interval, paired_t_test
from ..metrics.faithfulness import Schedule
from .tasks import MODES, Record


@dataclass(frozen=True)
class Cell:
    """A figure with the interval in which it lies with 95 % by resampling the samples."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Cell:
        """The mean of some values."""
        return cls(float(np.mean(values)), *bootstrap_interval(values))

    def __str__(self) -> str:
        return f"{self.value:.3f}"


@dataclass(frozen=True)
class Table:
    """Rows by method and columns by what was measured; a cell may be missing.

    Attributes:
        title: what it shows, with the number of samples.
        columns: in order.
        rows: by method, in order.
        lower: columns of which the lowest is best.
        note: what a reader must know.
        published: figures of the papers, by row and column.
    """

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Cell]]
    lower: frozenset[str] = frozenset()
    note: str = ""
    published: Mapping[str, Mapping[str, float]] | None = None

    def cells(self) -> list[list[str]]:
        """As text, with the paper's figure in brackets where there is one."""
        rows = []
        for name, row in self.rows.items():
            known = (self.published or {}).get(name, {})
            shown = []
            for column in self.columns:
                text = str(row[column]) if column in row else "-"
                shown.append(f"{text} ({known[column]:.3f})" if column in known else text)
            rows.append([name, *shown])
        return rows

    def best(self, column: str) -> str | None:
        """The row that is best in a column; maps that know the truth, or nothing, do not compete."""
        competing = {name: row for name, row in self.rows.items() if name not in (*REFERENCES, "p-value")}
        known = {name: row[column].value for name, row in competing.items() if column in row}
        if not known:
            return None
        return (min if column in self.lower else max)(known, key=lambda name: known[name])

    def markdown(self) -> str:
        """With the best of every column in bold."""
        lines = [f"**{self.title}**", "", f"| | {' | '.join(self.columns)} |", "|---|" + "---|" * len(self.columns)]
        best = {column: self.best(column) for column in self.columns}
        for name, *cells in self.cells():
            marked = [f"**{cell}**" if best[column] == name else cell for column, cell in zip(self.columns, cells)]
            lines.append(f"| {name} | {' | '.join(marked)} |")
        return "\n".join([*lines, *(["", self.note] if self.note else []), ""])

    def latex(self) -> str:
        """A ``tabular`` for ``booktabs``."""

        def plain(text: str) -> str:
            return text.replace("%", r"\%").replace("&", r"\&").replace("_", r"\_")

        best = {column: self.best(column) for column in self.columns}
        lines = [rf"% {self.title}", r"\begin{tabular}{l" + "c" * len(self.columns) + "}", r"\toprule"]
        lines += [" & ".join(["", *map(plain, self.columns)]) + r" \\", r"\midrule"]
        for name, *cells in self.cells():
            marked = [rf"\textbf{{{c}}}" if best[column] == name else c for column, c in zip(self.columns, cells)]
            lines.append(" & ".join([plain(name), *marked]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def csv(self) -> str:
        """One line per cell: method, column, value, interval if there is one, the papers' figure."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "column", "value", "low", "high", "published"])
        for name, row in self.rows.items():
            for column in self.columns:
                if column in row:
                    cell = row[column]
                    known = (self.published or {}).get(name, {}).get(column, "")
                    writer.writerow(
                        [name, column, *(f"{x:.6f}" if x == x else "" for x in (cell.value, cell.low, cell.high)), known]
                    )
        return file.getvalue()

    def screen(self) -> Screen:
        """For the terminal."""
        table = Screen("", *self.columns, title=self.title, caption=self.note or None)
        for row in self.cells():
            table.add_row(*row)
        return table

    def write(self, folder: Path, name: str) -> None:
        """``name.csv``, ``name.md`` and ``name.tex``."""
        for suffix, text in (("csv", self.csv()), ("md", self.markdown()), ("tex", self.latex())):
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")


REFERENCES = ("oracle (mask)", "random map", "centre prior")


def by_method(records: Sequence[Record], kind: str) -> dict[str, list[Record]]:
    """Records that hold some kind of result, by method, in the order of their first appearance."""
    found: dict[str, list[Record]] = {}
    for record in records:
        if kind in record:
            found.setdefault(record["method"], []).append(record)
    return found


def value_table(records: Sequence[Record], title: str, note: str = "") -> Table:
    """The mean of every value."""
    rows: dict[str, dict[str, Cell]] = {}
    for method, some in by_method(records, "values").items():
        rows[method] = {name: Cell.of([record["values"][name] for record in some]) for name in some[0]["values"]}
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lower = frozenset(name for name in columns if name.startswith(("infidelity", "sensitivity")))
    return Table(f"{title} ({_samples(records)} samples)", columns, rows, lower, note)


def curve_table(records: Sequence[Record], title: str, first: int = 0, note: str = "") -> Table:
    """Area under every curve from a point on, and insertion less deletion.

    Below stands, for each column, the two-sided p of a paired t-test between the curves of the two best methods (of the
    areas of the samples for the difference, which has no curve).
    """
    areas: dict[str, dict[str, list[float]]] = {}
    means: dict[str, dict[str, list[float]]] = {}
    lower: set[str] = set()
    for method, some in by_method(records, "curves").items():
        own: dict[str, list[float]] = {}
        for target in some[0]["curves"]:
            for traced in some[0]["curves"][target]["deletion"]:
                curve = {
                    mode: np.array([record["curves"][target][mode][traced] for record in some])[:, first:] for mode in MODES
                }
                heads = {mode: _heading(mode, target, traced) for mode in MODES}
                for mode in MODES:
                    own[heads[mode]] = area_under(torch.from_numpy(curve[mode])).tolist()
                    means.setdefault(heads[mode], {})[method] = curve[mode].mean(axis=0).tolist()
                lower.add(heads["deletion"])
                difference = np.array(own[heads["insertion"]]) - np.array(own[heads["deletion"]])
                own[_heading("IMD", target, traced)] = difference.tolist()
        areas[method] = own
    columns = sorted({name for own in areas.values() for name in own}, key=_order)
    rows = {method: {name: Cell.of(values) for name, values in own.items()} for method, own in areas.items()}
    table = Table(f"{title} ({_samples(records)} samples)", columns, rows, frozenset(lower), note)
    tests: dict[str, Cell] = {}
    for column in columns:
        known = {m: row[column].value for m, row in rows.items() if column in row and m not in REFERENCES}
        ranked = sorted(known, key=lambda name: known[name], reverse=column not in lower)
        if len(ranked) < 2:
            continue
        source: Any = means[column] if column in means else {method: areas[method][column] for method in ranked[:2]}
        p = paired_t_test(source[ranked[0]], source[ranked[1]]).p_value
        tests[column] = Cell(p, p, p)
    return Table(table.title, columns, {**rows, "p-value": tests}, table.lower, note)


def draw_curves(records: Sequence[Record], schedule: Schedule | None) -> Figure:
    """Mean curves of all methods, a panel for each target and each thing that is traced, deletion above insertion."""
    methods = by_method(records, "curves")
    panels = list(
        dict.fromkeys(
            (target, traced)
            for some in methods.values()
            for target in some[0]["curves"]
            for traced in some[0]["curves"][target]["deletion"]
        )
    )
    figure = Figure(figsize=(3.1 * len(panels) + 2.2, 5.2), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharey="col")
    for column, (target, traced) in enumerate(panels):
        for row, mode in enumerate(MODES):
            axis = axes[row, column]
            for number, (method, some) in enumerate(methods.items()):
                if target not in some[0]["curves"]:
                    continue
                mean = np.mean([record["curves"][target][mode][traced] for record in some], axis=0)
                x = np.arange(len(mean)) if schedule is None else 100 * np.array(schedule.shares(mode))
                style = "-" if method not in REFERENCES else ":"
                axis.plot(x, mean, style, label=method, color=f"C{number % 10}", marker="" if number < 10 else ".", lw=1.4)
            axis.set_title(f"{mode}, {target}, {traced}", fontsize=8)
            axis.set_xlabel("step" if schedule is None else "% of the pixels", fontsize=8)
            axis.tick_params(labelsize=7)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    return figure


def open_vocabulary_table(records: Sequence[Record], title: str) -> Table:
    """mIoU over classes and background, mAP over classes, and the mean share of points inside."""
    from sklearn.metrics import average_precision_score

    rows: dict[str, dict[str, Cell]] = {}
    for method, some in by_method(records, "open").items():
        counts: dict[str, np.ndarray[Any, Any]] = {}
        for record in some:
            for label, pair in record["open"]["pixels"].items():
                counts[label] = counts.get(label, np.zeros(2)) + pair
        overlaps = [above / below for above, below in counts.values() if below]
        classes = len(some[0]["open"]["scores"])
        truth = np.zeros((len(some), classes), dtype=bool)
        for row, record in enumerate(some):
            truth[row, record["open"]["present"]] = True
        scores = np.array([record["open"]["scores"] for record in some])
        seen = truth.any(axis=0)
        precision = [average_precision_score(truth[:, c], scores[:, c]) for c in np.nonzero(seen)[0]]
        points = [record["open"]["points"] for record in some if record["open"]["points"] is not None]
        # The first two are figures of a data set, not means over its samples, so they have no interval by resampling.
        rows[method] = {
            "mIoU": Cell(float(np.mean(overlaps)), float("nan"), float("nan")),
            "mAP": Cell(float(np.mean(precision)), float("nan"), float("nan")),
            "points": Cell.of(points),
        }
    note = "Background: no class reaches half of the range of the picture's maps. mAP: by the highest value of each map."
    return Table(f"{title} ({_samples(records)} samples)", ["mIoU", "mAP", "points"], rows, note=note)


def _heading(mode: str, target: str, traced: str) -> str:
    short = {"deletion": "Del", "insertion": "Ins"}.get(mode, mode)
    return f"{short} {traced}" if target in ("image", "words") else f"{short} {target}@{traced}"


def _order(column: str) -> tuple[int, str]:
    return ("Del", "Ins", "IMD").index(column.split()[0]), column


def _samples(records: Sequence[Record]) -> int:
    return len({record["id"] for record in records if "broken" not in record})
