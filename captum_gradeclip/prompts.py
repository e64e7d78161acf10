"""Moved to :mod:`captum_gradeclip.scores.prompts`; this name goes with the next version."""

from .scores.prompts import imagenet_templates, prompt_ensemble

__all__ = ["imagenet_templates", "prompt_ensemble"]
