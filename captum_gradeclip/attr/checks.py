"""What a method may be asked: refused with the name of the parameter, what was expected, what arrived and what to do."""

from __future__ import annotations

from torch import Tensor

from ..scores.base import BareScore, ModelScore
from .info import MethodInfo, NotDefinedError


def check_defined(info: MethodInfo, score: ModelScore | BareScore, inputs: Tensor) -> None:
    """Refuses images, texts or scores that a method is not defined for.

    Raises:
        NotDefinedError: naming the method.
    """
    image = inputs.is_floating_point()
    if not (info.image if image else info.text):
        kind, other = ("images", "texts") if image else ("texts", "images")
        raise NotDefinedError(f"inputs: {info.name} is defined for {other}, not for {kind}; METHODS tells which are")
    if score.sites and score.sites[0].kind == "pool" and not info.convolutional:
        raise NotDefinedError(
            f"layer: {info.name} follows attention from token to token, and an attention pool over convolutions has none;"
            " the methods whose info.convolutional is True explain it"
        )


def check_layer_input(attribute_to_layer_input: bool) -> None:
    """Refuses Captum's option to explain a layer's input.

    Raises:
        ValueError: if it is set.
    """
    if attribute_to_layer_input:
        raise ValueError(
            "attribute_to_layer_input: only False is possible, since queries, keys, values and the attention output are"
            " recorded inside the layer"
        )
