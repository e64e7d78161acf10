"""Grad-ECLIP and its rivals for CLIP-like models, inside Captum: which patches and words made image and text match.

Each name is imported when it is first used, so that ``gradeclip --help`` loads neither torch nor any library of models.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import adapters, attention, maps, scenes
    from .attr import METHODS, GradECLIP, InputSpaceAttribution, WordRegionAttribution
    from .explain import Explanation, explain
    from .scores import ClassScore, ContrastScore, ImageTextScore, MatchScore, TextImageScore
    from .trust import TrustReport, trust

__all__ = [
    "METHODS",
    "ClassScore",
    "ContrastScore",
    "Explanation",
    "GradECLIP",
    "ImageTextScore",
    "InputSpaceAttribution",
    "MatchScore",
    "TextImageScore",
    "TrustReport",
    "WordRegionAttribution",
    "__version__",
    "adapters",
    "attention",
    "explain",
    "maps",
    "scenes",
    "trust",
]

_HOMES = {
    "METHODS": "attr",
    "ClassScore": "scores",
    "ContrastScore": "scores",
    "Explanation": "explain",
    "GradECLIP": "attr",
    "ImageTextScore": "scores",
    "InputSpaceAttribution": "attr",
    "MatchScore": "scores",
    "TextImageScore": "scores",
    "TrustReport": "trust",
    "WordRegionAttribution": "attr",
    "explain": "explain",
    "trust": "trust",
}
"""The file or folder of each public name that is not a module itself."""


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name in __all__:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package as a module in which the file ``explain`` does not hide the function ``explain``.

    The import system binds every file that it has loaded to its package, under the name of the file.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
