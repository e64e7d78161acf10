"""What a forward function is given, returns and is asked: refused by name, with what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..quoting import quoted

ForwardArguments: TypeAlias = object
"""What is passed to a forward function behind the inputs: one object, a tuple of them, or ``None`` for nothing."""


def check_inputs(inputs: object) -> Tensor:
    """The tensor of ``inputs`` (a tensor, or Captum's tuple of one), refused unless it is an image or token ids.

    Raises:
        TypeError: if it is no tensor.
        ValueError: for other shapes, several tensors, or values that are not finite.
    """
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise ValueError(
                f"inputs: expected one tensor, got a tuple of {len(inputs)}; bind the others in forward_func or pass"
                " them as additional_forward_args"
            )
        inputs = inputs[0]
    if not isinstance(inputs, Tensor):
        way = f"; {_BATCHES}" if isinstance(inputs, Mapping) else ""
        raise TypeError(f"inputs: expected a tensor, got {type(inputs).__name__}{way}")
    if inputs.is_floating_point():
        if inputs.dim() != 4:
            way = f"; {_BATCHES}" if inputs.dim() in (3, 5) else ""
            raise ValueError(f"inputs: expected images (N, C, H, W), got shape {tuple(inputs.shape)}{way}")
        if not torch.isfinite(inputs).all():
            raise ValueError("inputs: the images hold NaN or infinite values; repair or leave out these images")
    elif inputs.dim() == 4:
        raise ValueError(
            f"inputs: expected images as floating-point numbers, got {inputs.dtype}; apply the model's own preprocessing,"
            " which scales and normalizes them"
        )
    elif inputs.dim() != 2 or inputs.dtype == torch.bool or inputs.is_complex():
        raise ValueError(f"inputs: expected token ids (N, L), integers, got {inputs.dtype} of shape {tuple(inputs.shape)}")
    if inputs.numel() == 0:
        raise ValueError(f"inputs: expected at least one example, none of them empty, got shape {tuple(inputs.shape)}")
    return inputs


_BATCHES = (
    "give what a processor returned, and images that are cut into patches or differ in size, to captum_gradeclip.explain"
)


def check_ids(name: str, tokens: Tensor, vocabulary: int) -> None:
    """Refuses token ids of another vocabulary: on a GPU, looking them up would end the whole process.

    Args:
        name: name of the parameter.
        tokens: token ids, integers.
        vocabulary: number of token ids that the model knows.

    Raises:
        ValueError: naming the first id that the model does not know.
    """
    unknown = (tokens < 0) | (tokens >= vocabulary)
    if unknown.any():
        raise ValueError(
            f"{name}: expected tokens of the model's vocabulary, 0 to {vocabulary - 1}, got {int(tokens[unknown][0])};"
            " use the model's own tokenizer"
        )


def check_arguments(arguments: ForwardArguments, examples: int) -> None:
    """Refuses tensors among the additional arguments that are not aligned with the examples.

    Raises:
        ValueError: since Captum repeats such tensors in NoiseTunnel and its metrics, and the target then means another text.
    """
    for argument in arguments if isinstance(arguments, tuple) else (arguments,):
        if isinstance(argument, Tensor) and argument.dim() > 0 and len(argument) != examples:
            raise ValueError(
                f"additional_forward_args: a tensor of shape {tuple(argument.shape)} does not have one entry for each of"
                f" the {examples} inputs, and Captum would repeat it as if it had; bind it in the forward function, as"
                " ImageTextScore binds its texts"
            )


def check_output(output: object) -> Tensor:
    """The scores that a forward function returned.

    Raises:
        TypeError: for anything but a tensor.
    """
    if not isinstance(output, Tensor):
        raise TypeError(
            f"forward_func: expected a tensor (N,) or (N, T), got {type(output).__name__}; wrap the model in a"
            " function that returns its logits or similarities"
        )
    return output[None] if output.dim() == 0 else output


def check_scores(scores: Tensor) -> None:
    """Refuses scores that are not finite.

    Raises:
        ValueError: if there is nothing to explain.
    """
    if not torch.isfinite(scores).all():
        raise ValueError("forward_func: it returned NaN or infinite scores for finite inputs; there is nothing to explain")


def check_maps(maps: Tensor) -> None:
    """Refuses maps that are not finite.

    Raises:
        ValueError: if something overflowed on the way to them.
    """
    if not torch.isfinite(maps).all():
        raise ValueError(
            "layer: the map holds NaN or infinite values although the scores are finite, most often because features or"
            " gradients overflowed; run the model in a wider dtype"
        )


def check_layers(layer: object) -> list[nn.Module]:
    """The chosen layers as a list.

    Raises:
        TypeError: for anything but modules.
        ValueError: for an empty list.
    """
    if not isinstance(layer, (nn.Module, Iterable)) or isinstance(layer, (Tensor, np.ndarray)):
        raise TypeError(f"layer: expected torch.nn.Module or a list of modules, got {type(layer).__name__}")
    layers = [layer] if isinstance(layer, nn.Module) else list(layer)
    if not layers:
        raise ValueError("layer: expected a module or a non-empty list of modules, got an empty list")
    for one in layers:
        if not isinstance(one, nn.Module):
            raise TypeError(f"layer: expected torch.nn.Module, got {type(one).__name__}")
    return layers


def check_grad_kwargs(grad_kwargs: Mapping[str, object] | None) -> dict[str, object]:
    """Further arguments of :func:`torch.autograd.grad`, as far as a caller may choose them.

    Raises:
        ValueError: for anything but switches that are known.
    """
    known = ("create_graph", "materialize_grads", "retain_graph", "allow_unused")
    given = grad_kwargs or {}
    if not isinstance(given, Mapping) or any(name not in known for name in given):
        raise ValueError(f"grad_kwargs: expected a dictionary with some of {', '.join(known)}, got {quoted(grad_kwargs)}")
    return dict(given)
