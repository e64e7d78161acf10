"""Records as tables and curves, in files that papers and spreadsheets read."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from rich.table import Column, Table as Screen
from rich.text import Text

from .. import show
from ..attr import BASELINES, CAPTUM, METHODS
from ..files import write_texts
from ..metrics import Schedule, area_under, bootstrap_interval, mean_change, paired_t_test
from ..quoting import legible, line
from .data import Dataset
from .latex import tabular
from .published import Figures, published_figures
from .records import MODES, Record

if TYPE_CHECKING:
    from .tasks import Settings, Task

REFERENCES = frozenset({"Oracle", "RandomMap", "CenterPrior"})
"""Ids of maps that know the truth or nothing; they do not compete with methods."""
P_VALUE = "p-value"
"""The row of a table that holds the test between its two best methods."""


@dataclass(frozen=True)
class Cell:
    """A figure with its interval of 95 %, by resampling the samples.

    Attributes:
        value: the figure.
        low: lower end of the interval; NaN where there is none.
        high: upper end of the interval; NaN where there is none.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @classmethod
    def of(cls, values: Sequence[float]) -> Cell:
        """The mean of the values of all samples."""
        return cls(float(np.mean(values)), *bootstrap_interval(values))

    def __str__(self) -> str:
        return f"{self.value:.3f}"


