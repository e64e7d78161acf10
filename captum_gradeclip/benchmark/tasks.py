"""The old place of :mod:`captum_gradeclip.experiments.tasks`, kept for one version."""

from ..experiments.data import Dataset
from ..experiments.prompt_score import PromptScore
from ..experiments.tasks import *  # noqa: F403
from ..loading import Loaded


def ClassScore(loaded: Loaded, data: Dataset) -> PromptScore:  # noqa: N802
    """The old name of :class:`~captum_gradeclip.experiments.PromptScore`, of all classes of a data set."""
    return PromptScore(loaded, data.classes, data.templates)
