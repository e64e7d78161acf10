"""The table of the samples that an unfinished run has measured so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .data import Dataset
from .identity import stated
from .records import read_finished
from .tables import Table, make_table
from .tasks import Settings, Task


def partial_table(
    kind: type[Task], data: Dataset, settings: Settings, out: Path, *, about: Mapping[str, object] | None = None
) -> Table | None:
    """Makes a table of the chunks that are on disk already; nothing is measured or written, and no model is needed.

    Another process may be at work in the folder. Samples are not read again, and the methods are those of the run.

    Args:
        kind: the task.
        data: the data set.
        settings: the settings of the run; of other methods than those that are named there, the run's own stay.
        out: folder of the run.
        about: what else was said about the run, see :func:`~captum_gradeclip.experiments.run` (default: nothing).

    Returns:
        The table, whose note says how many samples it is of; ``None`` where no chunk is finished.

    Raises:
        RecordError: for records of another run, naming what differs.

    >>> import tempfile
    >>> from captum_gradeclip.adapters import loading
    >>> from captum_gradeclip.experiments import DataArguments, make_dataset, run
    >>> class Sides(Task):
    ...     name, summary = "sides", "the sides of pictures in pixels"
    ...     def begin(self):
    ...         self.explainers = []
    ...     def measure(self, samples):
    ...         found = [(one.sample.id, one.sample.image.width) for one in samples]
    ...         return [{"id": name, "method": "none", "values": {"width": width}} for name, width in found]
    >>> data, settings = make_dataset("scenes", DataArguments(samples=2)), Settings()
    >>> with tempfile.TemporaryDirectory() as out:
    ...     before = partial_table(Sides, data, settings, Path(out))
    ...     records = run(Sides, loading.load(), data, settings, Path(out))
    ...     after = partial_table(Sides, data, settings, Path(out))
    >>> before, after.note
    (None, 'All 2 samples have been measured.')
    """
    records, count = read_finished(out, stated(kind, data, settings, about))
    if not count:
        return None
    table = make_table(kind, records, data, settings)
    share = f"{count:,} of {len(data):,} samples have been measured"
    note = f"All {share.partition(' of ')[2]}." if count == len(data) else f"Unfinished: {share}."
    return replace(table, note=f"{note} {table.note}".strip())