@dataclass(frozen=True)
class Table:
    """Methods by row and figures by column; a cell may be missing.

    Attributes:
        title: what the table shows, with the number of samples.
        columns: names of the columns, in their order.
        rows: cells by column, by id of the method, in their order.
        lower: names of the columns whose lowest value is the best; in all others the highest is.
        note: what a reader must know.
        published: figures of the papers, by row and column; ``None`` where they cannot be compared.

    >>> rows = {"GradECLIP": {"PG": Cell(0.9), "seconds": Cell(0.02)}, "RISE": {"PG": Cell(0.7), "seconds": Cell(4.0)}}
    >>> table = Table("Localization", ["PG", "seconds"], rows, lower=frozenset({"seconds"}))
    >>> table.best("PG"), table.ranked("seconds"), table.cells()[0]
    ('GradECLIP', ['GradECLIP', 'RISE'], ['Grad-ECLIP', '0.900', '0.020'])
    """

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Cell]]
    lower: frozenset[str] = frozenset()
    note: str = ""
    published: Figures | None = None

    def cells(self) -> list[list[str]]:
        """Each row as text, its printed name first, with the paper's figure in brackets where there is one."""
        rows = []
        for row, cells in self.rows.items():
            known = (self.published or {}).get(row, {})
            shown = []
            for column in self.columns:
                text = str(cells[column]) if column in cells else "-"
                shown.append(f"{text} ({known[column]:.3f})" if column in known else text)
            rows.append([printed_name(row), *shown])
        return rows

    def ranked(self, column: str) -> list[str]:
        """The rows that compete in a column, the best first."""
        known = {row: cells[column].value for row, cells in self.rows.items() if column in cells}
        competing = [row for row in known if row not in REFERENCES and row != P_VALUE and np.isfinite(known[row])]
        return sorted(competing, key=lambda row: known[row], reverse=column not in self.lower)

    def best(self, column: str) -> str | None:
        """The row that is best in a column; ``None`` if no row competes."""
        return next(iter(self.ranked(column)), None)

    def markdown(self) -> str:
        """As Markdown, with the best of every column in bold."""
        columns = map(_in_markdown, self.columns)
        lines = [f"**{legible(self.title)}**", "", f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(self.columns)]
        lines += [f"| {_in_markdown(name)} | {' | '.join(cells)} |" for name, *cells in self._marked("**{}**")]
        return "\n".join([*lines, *(["", legible(self.note)] if self.note else []), ""])

    def latex(self) -> str:
        """As a ``tabular`` for the package ``booktabs`` that fits a column, with the best of every column in bold."""
        best = [self.best(column) for column in self.columns]
        numbers = {row: number for number, row in enumerate(self.rows)}
        return tabular(self.title, self.columns, self.cells(), [None if row is None else numbers[row] for row in best])

    def csv(self) -> str:
        """One line per cell: method, column, value, interval if there is one, the paper's figure if there is one."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "column", "value", "low", "high", "published"])
        for row, cells in self.rows.items():
            for column in self.columns:
                if column in cells:
                    cell = cells[column]
                    known = (self.published or {}).get(row, {}).get(column, "")
                    numbers = ("" if np.isnan(x) else f"{x:.6f}" for x in (cell.value, cell.low, cell.high))
                    writer.writerow([legible(printed_name(row)), legible(column), *numbers, known])
        return file.getvalue()

    def screen(self) -> Screen:
        """For the terminal."""
        title, *columns = (Text(legible(one)) for one in (self.title, *self.columns))
        note = Text(legible(self.note)) if self.note else None
        table = Screen(Column(""), *map(Column, columns), title=title, caption=note)
        for row in self.cells():
            table.add_row(*(Text(legible(one)) for one in row))
        return table

    def write(self, folder: Path, name: str) -> None:
        """Writes ``name.csv``, ``name.md`` and ``name.tex`` into a folder, all of them or none."""
        write_texts(folder, {f"{name}.csv": self.csv(), f"{name}.md": self.markdown(), f"{name}.tex": self.latex()})

    def _marked(self, bold: str) -> list[list[str]]:
        best = [self.best(column) for column in self.columns]
        return [
            [name, *(bold.format(cell) if best[number] == row else cell for number, cell in enumerate(cells))]
            for row, (name, *cells) in zip(self.rows, self.cells())
        ]


def tabulate(kind: type[Task], records: Sequence[Record], data: Dataset, settings: Settings, out: Path) -> Table:
    """Makes the table of a task's records, and writes it as CSV, Markdown and LaTeX, and its curves as PNG.

    Args:
        kind: the task.
        records: the records of all samples.
        data: the data set that they were measured on.
        settings: the settings that they were measured with.
        out: an existing folder for the files.

    Returns:
        The table.

    Raises:
        OSError: if a file cannot be written.

    >>> import tempfile
    >>> from captum_gradeclip.experiments import TASKS, DataArguments, Settings, make_dataset
    >>> (task,), data = TASKS["localization"], make_dataset("scenes", DataArguments(samples=2))
    >>> records = [{"id": name, "method": "GradECLIP", "values": {"PG": hit}} for name, hit in (("a", 1.0), ("b", 0.0))]
    >>> with tempfile.TemporaryDirectory() as out:
    ...     table = tabulate(task, records, data, Settings(), Path(out))
    ...     table.columns, sorted(path.name for path in Path(out).iterdir())
    (['PG'], ['localization.csv', 'localization.md', 'localization.tex'])
    """
    table = make_table(kind, records, data, settings)
    name = kind.name.replace(" ", "-")
    table.write(out, name)
    if by_method(records, "curves"):
        schedule = None if kind.of_texts else kind.schedule(settings.setup)
        show.save(draw_curves(records, schedule), out / f"{name}-curves.png")
    return table


def make_table(kind: type[Task], records: Sequence[Record], data: Dataset, settings: Settings) -> Table:
    """Makes the table of a task's records, with the figures of the papers where they can be compared.

    Args:
        kind: the task.
        records: records of some or all samples.
        data: the data set that they were measured on.
        settings: the settings that they were measured with.
    """
    setup = settings.setup
    table = kind.table(records, f"{kind.name}, {data.name}, {setup.id} protocol", setup)
    broken, others = (sum(what in record for record in records) for what in ("broken", "left_out"))
    notes = [table.note] if table.note else []
    notes += [f"{broken} broken samples were left out."] if broken else []
    notes += [f"{others} samples in which this task has nothing to ask for were left out."] if others else []
    published = published_figures(kind.name, data) if setup.published else None
    return replace(table, published=published, note=" ".join(notes))


def printed_name(row: str) -> str:
    """The printed name of the method with this id; any other row is printed as it is called.

    >>> printed_name("GradECLIP"), printed_name("2 layers")
    ('Grad-ECLIP', '2 layers')
    """
    return next((kind.info.name for kind in (*METHODS, *CAPTUM, *BASELINES) if kind.__name__ == row), row)


def by_method(records: Sequence[Record], what: Literal["values", "curves", "open"]) -> dict[str, list[Record]]:
    """The records that hold one kind of result, by id of the method, in the order of their first appearance.

    Args:
        records: records of any methods.
        what: the kind of result.
    """
    found: dict[str, list[Record]] = {}
    for record in records:
        if what in record:
            found.setdefault(record["method"], []).append(record)
    return found


def value_table(records: Sequence[Record], title: str, lower: frozenset[str] = frozenset(), note: str = "") -> Table:
    """The mean of every value over the samples.

    Args:
        records: records with values.
        title: title of the table; the number of samples is added.
        lower: names of the columns whose lowest value is the best.
        note: what a reader must know.
    """
    rows = {
        method: {name: Cell.of([record["values"][name] for record in some]) for name in some[0]["values"]}
        for method, some in by_method(records, "values").items()
    }
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    return Table(_counted(title, records), columns, rows, lower.intersection(columns), note)


def curve_table(records: Sequence[Record], title: str, first: int = 0, note: str = "") -> Table:
    """The area under every curve, and the area of insertion minus that of deletion (IMD).

    The last row holds, for each column, the two-sided p-value of a paired t-test between the two best methods: between their
    mean curves, or, since the difference has no curve, between its values for all samples.

    Args:
        records: records with curves.
        title: title of the table; the number of samples is added.
        first: index of the first point that counts for the area (default 0).
        note: what a reader must know.
    """
    areas: dict[str, dict[str, list[float]]] = {}
    means: dict[str, dict[str, list[float]]] = {}
    lower: set[str] = set()
    for method, some in by_method(records, "curves").items():
        own = areas[method] = {}
        for asked, traced in _panels(some):
            heads = {mode: _heading(mode, asked, traced) for mode in (*MODES, "IMD")}
            for mode in MODES:
                curve = np.array([record["curves"][asked][mode][traced] for record in some])[:, first:]
                own[heads[mode]] = area_under(torch.from_numpy(curve)).tolist()
                means.setdefault(heads[mode], {})[method] = curve.mean(axis=0).tolist()
            lower.add(heads["deletion"])
            own[heads["IMD"]] = (np.array(own[heads["insertion"]]) - np.array(own[heads["deletion"]])).tolist()
    columns = sorted({name for own in areas.values() for name in own}, key=_order)
    rows = {method: {name: Cell.of(values) for name, values in own.items()} for method, own in areas.items()}
    table = Table(_counted(title, records), columns, rows, frozenset(lower), note)
    # A method whose map does not depend on the target has no curves of its own for the predicted class.
    values = {name: {row: own[name] for row, own in areas.items() if name in own} for name in columns}
    return _tested(table, {name: means.get(name) or values[name] for name in columns})


_MARGIN = (
    "One of the classes present is named at a time. Its margin is its score minus the best score of the other classes"
    " present. Del loss: the mean fall of the margin while up to half of the pixels are taken away in the order of the"
    " map. Ins gain: its mean rise while they come back into an empty picture. A share of the oracle is that of the mask"
    " of the named class."
)


def margin_table(records: Sequence[Record], title: str, note: str = _MARGIN) -> Table:
    """The pointing game, what deletion takes from the margin and what insertion gives it, and the oracle's share of both.

    The last row holds, for each column but the shares, the two-sided p-value of a paired t-test between the values of the
    two best methods for all samples.

    Args:
        records: records with curves of the margin and a value of the pointing game.
        title: title of the table; the number of samples is added.
        note: what a reader must know (default: what the margin of one of several classes is).
    """
    values: dict[str, dict[str, list[float]]] = {"PG": {}, "Del loss": {}, "Ins gain": {}}
    for method, some in by_method(records, "curves").items():
        changes = {
            mode: mean_change(torch.from_numpy(np.array([record["curves"]["named"][mode]["margin"] for record in some])))
            for mode in MODES
        }
        values["PG"][method] = [record["values"]["PG"] for record in some]
        values["Del loss"][method] = (-changes["deletion"]).tolist()
        values["Ins gain"][method] = changes["insertion"].tolist()
    rows: dict[str, dict[str, Cell]] = {method: {} for method in values["PG"]}
    for column, by_row in values.items():
        for method, own in by_row.items():
            rows[method][column] = Cell.of(own)
    columns = ["PG"]
    for column in ("Del loss", "Ins gain"):
        columns.append(column)
        ceiling = rows["Oracle"][column].value if "Oracle" in rows else 0
        if ceiling > 0:
            columns.append(f"{column} / oracle")
            for cells in rows.values():
                # A quotient of two figures of the data set is no mean over its samples, so it has no interval.
                cells[columns[-1]] = Cell(cells[column].value / ceiling)
    return _tested(Table(_counted(title, records), columns, rows, note=note), values)


def open_vocabulary_table(records: Sequence[Record], title: str) -> Table:
    """Mean IoU over classes and background, mean average precision over classes, and the mean share of points inside.

    Args:
        records: records of open vocabulary.
        title: title of the table; the number of samples is added.
    """
    from sklearn.metrics import average_precision_score

    rows: dict[str, dict[str, Cell]] = {}
    for method, some in by_method(records, "open").items():
        opened = [record["open"] for record in some]
        counts: dict[str, npt.NDArray[np.float64]] = {}
        for one in opened:
            for label, pair in one["pixels"].items():
                counts[label] = counts.get(label, np.zeros(2)) + pair
        overlaps = [intersection / union for intersection, union in counts.values() if union]
        scores = np.array([one["scores"] for one in opened])
        truth = np.zeros(scores.shape, dtype=bool)
        for row, one in enumerate(opened):
            truth[row, one["present"]] = True
        seen = np.nonzero(truth.any(axis=0))[0]
        precision = [average_precision_score(truth[:, label], scores[:, label]) for label in seen]
        # The first two are figures of a data set, not means over its samples, so they have no interval by resampling.
        rows[method] = {
            "mIoU": Cell(float(np.mean(overlaps))),
            "mAP": Cell(float(np.mean(precision))),
            "points": Cell.of([one["points"] for one in opened if one["points"] is not None]),
        }
    note = (
        "mIoU: a pixel is background where no class reaches half of the range of the picture's maps. mAP: a class is ranked"
        " by the maximum of its map. points: mean share of point prompts that lie on their class."
    )
    return Table(_counted(title, records), ["mIoU", "mAP", "points"], rows, note=note)


@show.own_settings()
def draw_curves(records: Sequence[Record], schedule: Schedule | None) -> Figure:
    """Mean curves of all methods: deletion above insertion, a column for everything that is asked for and traced.

    Args:
        records: records with curves.
        schedule: gives the shares of pixels on the horizontal axis; ``None`` for curves of words, whose axis counts steps.
    """
    methods = by_method(records, "curves")
    panels = list(dict.fromkeys(panel for some in methods.values() for panel in _panels(some)))
    figure = Figure(figsize=(3.1 * len(panels) + 2.2, 5.2), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharey="col")
    for column, (asked, traced) in enumerate(panels):
        for row, mode in enumerate(MODES):
            axis = axes[row, column]
            for number, (method, some) in enumerate(methods.items()):
                if asked not in some[0]["curves"]:
                    continue
                mean = np.mean([record["curves"][asked][mode][traced] for record in some], axis=0)
                x = np.arange(len(mean)) if schedule is None else 100 * np.array(schedule.shares(mode))
                style, marker = ":" if method in REFERENCES else "-", "" if number < 10 else "."
                axis.plot(
                    x, mean, style, label=line(printed_name(method), 40), color=f"C{number % 10}", marker=marker, lw=1.4
                )
            axis.set_title(line(f"{mode}, {asked}, {traced}", 40), fontsize=8, **show.PLAIN)
            axis.set_xlabel("step" if schedule is None else "% of the pixels", fontsize=8)
            axis.tick_params(labelsize=7)
    legend = figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=7)
    for text in legend.get_texts():
        text.update(show.PLAIN)
    return figure


def _tested(table: Table, values: Mapping[str, Mapping[str, Sequence[float]]]) -> Table:
    """A table with a row more: for each column, the p-value of a paired t-test between its two best methods.

    Args:
        table: the table.
        values: what is compared, by column and row, at least two of each; other columns are not tested.
    """
    tests: dict[str, Cell] = {}
    for column, by_row in values.items():
        best = table.ranked(column)[:2]
        if len(best) == 2 and len(by_row[best[0]]) > 1:
            p = paired_t_test(by_row[best[0]], by_row[best[1]]).p_value
            tests[column] = Cell(p, p, p)
    return replace(table, rows={**table.rows, P_VALUE: tests})


def _in_markdown(text: str) -> str:
    r"""A name as it may stand in a cell of a table: on one line, and with no border of its own.

    >>> print(_in_markdown("a|b\n"))
    a\|b\n
    """
    return legible(text).replace("|", r"\|")


def _panels(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Everything that is asked for and traced in the curves of a method."""
    return [(asked, traced) for asked, modes in records[0]["curves"].items() for traced in modes["deletion"]]


def _heading(mode: str, asked: str, traced: str) -> str:
    short = {"deletion": "Del", "insertion": "Ins"}.get(mode, mode)
    return f"{short} {traced}" if asked in ("image", "words") else f"{short} {asked}@{traced}"


def _order(column: str) -> tuple[int, str]:
    return ("Del", "Ins", "IMD").index(column.split()[0]), column


def _counted(title: str, records: Sequence[Record]) -> str:
    return f"{title} ({len({record['id'] for record in records if 'method' in record})} samples)"
