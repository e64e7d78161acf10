"""A model as we see it. The library it belongs to is told by the root package of its class; one file per library."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from torch import nn

from .base import ImageTower, TextTower, UnsupportedModelError

__all__ = ["LIBRARIES", "ImageTower", "TextTower", "UnsupportedModelError", "image_tower", "text_tower"]

LIBRARIES = ("open_clip",)
"""Root packages of the models that have an adapter, a file of the same name in this folder."""


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a model's image encoder.

    Raises:
        UnsupportedModelError: if no adapter knows the model.
    """
    tower: ImageTower = _adapter(model).image_tower(model)
    return tower


def text_tower(model: nn.Module) -> TextTower:
    """The facts of a model's text encoder.

    Raises:
        UnsupportedModelError: if no adapter knows the model.
    """
    tower: TextTower = _adapter(model).text_tower(model)
    return tower


def _adapter(model: nn.Module) -> ModuleType:
    # A user's subclass lives in a package of its own, so its parents are asked as well.
    roots = [kind.__module__.partition(".")[0] for kind in type(model).__mro__]
    for root in roots:
        if root in LIBRARIES:
            return import_module(f"{__name__}.{root}")
    raise UnsupportedModelError(
        f"model: expected a model of {' or '.join(LIBRARIES)}, got {type(model).__module__}.{type(model).__qualname__};"
        " any other model can be explained through a callable: GradECLIP(lambda x: model(x), layer)"
    )
