"""The old place of :mod:`captum_gradeclip.experiments.scenes_model`, kept for one version."""

from ..experiments.scenes_model import *  # noqa: F403
