"""A model as we see it: the library is told by the root package of its class, and each library has one file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torch import nn

from .base import Family, ImageTower, Readout, Site, TextTower, UnsupportedModelError, uncompiled

__all__ = [
    "LIBRARIES",
    "Family",
    "ImageTower",
    "Readout",
    "Site",
    "TextTower",
    "UnsupportedModelError",
    "families",
    "image_tower",
    "text_tower",
]

LIBRARIES = {
    "open_clip": "open_clip",
    "clip": "open_clip",
    "transformers": "transformers",
    "timm": "timm",
    "torchvision": "torchvision",
}
"""Root packages of the models that have an adapter, and the file in this folder that holds it."""


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a model's image encoder.

    Args:
        model: a model of one of the libraries in :data:`LIBRARIES`.

    Raises:
        UnsupportedModelError: if no adapter knows the model.
    """
    model = uncompiled(model)
    tower: ImageTower = _adapter(model).image_tower(model)
    return tower


def text_tower(model: nn.Module) -> TextTower:
    """The facts of a model's text encoder.

    Args:
        model: a model of one of the libraries in :data:`LIBRARIES`.

    Raises:
        UnsupportedModelError: if no adapter knows the model, or it has no text encoder.
    """
    model = uncompiled(model)
    tower: TextTower = _adapter(model).text_tower(model)
    return tower


def families() -> dict[str, Family]:
    """Everything that is supported by the installed libraries, by name.

    >>> families()["transformers CLIP"].models
    'CLIPModel'
    """
    files = dict.fromkeys(file for library, file in LIBRARIES.items() if find_spec(library))
    rows = [family for file in files for family in import_module(f"{__name__}.{file}").FAMILIES]
    return {family.name: family for family in rows}


def _adapter(model: nn.Module) -> ModuleType:
    # A user's subclass lives in a package of its own, so its parents are asked as well.
    roots = [kind.__module__.partition(".")[0] for kind in type(model).__mro__]
    for root in roots:
        if root in LIBRARIES:
            return import_module(f"{__name__}.{LIBRARIES[root]}")
    raise UnsupportedModelError(
        f"model: expected a model of {', '.join(LIBRARIES)}, got {type(model).__module__}.{type(model).__qualname__};"
        " any other model can be explained through a callable: GradECLIP(lambda x: model(x), layer)"
    )
