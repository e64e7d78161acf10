"""Many methods on one score, side by side, each with its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor

from ..adapters.base import Foreign
from ..attention import one_call
from ..progress import display, track
from ..scores import ModelScore, Targets, check_mode, columns_of, describe
from ..scores.checks import check_inputs
from .base import Method
from .info import NotDefinedError
from .outcome import Outcome
from .registry import AnyMethod, Named, Registry, find_method, find_methods


@one_call
def compare(
    score: ModelScore,
    inputs: Tensor,
    methods: Named | list[Named] | tuple[Named, ...] | Registry = "all",
    targets: str | Sequence[int | str] | Tensor | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    show_progress: bool = False,
    finished: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """The maps of several methods, each on the layers that it is meant for.

    Args:
        score: an :class:`~captum_gradeclip.ImageTextScore`, :class:`~captum_gradeclip.ClassScore` or
            :class:`~captum_gradeclip.TextImageScore`.
        inputs: images ``(N, C, H, W)`` or token ids ``(N, L)``.
        methods: ``"all"`` (default) for :data:`~captum_gradeclip.METHODS`, or some methods by name, as classes, or made
            already with layers of your choice, ``GAME(score, score.layers)``. Captum's ``"IntegratedGradients"``,
            ``"LayerGradCam"`` (of the last convolution) and ``"Occlusion"`` can be named as well, for images.
        targets: columns of the score; of a :class:`~captum_gradeclip.ClassScore` also names or WordNet ids of classes,
            ``["whippet", "n02123045"]``, as :func:`captum_gradeclip.scores.find_class` reads them; ``None`` (default) for
            all columns.
        options: options by the name of a method, ``{"RISE": {"n_masks": 500}}`` (default none).
        show_progress: whether progress bars are drawn on the error output, of the methods and inside of those that take
            many passes (default False).
        finished: is given each outcome as soon as it is there, so that these outlive an interrupt (default nothing).

    Returns:
        One outcome per method, in the order given; a method that is not defined for the model says why and has no maps.

    Raises:
        TypeError: for anything but a score module, or options that a method does not have.
        ValueError: for an unknown method, a class that is not there, options that do not fit, or options of a method that is
            not compared.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> for one in compare(score, torch.rand(1, 3, 64, 64), ["Grad-ECLIP", "GAME"]):
    ...     print(one.name, tuple(one.maps.shape))
    Grad-ECLIP (1, 2, 8, 8)
    GAME (1, 2, 8, 8)
    """
    inputs = check_inputs(inputs)
    if not isinstance(score, ModelScore):
        raise TypeError(
            f"score: expected a score module, got {type(score).__name__}; wrap the model in ImageTextScore, ClassScore or"
            " TextImageScore"
        )
    check_mode(score)
    chosen = find_methods(methods)
    given = {find_method(name): dict(some) for name, some in (options or {}).items()}
    unused = [kind.info.name for kind in given if kind not in map(find_method, chosen)]
    if unused:
        raise ValueError(f"options: there are some for {', '.join(sorted(unused))}, which is not among the methods")
    columns = columns_of(score, targets)
    with torch.no_grad():
        asked = Targets.columns(columns, score(inputs))  # warms up as well, so that one-time costs are charged to no method
    results: list[Outcome] = []
    costs = [kind.passes(score, inputs, len(asked), kind.checked(given.get(kind, {}))) for kind in map(find_method, chosen)]
    title = "methods" if inputs.is_floating_point() else "methods, words"
    with display() if show_progress else nullcontext():
        for one in track(chosen, title, name=lambda one: find_method(one).info.name, costs=costs, disable=not show_progress):
            kind = find_method(one)
            own: dict[str, Foreign] = given.get(kind, {})
            if isinstance(one, Method) and describe(one.forward_func) is not score:
                raise ValueError(f"methods: {kind.__name__} was made with another score than the one that is compared")
            method = cast("AnyMethod", kind.for_score(score) if one is kind else one)
            try:
                outcome = method.outcome(inputs, columns, **own)
            except NotDefinedError as error:
                discriminative = kind.info.class_discriminative
                outcome = Outcome(
                    kind.__name__, kind.info.name, options=own, refused=str(error), class_discriminative=discriminative
                )
            results.append(outcome)
            if finished is not None:
                finished(outcome)
    return results
