"""A run over a data set: chunks of samples, measured by one process or many, kept on disk, continued where they stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..adapters.loading import Loaded
from .data import DataError, Dataset
from .records import Record, Records
from .tasks import Prepared, Settings, Task

_CHUNK = 16


def run(
    kind: type[Task],
    loaded: Loaded,
    data: Dataset,
    settings: Settings,
    out: Path,
    *,
    about: Mapping[str, object] | None = None,
    chunk: int = _CHUNK,
) -> list[Record] | None:
    """Measures all samples of a data set; records that are on disk already are not measured again.

    A chunk always holds the same samples, whichever process measures it and after however many interruptions, so that its
    figures are the same to the last bit. Under ``accelerate launch`` each process takes its share of the chunks.

    Args:
        kind: the task.
        loaded: model and tokenizer.
        data: the data set.
        settings: what decides the figures, beside model and data set.
        out: folder of the run; it is made if it is missing.
        about: what else decides them, the model's name for example; kept beside the records and compared before they are
            used again (default: nothing).
        chunk: number of samples that are measured together, at least 1 (default 16).

    Returns:
        The records in the order of the samples; ``None`` in all processes but the first.

    Raises:
        DataError: for a broken sample, naming the file, unless these are skipped.
        RecordError: for records of another run, or broken ones, naming the file.
        MethodError: if a method fails for another reason than not being defined for the model, naming it.
        OSError: if the records cannot be written.
    """
    rank, world = _place()
    chunks = -(-len(data) // chunk)
    described = {
        "task": kind.name,
        "data": {"name": data.name, **data.about},
        "samples": len(data),
        "chunk": chunk,
        **asdict(settings),
        **(about or {}),
    }
    if rank:
        _wait()  # the first process settles whose folder this is
    records = Records(out, described)
    if not rank:
        _wait()
    missing = [number for number in range(chunks) if not records.has(number)]
    _wait()  # before any of them is written, all processes know which are missing
    mine = missing[rank::world]
    task = kind(loaded, data, settings)
    if mine:
        task.begin()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=rank > 0) as progress:
        bar = progress.add_task(kind.name, total=chunks if world == 1 else len(mine))
        progress.advance(bar, chunks - len(missing) if world == 1 else 0)
        for number in mine:
            found, broken = _prepared(task, range(number * chunk, min((number + 1) * chunk, len(data))))
            records.write(number, [*(task.measure(found) if found else ()), *broken])
            progress.advance(bar)
    _wait()
    return None if rank else records.read(chunks)


def _prepared(task: Task, numbers: Sequence[int]) -> tuple[list[Prepared], list[Record]]:
    """The samples of these numbers, and a record of each that is broken."""
    found: list[Prepared] = []
    broken: list[Record] = []
    for number in numbers:
        try:
            found.append(task.prepare(task.data[number]))
        except DataError as error:
            if not task.settings.skip_broken:
                raise
            broken.append({"id": str(number), "broken": str(error)})
    return found, broken


def _place() -> tuple[int, int]:
    """The number of this process among all that were launched together, and how many they are."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    from accelerate import PartialState

    # One process may be done hours before the slowest; by default those that wait give up after minutes.
    state = PartialState(timeout=timedelta(days=7))
    return state.process_index, state.num_processes


def _wait() -> None:
    """Until all processes are here."""
    if "WORLD_SIZE" in os.environ:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
