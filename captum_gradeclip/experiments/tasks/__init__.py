"""Tasks, each of which measures one table: a file each, and :data:`TASKS`, which lists them by command."""

from __future__ import annotations

from ..records import MODES, Record
from .axioms import Axioms
from .base import Group, Prepared, Settings, Task
from .faithfulness import Faithfulness
from .layers import ImageLayers, TextLayers
from .localization import Localization
from .openvocab import OpenVocabulary
from .pairs import Pairs
from .retrieval import Retrieval
from .targeted import Targeted
from .words import Words

__all__ = [
    "MODES",
    "TASKS",
    "Axioms",
    "Faithfulness",
    "Group",
    "ImageLayers",
    "Localization",
    "OpenVocabulary",
    "Pairs",
    "Prepared",
    "Record",
    "Retrieval",
    "Settings",
    "Targeted",
    "Task",
    "TextLayers",
    "Words",
]

_KINDS: tuple[type[Task], ...] = (
    Faithfulness,
    Retrieval,
    Words,
    Localization,
    Targeted,
    Pairs,
    ImageLayers,
    TextLayers,
    OpenVocabulary,
    Axioms,
)
TASKS: dict[str, tuple[type[Task], ...]] = {}
"""What can be asked for, and the tasks that are run for it; all of them have the same ``summary``."""
for _kind in _KINDS:
    _command = _kind.command or _kind.name
    TASKS[_command] = (*TASKS.get(_command, ()), _kind)
