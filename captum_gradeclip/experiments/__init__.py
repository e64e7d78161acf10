"""Runs over data sets that fill the papers' tables.

:data:`DATASETS` and :data:`TASKS` list what there is; a data set or a task is a file and a name in its registry. A run
(:func:`run`) measures one task on one data set under a setup (:data:`SETUPS`) and keeps its records on disk, of which
:func:`tabulate` makes a table.

>>> import tempfile
>>> from pathlib import Path
>>> from captum_gradeclip.adapters import loading
>>> data = make_dataset("scenes", DataArguments(samples=2))
>>> settings = Settings(methods=["GradECLIP", "random"], protocol="fair")
>>> (task,) = TASKS["localization"]
>>> with tempfile.TemporaryDirectory() as out:
...     records = run(task, loading.load(), data, settings, Path(out))
...     table = tabulate(task, records, data, settings, Path(out))
>>> list(table.rows)
['GradECLIP', 'RandomMap']
"""

from __future__ import annotations

from .data import (
    DATASETS,
    ClassFolders,
    CocoCaptions,
    DataArguments,
    DataError,
    Dataset,
    ImageNetS,
    IndexMasks,
    Sample,
    Scenes,
    Subset,
    make_dataset,
)
from .explainers import MethodError, explainers
from .findings import evaluate_scenes
from .lock import LockedError
from .partial import partial_table
from .processes import ProcessError
from .prompt_score import PromptScore
from .records import RecordError, Records
from .runner import run
from .setups import FAIR, RELEASED, SETUPS, Setup, wrapper_features
from .studies import STUDIES, Reading, Study, StudySettings, conclude
from .tables import Table, tabulate
from .tasks import TASKS, Record, Settings, Task
from .timing import time_table

__all__ = [
    "DATASETS",
    "FAIR",
    "RELEASED",
    "SETUPS",
    "STUDIES",
    "TASKS",
    "ClassFolders",
    "CocoCaptions",
    "DataArguments",
    "DataError",
    "Dataset",
    "ImageNetS",
    "IndexMasks",
    "LockedError",
    "MethodError",
    "ProcessError",
    "PromptScore",
    "Reading",
    "Record",
    "RecordError",
    "Records",
    "Sample",
    "Scenes",
    "Settings",
    "Setup",
    "Study",
    "StudySettings",
    "Subset",
    "Table",
    "Task",
    "conclude",
    "evaluate_scenes",
    "explainers",
    "make_dataset",
    "partial_table",
    "run",
    "tabulate",
    "time_table",
    "wrapper_features",
]
