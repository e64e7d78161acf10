"""Moved to :mod:`captum_gradeclip.scores.prompts`; this name goes with the next version."""

from .former import moved
from .scores.prompts import imagenet_templates, prompt_ensemble

moved("prompts", "scores.prompts")

__all__ = ["imagenet_templates", "prompt_ensemble"]
