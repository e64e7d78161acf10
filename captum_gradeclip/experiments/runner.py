"""A run over a data set: chunks of samples, measured by one process or many, kept on disk, continued where they stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from ..adapters.loading import Loaded
from ..progress import display, track
from .chunks import Chunks
from .data import DataError, Dataset, LeftOutError, Sample
from .identity import identify
from .lock import Lock
from .processes import ProcessError, Processes
from .records import Record, Records, differences
from .tasks import Prepared, Settings, Task

_CHUNK, _SHARE = 16, 20
"""The most samples of a chunk, and the least number of chunks in a run that has as many samples."""


def run(
    kind: type[Task],
    loaded: Loaded,
    data: Dataset,
    settings: Settings,
    out: Path,
    *,
    about: Mapping[str, object] | None = None,
    chunk: int | None = None,
) -> list[Record] | None:
    """Measures all samples of a data set; records that are on disk already are not measured again.

    A chunk always holds the same samples, whichever process measures it and after however many interruptions, so that its
    figures are the same to the last bit. Under ``torchrun`` each process takes its share of the chunks, and any number of
    processes goes on where others have stopped. Of the chunks that are on disk already, the samples are read again, since
    their checksums must be those of the samples that were measured.

    Args:
        kind: the task.
        loaded: model and tokenizer.
        data: the data set.
        settings: what decides the figures, beside model and data set.
        out: folder of the run; it is made if it is missing.
        about: what else decides them, the model's name for example; it is kept with the records and compared before they
            are used again, as is everything that :func:`~captum_gradeclip.experiments.identity.identify` finds out by itself
            (default: nothing).
        chunk: number of samples that are measured together, and lost together by a run that is stopped, at least 1;
            ``None`` (default) for a twentieth of the samples, at least 1 and at most 16.

    Returns:
        The records in the order of the samples; ``None`` in all processes but the first.

    Raises:
        DataError: for a broken sample, naming the file, unless these are skipped. A sample in which the task has nothing to
            ask for is left out in any case; tables say how many there are.
        RecordError: for records of another run, naming what differs, and if another run is at work in the folder.
        ProcessError: if another process of this run has ended.
        MethodError: if a method fails for another reason than not being defined for the model, naming it.
        OSError: if the records cannot be written.

    >>> import tempfile
    >>> from captum_gradeclip.adapters import loading
    >>> from captum_gradeclip.experiments import DataArguments, make_dataset
    >>> class Sides(Task):
    ...     name, summary = "sides", "the sides of pictures in pixels"
    ...     def begin(self):
    ...         self.explainers = []
    ...     def measure(self, samples):
    ...         found = [(one.sample.id, one.sample.image.width) for one in samples]
    ...         return [{"id": name, "method": "none", "values": {"width": width}} for name, width in found]
    >>> loaded, data = loading.load(), make_dataset("scenes", DataArguments(samples=2))
    >>> with tempfile.TemporaryDirectory() as out:
    ...     records = run(Sides, loaded, data, Settings(), Path(out))
    ...     again = run(Sides, loaded, data, Settings(), Path(out))  # read from disk
    >>> records[0], again == records
    ({'id': 'evaluation-0-000000', 'method': 'none', 'values': {'width': 96}}, True)
    """
    processes = Processes.launched()
    task = kind(loaded, data, settings)
    chunks = Chunks(data, max(1, min(_CHUNK, len(data) // _SHARE)) if chunk is None else chunk)
    out.mkdir(parents=True, exist_ok=True)
    with Lock(out) as lock:
        identities = processes.each(lambda: identify(task, chunks.size, about))
        identity = identities[processes.rank]
        _agree(identities)

        def settle() -> None:
            if processes.first:
                lock.take()
                Records(out, identity).clear()
                lock.share()

        processes.each(settle)
        processes.each(lock.share)
        records = Records(out, identity, chunks.contents)
        share = range(processes.rank, len(chunks), processes.count)
        whole = [number for some in processes.each(lambda: _whole(records, share, processes)) for number in some]
        missing = [number for number in range(len(chunks)) if number not in set(whole)]
        _measure(task, chunks, records, missing, processes)
        processes.gather(None)  # until all of them are done
        return records.read(len(chunks)) if processes.first else None


def _agree(identities: Sequence[Mapping[str, object]]) -> None:
    """Refuses processes that would measure different things, with random weights of their own for example."""
    for number, one in enumerate(identities):
        found = list(differences(identities[0], one))
        if found:
            raise ProcessError(f"the processes of this run differ: {found[0]}, in process 0 and in process {number}")


def _whole(records: Records, chunks: Sequence[int], processes: Processes) -> list[int]:
    """Those of some chunks that have been measured already."""
    there = [number for number in chunks if records.path(number).exists()]
    # To check many of them takes its time, since their samples are read.
    shown = track(there, "checking records", disable=not (there and processes.first))
    return [number for number in shown if records.has(number)]


def _measure(task: Task, chunks: Chunks, records: Records, missing: Sequence[int], processes: Processes) -> None:
    """Measures the share of this process, one chunk after the other."""
    mine = missing[processes.rank :: processes.count]
    if mine:
        task.begin()
    done = 0 if processes.count > 1 else len(chunks) - len(missing)
    with display() if processes.first else nullcontext():
        for number in track(mine, f"{task.name}, chunks", done=done, disable=not processes.first):
            found, others = _prepared(task, number * chunks.size, chunks.samples(number))
            records.write(number, [*(task.measure(found) if found else ()), *others])


def _prepared(task: Task, first: int, samples: Sequence[Sample | DataError]) -> tuple[list[Prepared], list[Record]]:
    """Samples that can be measured, and a record of each of the others; ``first`` is the number of the first of them."""
    found: list[Prepared] = []
    others: list[Record] = []
    for number, sample in enumerate(samples, first):
        try:
            if isinstance(sample, DataError):
                raise sample
            found.append(task.prepare(sample))
        except LeftOutError as error:
            others.append({"id": str(number), "left_out": str(error)})
        except DataError as error:
            if not task.settings.skip_broken:
                raise
            others.append({"id": str(number), "broken": str(error)})
    return found, others
