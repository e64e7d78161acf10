"""The old place of :mod:`captum_gradeclip.experiments.tables`, kept for one version."""

from ..experiments.tables import *  # noqa: F403
