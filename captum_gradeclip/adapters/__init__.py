"""A model as we see it: the library is told by the root package of its class, and each library has one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_all

from .base import Family, Foreign, ImageTower, NoTextTowerError, Readout, Site, TextTower, UnsupportedModelError, unwrapped
from .preprocessing import Preprocessing

__all__ = [
    "LIBRARIES",
    "Family",
    "ImageTower",
    "NoTextTowerError",
    "Preprocessing",
    "Readout",
    "Site",
    "TextTower",
    "UnsupportedModelError",
    "families",
    "image_tower",
    "logit_scale",
    "preprocessing",
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

    Returns:
        The facts of the encoder, its sites, read-out, patch, size and normalization among them.

    Raises:
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import scenes
    >>> tower = image_tower(scenes.load()[0])
    >>> tower.size, tower.patch, tower.width, tower.readout.kind
    ((96, 96), 8, 128, 'token')
    """
    model = unwrapped(model)
    tower: ImageTower = _adapter(model).image_tower(model)
    return tower


def text_tower(model: nn.Module) -> TextTower:
    """The facts of a model's text encoder.

    Args:
        model: a model of one of the libraries in :data:`LIBRARIES`.

    Returns:
        The facts of the encoder, its sites, read-out, longest text and marks among them.

    Raises:
        NoTextTowerError: if the model has no text encoder.
        UnsupportedModelError: if no adapter knows the model, or its text encoder.

    >>> from captum_gradeclip import scenes
    >>> tower = text_tower(scenes.load()[0])
    >>> tower.context_length, tower.start, tower.end, len(tower.layers)
    (24, 647, 648, 8)
    """
    model = unwrapped(model)
    tower: TextTower = _adapter(model).text_tower(model)
    return tower


def front(tower: TextTower, tokens: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The front of texts that their features depend on, and the encoder that takes it.

    Args:
        tower: the facts of a text encoder.
        tokens: token ids ``(N, L)``.

    Returns:
        Token ids ``(N, l)`` with ``1 <= l <= L``, and a function from these to the features ``(N, D)`` of the whole texts.
        These are the whole texts and the ``encode`` of the tower itself where the encoder sees all positions, or where
        somebody looks on or has changed a part of it, who may expect all of them. On a CPU a few positions more may stay,
        where that is faster.
    """
    known = tower.front
    if known is None or not tokens.numel() or not is_untouched(known.parts()):
        return tokens, tower.encode
    length = known.length(tokens)
    if tokens.device.type == "cpu" and _SLOW[0] <= len(tokens) * length <= _SLOW[-1]:
        length = -(-(_SLOW[-1] + 1) // len(tokens))
    return (tokens[:, :length], known.encode) if length < tokens.shape[1] else (tokens, tower.encode)


_SLOW = range(5, 17)
"""Numbers of rows whose product with a matrix takes a CPU longer than that of 17 rows: MKL runs another kernel up to 16."""


def logit_scale(model: nn.Module) -> nn.Parameter:
    """The logarithm of the factor on the cosines of a model of images and texts, a scalar that is trained with it.

    Args:
        model: a model of one of the libraries in :data:`LIBRARIES`.

    Returns:
        The parameter itself, without dimensions or with one element.

    Raises:
        UnsupportedModelError: for a model without one.

    >>> from captum_gradeclip import scenes
    >>> logit_scale(scenes.load()[0]).shape
    torch.Size([])
    """
    own: nn.Module = unwrapped(model)
    found = dict(own.named_parameters()).get("logit_scale")
    if found is None:
        raise UnsupportedModelError(f"model: {type(model).__name__} has no logit scale, so it was not trained by contrast")
    return found


def is_untouched(parts: Iterable[nn.Module]) -> bool:
    """Whether the library made all of some modules, and no hook is on them."""
    names = [f"_{which}" for which in ("forward_hooks", "forward_pre_hooks", "backward_hooks", "backward_pre_hooks")]
    everywhere = any(getattr(hooks_of_all, f"_global{name}") for name in names)
    return not everywhere and all(is_known(part) and not any(vars(part).get(name) for name in names) for part in parts)


def preprocessing(model: nn.Module, processor: Foreign = None) -> Preprocessing:
    """How pictures become inputs of a model by its own library.

    Args:
        model: a model of one of the libraries in :data:`LIBRARIES`.
        processor: a processor of transformers that says it in place of the model (default ``None``).

    Returns:
        The library's transform, with the size and the box of pixels that it takes of a picture.

    Raises:
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import scenes
    >>> own = preprocessing(scenes.load()[0])
    >>> own.resize, own.box((640, 480))
    ('shorter side to 96', (80.0, 0.0, 560.0, 480.0))
    """
    model = unwrapped(model)
    if processor is None:
        found: Preprocessing = _adapter(model).preprocessing(model)
    else:
        found = _transformers().by_processor(processor, image_tower(model).channels)
    return found


def is_processor(given: object) -> bool:
    """Whether something is an image processor of transformers, or a processor with one inside.

    >>> is_processor(None), is_processor(lambda image: image)
    (False, False)
    """
    inner = getattr(given, "image_processor", given)
    return callable(getattr(inner, "preprocess", None)) and hasattr(inner, "image_mean")


def pixel_values(features: Foreign, model: nn.Module) -> list[Tensor]:
    """Images ``(C, H, W)``, of one size or of several, in a batch that a library has prepared.

    Args:
        features: what a processor of transformers or a collator of timm's NaFlex models returned.
        model: a model of one of the libraries in :data:`LIBRARIES`.

    Raises:
        ValueError: if there are no images that the model could take.
    """
    channels, model = image_tower(model).channels, unwrapped(model)
    if "patches" in features:
        found: list[Tensor] = import_module(f"{__name__}.timm").pixel_values(features, model, channels)
    else:
        found = _transformers().pixel_values(features, channels)
    return found


def families(missing: bool = False) -> dict[str, Family]:
    """Everything that is supported by the installed libraries, by name.

    Args:
        missing: whether to list what the installed versions lack instead (default False).

    Returns:
        The rows of the table of families, each by its name.

    >>> families()["transformers CLIP"].models
    'CLIPModel'
    """
    files = dict.fromkeys(file for library, file in LIBRARIES.items() if find_spec(library))
    rows = [family for file in files for family in import_module(f"{__name__}.{file}").FAMILIES]
    return {family.name: family for family in rows if bool(family.missing) == missing}


def is_known(module: nn.Module) -> bool:
    """Whether a library or torch itself made a module, so that its adapter knows what it does to tokens.

    A module of the user's own, of an adapter of weights, or one whose ``forward`` was replaced may do anything to them.

    >>> class Mine(nn.Linear): ...
    >>> is_known(nn.Linear(2, 2)), is_known(Mine(2, 2)), is_known(nn.Conv1d(2, 2, 3))
    (True, False, False)
    """
    package = type(module).__module__
    plain = package.startswith(_PLAIN) or isinstance(module, nn.Conv2d)  # the patches are cut by a convolution
    return (plain or package.partition(".")[0] in LIBRARIES) and "forward" not in vars(module)


_PLAIN = tuple(
    f"torch.nn.modules.{name}" for name in ("activation", "container", "dropout", "linear", "normalization", "sparse")
)


def _transformers() -> ModuleType:
    return import_module(f"{__name__}.transformers")


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
