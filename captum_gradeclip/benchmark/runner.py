"""The old place of :mod:`captum_gradeclip.experiments.runner`, kept for one version."""

from ..experiments.runner import *  # noqa: F403
