"""The old place of :mod:`captum_gradeclip.experiments.explainers`, kept for one version."""

from ..experiments.explainers import *  # noqa: F403
from ..experiments.explainers import Batch

Question = Batch
