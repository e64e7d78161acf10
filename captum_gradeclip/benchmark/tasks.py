"""The old place of :mod:`captum_gradeclip.experiments.tasks`, kept for one version."""

from ..experiments.prompt_score import PromptScore
from ..experiments.tasks import *  # noqa: F403

ClassScore = PromptScore.of_classes
