"""The old place of :mod:`captum_gradeclip.experiments.data`, kept for one version."""

from ..experiments.data import *  # noqa: F403
from ..experiments.data import Dataset, Subset

Data, First = Dataset, Subset
