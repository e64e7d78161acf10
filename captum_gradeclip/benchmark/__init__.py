"""The old name of :mod:`captum_gradeclip.experiments`, kept for one version; its modules likewise."""

from __future__ import annotations

from .. import experiments as _experiments
from ..experiments import *  # noqa: F403
from . import data as _data
from . import explainers as _module  # noqa: F401
from . import published, records, runner, scenes_model, tables, tasks, timing  # noqa: F401

Data, First = _data.Data, _data.First
explainers = _experiments.explainers  # the function, not the module that has been imported above
