"""A run over a data set: chunks of samples, measured by one process or by many, kept on disk, taken up where they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..loading import Loaded
from .data import Data, DataError, Sample
from .records import Records
from .tasks import Record, Settings, Task

CHUNK = 16


def run(
    kind: type[Task],
    loaded: Loaded,
    data: Data,
    settings: Settings,
    out: Path,
    *,
    about: dict[str, Any] | None = None,
    chunk: int = CHUNK,
) -> list[Record] | None:
    """The records of a task on all samples; those that are on disk already are not measured again.

    A chunk always holds the same samples, whichever process measures it and after however many interruptions, so that its
    figures are the same to the last bit. Under ``accelerate launch`` each process takes its share of the chunks.

    Args:
        kind: the task.
        loaded: model and tokenizer.
        data: samples.
        settings: of the task.
        out: folder of the run.
        about: what else decides the result, the model's name, say; kept beside the records and compared.
        chunk: samples measured together.

    Returns:
        The records in the order of the samples; ``None`` in all processes but the first.

    Raises:
        DataError: for a broken sample, naming the file.
        RecordError: for records of another run, or broken ones, naming the file.
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
    task = kind(loaded, data, settings) if mine else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=rank > 0) as progress:
        bar = progress.add_task(kind.name, total=chunks if world == 1 else len(mine))
        progress.advance(bar, chunks - len(missing) if world == 1 else 0)
        for number in mine:
            assert task is not None
            found, broken = _samples(task, range(number * chunk, min((number + 1) * chunk, len(data))))
            measured = task.measure(found) if found else []
            records.write(number, [*measured, *({"id": name, "broken": reason} for name, reason in broken)])
            progress.advance(bar)
    _wait()
    return None if rank else records.read(chunks)


def _samples(task: Task, numbers: Sequence[int]) -> tuple[list[Sample], list[tuple[str, str]]]:
    found, broken = [], []
    for number in numbers:
        try:
            sample = task.data[number]
            task.check(sample)
            found.append(sample)
        except DataError as error:
            if not task.settings.skip_broken:
                raise
            broken.append((str(number), str(error)))
    return found, broken


def _place() -> tuple[int, int]:
    """This process among all that were launched together."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    from accelerate import PartialState

    # One process may be done hours before the slowest; by default those that wait give up after minutes.
    state = PartialState(timeout=timedelta(days=7))
    return state.process_index, state.num_processes


def _wait() -> None:
    if "WORLD_SIZE" in os.environ:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
