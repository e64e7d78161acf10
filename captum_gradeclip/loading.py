"""The old place of :mod:`captum_gradeclip.adapters.loading`, kept for one version."""

from .adapters.loading import NAMES, Loaded, LoadingError, first_line, load
from .former import moved

moved("loading", "adapters.loading")

__all__ = ["NAMES", "Loaded", "LoadingError", "first_line", "load"]
