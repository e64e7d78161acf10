"""What a run is: everything that acts on its figures, told in names, numbers and checksums."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, replace
from hashlib import sha256

import torch

from ..adapters.weights import weights_checksum
from ..report import versions
from .data import Dataset
from .explainers import Explainer
from .tasks import Settings, Task


def identify(task: Task, chunk: int, about: Mapping[str, object] | None = None) -> dict[str, object]:
    """What has to agree before figures that were measured earlier may stand beside new ones.

    The samples themselves are not in here: each chunk keeps the checksums of its own.

    Args:
        task: the task, with its model, data set and settings; it need not have begun.
        chunk: number of samples that are measured together.
        about: what else the caller knows about the run, the model's name for example.

    Returns:
        By name: task, data set and number of samples, settings, methods with their options and layers, checksums of the
        weights, of the architecture and of the prompts as the model reads them, its input, its device, the number of threads
        (sums of floating-point numbers depend on it), and the versions of all libraries that take part.

    Raises:
        ValueError: for methods that are not known.
    """
    data, model, spec = task.data, task.loaded.model, task.spec
    explainers = task.choose_explainers()
    return {
        **stated(type(task), data, task.settings, about),
        "chunk": chunk,
        "methods": [one.id for one in explainers],
        "options": {one.id: _options(one) for one in explainers},
        "schedule": repr(task.schedule(task.setup)),
        "prompts": _digest(list(data.classes), list(data.templates), _tokens(task)),
        "weights": weights_checksum(model),
        # Of objects, a repr may show where they lie in memory.
        "architecture": _digest(re.sub(r" at 0x[0-9a-f]+", "", repr(model))),
        "input": {"size": spec.size, "patch": spec.patch, "mean": spec.mean, "std": spec.std},
        "dtype": str(task.tower.dtype),
        "device": torch.cuda.get_device_name(task.device) if task.device.type == "cuda" else task.device.type,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def stated(
    kind: type[Task], data: Dataset, settings: Settings, about: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The part of :func:`identify` that is known before a model is loaded: task, data set and settings but for the methods.

    Args:
        kind: the task.
        data: the data set.
        settings: the settings.
        about: as in :func:`identify`.
    """
    # The same baseline, whether it was said or is the task's own. Methods may be spelled in many ways.
    said = asdict(replace(settings, baseline=settings.baseline or kind.usual_baseline))
    del said["methods"]
    return {
        **(about or {}),
        "task": kind.name,
        "data": {"name": data.name, **data.about},
        "samples": len(data),
        **said,
    }


def _options(explainer: Explainer) -> dict[str, object]:
    """What a method is asked with, its defaults included, and on how many layers where that was chosen."""
    found: dict[str, object] = {"layers": explainer.layers}
    for one in fields(explainer.kind.Options):
        default = None if one.default is MISSING else one.default
        found[one.name] = _plain(explainer.options.get(one.name, default))
    return found


def _tokens(task: Task) -> list[list[int]]:
    """The token ids of the names of all classes, by which two tokenizers are told apart."""
    names = list(task.data.classes)
    return [task.tokens(name)[0].tolist() for name in names]


def _digest(*content: object) -> str:
    return sha256(repr(content).encode()).hexdigest()


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | None) else repr(value)
