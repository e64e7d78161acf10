"""The old place of :mod:`captum_gradeclip.experiments.timing`, kept for one version."""

from ..experiments.timing import *  # noqa: F403
