"""The old name of :mod:`captum_gradeclip.experiments`, kept for one version; its modules likewise."""

from __future__ import annotations

from .. import experiments as _experiments
from ..experiments import *  # noqa: F403
from ..former import moved
from . import (  # noqa: F401
    data as _data,
    explainers as _module,
    published,
    records,
    runner,
    scenes_model,
    tables,
    tasks,
    timing,
)

Data, First = _data.Data, _data.First
explainers = _experiments.explainers  # the function, not the module that has been imported above

moved("benchmark", "experiments")
