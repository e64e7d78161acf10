"""The old place of :mod:`captum_gradeclip.experiments.published`, kept for one version."""

from ..experiments.published import *  # noqa: F403
