"""The old place of :mod:`captum_gradeclip.experiments.quantus`, kept for one version."""

from .experiments.quantus import explain_func
from .former import moved

moved("quantus", "experiments.quantus")

__all__ = ["explain_func"]
