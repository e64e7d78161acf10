"""Many methods on one score, side by side, each with its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion
from rich.progress import track
from torch import Tensor, nn

from ..adapters import UnsupportedModelError
from ..attention import LayerError
from ..scores import check_mode
from .attention_rollout import AttentionRollout
from .base import NotDefinedError, check_inputs, is_image, select_columns
from .clip_surgery import CLIPSurgery
from .game import GAME
from .grad_eclip import GradECLIP
from .legrad import LeGrad
from .m2ib import M2IB
from .mask_clip import MaskCLIP
from .raw_attention import RawAttention
from .rise import RISE
from .token_grad_cam import TokenGradCam

METHODS: tuple[type[Any], ...] = (
    GradECLIP,
    RawAttention,
    AttentionRollout,
    TokenGradCam,
    GAME,
    MaskCLIP,
    CLIPSurgery,
    M2IB,
    RISE,
    LeGrad,
)
"""All methods of this package; each says in ``about`` what it is meant for."""


@dataclass(frozen=True)
class Compared:
    """What one method made of the inputs.

    Attributes:
        method: its name.
        maps: ``(N, T, h, w)`` of images, on the patch grid or in pixels, or ``(N, T, L)`` of texts; ``None`` if it refused.
        seconds: from the inputs to all maps.
        refused: why it is not defined for this model or input.
        options: that it was given.
        needs_text: whether it looks at the target.
    """

    method: str
    maps: Tensor | None
    seconds: float
    refused: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_text: bool = True


def compare(
    score: Any,
    inputs: Tensor,
    methods: Any = "all",
    targets: Sequence[int] | Tensor | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    show_progress: bool = False,
) -> list[Compared]:
    """The maps of several methods, each on the layers that it is meant for.

    Args:
        score: an :class:`~captum_gradeclip.ImageTextScore`, :class:`~captum_gradeclip.ClassScore` or
            :class:`~captum_gradeclip.TextImageScore`.
        inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
        methods: ``"all"`` for :data:`METHODS`, or some of them, by name, as classes, or made already with layers of your
            choice, ``GAME(score, score.layers)``; for images also Captum's own
            ``"IntegratedGradients"``, ``"LayerGradCam"`` (of the last convolution) and ``"Occlusion"``, also behind
            ``"all"`` in a list.
        targets: columns of the score; ``None`` for all of them.
        options: of ``attribute_targets`` of a method, by its name: ``{"RISE": {"n_masks": 500}}``; of Captum's methods,
            those of their ``attribute``.
        show_progress: draws a bar.

    Returns:
        One entry per method, in the order given; one that is not defined for the model says why and has no maps.

    Raises:
        TypeError: for anything but a score module, or options that a method does not have.
        ValueError: for an unknown method, options that do not fit, or options of a method that is not compared.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> for one in compare(score, torch.rand(1, 3, 64, 64), ["Grad-ECLIP", "GAME"]):
    ...     print(one.method, tuple(one.maps.shape))
    Grad-ECLIP (1, 2, 8, 8)
    GAME (1, 2, 8, 8)
    """
    inputs = check_inputs(inputs)
    if not hasattr(score, "readout"):
        raise TypeError(
            f"score: expected a score module, got {type(score).__name__}; wrap the model in ImageTextScore, ClassScore or"
            " TextImageScore"
        )
    check_mode(score)
    chosen = find_methods(methods)
    named = {name_of(find_method(name)): dict(some) for name, some in (options or {}).items()}
    unused = named.keys() - {name_of(method) for method in chosen}
    if unused:
        raise ValueError(f"options: there are some for {', '.join(sorted(unused))}, which is not among the methods")
    with torch.no_grad():
        output = score(inputs)  # what the first call of all prepares is nobody's time
    columns = select_columns(output, targets, len(inputs))
    results = []
    for method in track(chosen, "methods", transient=True, disable=not show_progress):
        name, maps, refused = name_of(method), None, None
        given = named.get(name, {})
        started = _now(inputs)
        try:
            maps = _explain(method, score, inputs, columns, given).detach()
        except (NotDefinedError, LayerError, UnsupportedModelError) as error:
            refused = str(error)
        seconds = 0.0 if maps is None else _now(inputs) - started
        looks = isinstance(method, str) or method.about.needs_text
        results.append(Compared(name, maps, seconds, refused, given, looks))
    return results


def find_methods(methods: Any) -> list[Any]:
    """The methods of some names, classes or objects, each once; ``"all"`` stands for :data:`METHODS`.

    Raises:
        ValueError: listing what there is.

    >>> [str(method) for method in find_methods(["all", "occlusion"])][-1], len(find_methods("all")) == len(METHODS)
    ('Occlusion', True)
    """
    found: list[Any] = []
    for one in methods if isinstance(methods, (list, tuple)) else [methods]:
        found += METHODS if one == "all" else [find_method(one)]
    if not found:
        raise ValueError("methods: expected at least one")
    return list(dict.fromkeys(found))


def find_method(method: str | type[Any]) -> str | type[Any]:
    """A class of :data:`METHODS`, or the name of one of Captum's, by its class or its name in any spelling.

    Raises:
        ValueError: listing what there is.

    >>> find_method("grad-eclip").__name__, find_method("occlusion")
    ('GradECLIP', 'Occlusion')
    """
    if not isinstance(method, str):
        if hasattr(method, "about"):
            return method
        method = getattr(method, "__name__", str(method))
    wanted = _plain(method)
    for known in METHODS:
        if wanted in (_plain(known.__name__), _plain(name_of(known))):
            return known
    for name in CAPTUM:
        if wanted == _plain(name):
            return name
    names = ", ".join([*(name_of(known) for known in METHODS), *CAPTUM])
    raise ValueError(f"methods: there is no {method!r}; known are {names}")


def _explain(method: str | type[Any], score: Any, inputs: Tensor, columns: list[int], options: Mapping[str, Any]) -> Tensor:
    if isinstance(method, str):
        if not is_image(inputs):
            raise NotDefinedError(f"inputs: Captum's {method} needs floating point inputs, and token ids are integers")
        with torch.inference_mode(False):  # under it, Captum could not differentiate
            images = inputs.clone() if inputs.is_inference() else inputs
            return torch.cat([CAPTUM[method](score, images, column, options) for column in columns], dim=1)
    explainer = method.of(score) if isinstance(method, type) else method
    maps: Tensor = explainer.attribute_targets(inputs, columns, **options)
    return maps


def _integrated_gradients(score: Any, images: Tensor, target: int | list[int], options: Mapping[str, Any]) -> Tensor:
    settings = {"n_steps": 20, "internal_batch_size": max(16, len(images)), **options}
    pixels: Tensor = IntegratedGradients(score).attribute(images, target=target, **settings)
    return pixels.sum(dim=1, keepdim=True).float()


def _occlusion(score: Any, images: Tensor, target: int | list[int], options: Mapping[str, Any]) -> Tensor:
    side = images.shape[-2] // score.grid(images)[0]
    window = {"sliding_window_shapes": (3, 2 * side, 2 * side), "strides": (3, side, side), "perturbations_per_eval": 16}
    pixels: Tensor = Occlusion(score).attribute(images, target=target, **{**window, **options})
    # A window covers all channels, so each of them carries the whole change of the score.
    return pixels.mean(dim=1, keepdim=True).float()


def _layer_grad_cam(score: Any, images: Tensor, target: int | list[int], options: Mapping[str, Any]) -> Tensor:
    seen: list[nn.Module] = []
    handles = [
        part.register_forward_hook(lambda module, *_: seen.append(module))
        for part in score.modules()
        if isinstance(part, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            score(images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise NotDefinedError("layer: Captum's LayerGradCam needs a convolution, and this model has none")
    maps: Tensor = LayerGradCam(score, seen[-1]).attribute(images, target=target, **options)
    return maps.float()


CAPTUM: dict[str, Callable[[Any, Tensor, int | list[int], Mapping[str, Any]], Tensor]] = {
    "IntegratedGradients": _integrated_gradients,
    "LayerGradCam": _layer_grad_cam,
    "Occlusion": _occlusion,
}
"""Methods of Captum that explain images on the same scores, one value per pixel."""


def name_of(method: str | type[Any]) -> str:
    """The name of what :func:`find_method` found, as tables print it."""
    return method if isinstance(method, str) else method.about.name


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _now(inputs: Tensor) -> float:
    if inputs.is_cuda:
        torch.cuda.synchronize(inputs.device)
    return time.perf_counter()
