"""Runs over data sets that fill the papers' tables: what is measured, kept on disk, and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import show
from .data import ClassFolders, CocoCaptions, Data, DataError, First, ImageNetS, IndexMasks, Sample, Scenes
from .explainers import explainers
from .published import BY_DATA
from .records import RecordError, Records
from .runner import run
from .scenes_model import evaluate_scenes
from .tables import Table, curve_table, draw_curves, open_vocabulary_table, value_table
from .tasks import TASKS, Record, Settings, Task
from .timing import time_table

__all__ = [
    "TASKS",
    "ClassFolders",
    "CocoCaptions",
    "Data",
    "DataError",
    "First",
    "ImageNetS",
    "IndexMasks",
    "RecordError",
    "Records",
    "Sample",
    "Scenes",
    "Settings",
    "Table",
    "evaluate_scenes",
    "explainers",
    "run",
    "tabulate",
    "time_table",
]


def tabulate(kind: type[Task], records: Sequence[Record], data: Data, settings: Settings, out: Path) -> Table:
    """The table of a task's records, written as CSV, Markdown and LaTeX, and its curves as PNG.

    Args:
        kind: the task.
        records: of all samples.
        data: they are of.
        settings: they were measured with.
        out: folder.
    """
    title = f"{kind.name}, {data.name}, {settings.protocol} protocol"
    if any("open" in record for record in records):
        table = open_vocabulary_table(records, title)
    elif any("values" in record for record in records):
        table = value_table(records, title)
    else:
        table = curve_table(records, title, first=int(kind.of_texts and settings.protocol == "release"))
    broken = sum("broken" in record for record in records)
    note = f"{table.note} {broken} broken samples were left out.".strip() if broken else table.note
    # Only what was measured as the papers measured it stands beside their figures.
    theirs = settings.protocol == "release" and (data.name != "folders" or len(data.classes) == 1000)
    table = replace(table, published=BY_DATA.get((kind.name, data.name)) if theirs else None, note=note)
    name = kind.name.replace(" ", "-")
    table.write(out, name)
    if any("curves" in record for record in records):
        schedule = None if kind.of_texts else settings.schedule
        show.save(draw_curves(records, schedule), out / f"{name}-curves.png")
    return table
