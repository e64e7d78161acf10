"""The former place of :func:`captum_gradeclip.maps.point_prompts`; deprecated, kept importable for one version."""

from .maps import point_prompts
from .notices import moved

moved("points", "maps")

__all__ = ["point_prompts"]
