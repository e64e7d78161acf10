"""Studies: what maps say about a model, a file each, and :data:`STUDIES`, which lists them by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...adapters.loading import Loaded
from ..data import Dataset
from ..records import Record
from ..tables import printed_name
from .addibility import Addibility
from .attributes import Attributes
from .base import Study
from .concreteness import Concreteness
from .heads import Heads
from .report import Report
from .settings import Reading, StudySettings

__all__ = [
    "STUDIES",
    "Addibility",
    "Attributes",
    "Concreteness",
    "Heads",
    "Reading",
    "Report",
    "Study",
    "StudySettings",
    "conclude",
]

STUDIES: dict[str, type[Study]] = {kind.name: kind for kind in (Addibility, Attributes, Concreteness, Heads)}
"""The studies by name."""


def conclude(
    kind: type[Study],
    loaded: Loaded,
    data: Dataset,
    settings: StudySettings,
    records: Sequence[Record],
    reading: Reading | None = None,
) -> list[Report]:
    """What follows from the records of a study, a report for each method; the first one also has the pictures.

    Args:
        kind: the study.
        loaded: model and tokenizer, by which some samples are drawn.
        data: the data set that was measured.
        settings: the settings that it was measured with.
        records: the records of :func:`~captum_gradeclip.experiments.run`.
        reading: how the records are read; ``None`` (default) for :class:`Reading` as it is.

    Returns:
        A report for each method of the records; none if no sample was measured.

    Raises:
        DataError: for ratings or frequencies that cannot be read, naming file, line and column; if no sample was measured;
            and for examples that are not there.

    >>> from captum_gradeclip.adapters import loading
    >>> from captum_gradeclip.experiments import DataArguments, make_dataset
    >>> study, settings = STUDIES["concreteness"], StudySettings()
    >>> data = make_dataset("scenes", DataArguments(samples=1), study.datasets)
    >>> weights = [("a", 0.1), ("red", 0.7), ("circle", 1.0), ("above", 0.4), ("something", 0.2)]
    >>> records = [{"id": "one", "method": "GradECLIP", "captions": [weights]}]
    >>> (report,) = conclude(study, loading.load(), data, settings, records)
    >>> report.name, report.findings[0].partition(":")[0]
    ('concreteness', 'importance on our own marks, 1 to 5')
    """
    reading = reading or Reading()
    task = kind(loaded, data, settings)
    by_method: dict[str, list[Record]] = {}
    for record in records:
        if "method" in record:
            by_method.setdefault(record["method"], []).append(record)
    broken, left_out = (sum(what in record for record in records) for what in ("broken", "left_out"))
    reports = []
    for method, some in by_method.items():
        name = kind.name if len(by_method) == 1 else f"{kind.name}-{method}"
        report = kind.report(some, name, printed_name(method), data.name, reading)
        facts = {**report.facts, "broken samples": broken, "samples left out": left_out}
        said = [f"Broken samples left out: {broken}."] if broken else []
        said += [f"Samples left out, since there is nothing to ask for in them: {left_out}."] if left_out else []
        reports.append(replace(report, facts=facts, findings=[*report.findings, *said]))
    if reports:
        task.begin()
        reports[0] = replace(reports[0], figures={**reports[0].figures, **task.pictures(reading)})
    return reports
