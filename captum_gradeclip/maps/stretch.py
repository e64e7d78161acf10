"""The scale of a map: weights brought to a range that can be drawn or printed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def normalize(attributions: Tensor, dims: int = 2) -> Tensor:
    r"""Stretches maps linearly to [0, 1], each by its own lowest and highest value.

    .. math:: y = \frac{x - \min x}{\max x - \min x}

    This is for the eye: metrics that need values in [0, 1] call it themselves. It never fails, so that nothing that draws
    can fail: a constant map becomes all zeros, and values that are not finite count as zero.

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
    x = _finite(attributions)
    axes = tuple(range(-dims, 0))
    low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, 1.0), 0.0)


normalise = normalize  # deprecated spelling, kept for one version


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
    values = _finite(attributions)
    return (values / scale).clamp(0, 1) if scale > 0 else torch.zeros_like(values)


def shares(words: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Divides the weights of a text's words by their sum, as the figures of the Grad-ECLIP paper show them.

    Args:
        words: ``[(word, weight), ...]``, see :func:`captum_gradeclip.maps.merge_words`.

    Returns:
        The same words with weights that add up to 1; where the sum is not positive there are no shares, and all are 0.

    >>> shares([("red", 1.0), ("dog", 3.0)]), shares([("a", 0.0)])
    ([('red', 0.25), ('dog', 0.75)], [('a', 0.0)])
    """
    total = sum(weight for _, weight in words)
    return [(word, weight / total if total > 0 else 0.0) for word, weight in words]


def _finite(values: Tensor) -> Tensor:
    return torch.nan_to_num(values.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
