"""Grad-ECLIP and its rivals for CLIP-like models, inside Captum: which patches and words made image and text match."""

from . import adapters, attention, maps, scenes
from ._version import __version__
from .attr import METHODS, GradECLIP, InputSpaceAttribution
from .scores import ClassScore, ImageTextScore, TextImageScore

__all__ = [
    "METHODS",
    "ClassScore",
    "GradECLIP",
    "ImageTextScore",
    "InputSpaceAttribution",
    "TextImageScore",
    "__version__",
    "adapters",
    "attention",
    "maps",
    "scenes",
]
