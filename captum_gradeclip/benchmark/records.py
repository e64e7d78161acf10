"""The old place of :mod:`captum_gradeclip.experiments.records`, kept for one version."""

from ..experiments.records import *  # noqa: F403
