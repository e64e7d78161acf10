"""The former place of :func:`captum_gradeclip.maps.point_prompts`; deprecated, kept importable for one version."""

from .former import moved
from .maps import point_prompts

moved("points", "maps")

__all__ = ["point_prompts"]
