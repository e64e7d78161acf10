"""Several maps of one thing, brought to one scale and added up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import check_number, check_tensor


def ensemble(maps: Sequence[Tensor], dims: int = 2, centered: bool = True) -> Tensor:
    r"""The sum of several maps of the same inputs and targets, each over its standard deviation.

    .. math:: H_i = \sum_k \frac{H^k_i}{\sigma_k}, \quad \sigma_k^2 = \frac1n \sum_i (H^k_i - \mu_k)^2

    Maps of several readings, methods or layers have different units; over their standard deviation each has the same say.
    A map that is constant says nothing about any place and adds nothing. The sum keeps signs, places of zeros and the graph.

    Args:
        maps: at least one tensor, all of one shape ``(..., h, w)``, or any other with at least ``dims`` dimensions; floating
            point. None is changed by a positive factor on it.
        dims: how many of the last dimensions make up one map, at least 1 (default 2; 1 for texts).
        centered: whether deviations are those from the mean :math:`\mu` of the map (default True), or from zero, so that
            tokens that weigh nothing, such as the padding of a text, change no order.

    Returns:
        ``(..., h, w)``, in standard deviations.

    Raises:
        TypeError, ValueError: for no maps, or maps of different shapes or of fewer dimensions.

    >>> ensemble([torch.tensor([[0.0, 2.0]]), torch.tensor([[30.0, 10.0]]), torch.tensor([[5.0, 5.0]])])
    tensor([[3., 3.]])
    """
    check_number("dims", dims, whole=True, least=1)
    if not maps:
        raise ValueError("maps: expected at least one")
    shapes = {tuple(check_tensor("maps", one, kind="floats").shape) for one in maps}
    if len(shapes) > 1 or min(map(len, shapes)) < dims:
        raise ValueError(
            f"maps: expected one shape of at least {dims} dimensions, got {sorted(shapes)}; resize some of them"
        )
    axes = tuple(range(-dims, 0))
    total = torch.zeros_like(maps[0])
    for one in maps:
        mean = one.mean(axes, keepdim=True) if centered else 0.0
        largest = one.detach().abs().amax(axes, keepdim=True)
        variance = (one - mean).square().mean(axes, keepdim=True)
        # Of a constant map, rounding alone is left, and the derivative of the root is infinite at zero.
        flat = variance.detach().sqrt() <= 8 * torch.finfo(one.dtype).eps * largest
        total = total + torch.where(flat, 0.0, one / variance.where(~flat, 1.0).sqrt())
    return total
