"""The scale of a map: weights brought to a range that can be drawn or printed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import check_number, check_tensor


def normalize(attributions: Tensor, dims: int = 2) -> Tensor:
    r"""Stretches maps linearly to [0, 1], each by its own lowest and highest value.

    .. math:: y = \frac{x - \min x}{\max x - \min x}

    This is for the eye: metrics that need values in [0, 1] call it themselves. It takes every map, so that nothing that
    draws can fail: a constant map becomes all zeros, and values that are not finite count as zero.

    Args:
        attributions: ``(..., h, w)``, or any other shape with at least ``dims`` dimensions.
        dims: how many of the last dimensions make up one map, at least 1 (default 2).

    Returns:
        A tensor of the same shape, float32, without a graph.

    >>> normalize(torch.tensor([[0.0, 2.0], [1.0, 4.0]]))
    tensor([[0.0000, 0.5000],
            [0.2500, 1.0000]])
    >>> normalize(torch.full((2, 2), 3.0)).max()
    tensor(0.)
    """
    check_number("dims", dims, whole=True, least=1)
    if check_tensor("attributions", attributions).dim() < dims or not attributions.numel():
        raise ValueError(
            f"attributions: expected maps of {dims} dimensions, got shape {tuple(attributions.shape)}; see dims"
        )
    return stretched(_finite(attributions), dims)


def stretched(maps: Tensor, dims: int = 2) -> Tensor:
    """The same as :func:`normalize` in the precision of the maps, for metrics, which refuse what is not finite.

    Args:
        maps: ``(..., h, w)``, or any other shape with at least ``dims`` dimensions; floating point, finite.
        dims: how many of the last dimensions make up one map, at least 1 (default 2).

    Returns:
        A tensor of the same shape and type.

    >>> stretched(torch.tensor([[[0.0, 2.0, 4.0]]])), stretched(torch.tensor([[[-3e38, 0.0, 3e38]]]))
    (tensor([[[0.0000, 0.5000, 1.0000]]]), tensor([[[0.0000, 0.5000, 1.0000]]]))
    """
    axes = tuple(range(-dims, 0))
    low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
    # The range of finite values may be larger than the largest of them; that of their halves is not.
    scale = torch.where((high - low).isfinite(), 1.0, 0.5).to(maps.dtype)
    low, span = low * scale, high * scale - low * scale
    return torch.where(span > 0, (maps * scale - low) / torch.where(span > 0, span, 1.0), 0.0)


def normalize_to(attributions: Tensor, scale: float) -> Tensor:
    """Divides maps by a common scale and cuts the result to [0, 1], which makes several maps comparable.

    Args:
        attributions: any shape; values that are not finite count as zero.
        scale: the value that becomes 1; a scale that is not positive gives zeros.

    Returns:
        A tensor of the same shape, float32, without a graph.

    >>> normalize_to(torch.tensor([-1.0, 1.0, 9.0]), 2.0)
    tensor([0.0000, 0.5000, 1.0000])
    """
    values = _finite(check_tensor("attributions", attributions))
    return (values / scale).clamp(0, 1) if scale > 0 else torch.zeros_like(values)


def shares(words: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    r"""Divides the weights of a text's words by the sum of their magnitudes, as in the figures of the Grad-ECLIP paper.

    .. math:: s_i = w_i / \sum_j |w_j|

    Args:
        words: ``[(word, weight), ...]``, see :func:`captum_gradeclip.maps.merge_words`.

    Returns:
        The same words with weights whose magnitudes add up to 1, each with its sign; all 0 if all are 0.

    >>> shares([("red", 1.0), ("dog", 3.0)]), shares([("red", -1.0), ("dog", 3.0)]), shares([("a", 0.0)])
    ([('red', 0.25), ('dog', 0.75)], [('red', -0.25), ('dog', 0.75)], [('a', 0.0)])
    """
    total = sum(abs(weight) for _, weight in words)
    return [(word, weight / total if total > 0 else 0.0) for word, weight in words]


def _finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
