"""What the maps of thousands of targets say of each token, without ever holding them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..arguments import check_number

Parts = Iterable[tuple[Tensor, Tensor]]
"""Columns ``(t,)`` and the maps ``(N, t, ...)`` of these targets, some after the others."""


def strongest(parts: Parts, count: int = 1) -> tuple[Tensor, Tensor]:
    """The targets whose maps are highest at each token: the maximum and its index, or several of both.

    Args:
        parts: what :meth:`~captum_gradeclip.GradECLIP.attribute_in_parts` yields.
        count: how many targets to keep, at least 1 (default 1); where there are fewer, these.

    Returns:
        Their values ``(N, count, ...)``, the highest first, and their columns ``(N, count, ...)``.

    Raises:
        ValueError: for no parts, or a ``count`` below 1.

    >>> maps = torch.tensor([[[1.0, 0.0], [0.5, 3.0], [2.0, 1.0]]])
    >>> strongest([(torch.tensor([0, 1]), maps[:, :2]), (torch.tensor([2]), maps[:, 2:])])
    (tensor([[[2., 3.]]]), tensor([[[2, 1]]]))
    """
    check_number("count", count, whole=True, least=1)
    values: Tensor | None = None
    columns = torch.empty(0)
    for some, maps in parts:
        index = some.view(1, -1, *[1] * (maps.dim() - 2)).expand_as(maps)
        if values is not None:
            maps, index = torch.cat([values, maps], dim=1), torch.cat([columns, index], dim=1)
        values, places = maps.topk(min(count, maps.shape[1]), dim=1)
        columns = index.gather(1, places)
    if values is None:
        raise ValueError("parts: expected the maps of at least one target, got none")
    return values, columns


def ranks(parts: Parts, maps: Tensor) -> Tensor:
    """How many targets are above some maps at each token: 0 where no target is.

    Args:
        parts: what :meth:`~captum_gradeclip.GradECLIP.attribute_in_parts` yields.
        maps: maps ``(N, k, ...)`` of the same inputs, those of a few of the targets for example.

    Returns:
        Whole numbers ``(N, k, ...)``.

    >>> maps = torch.tensor([[[1.0, 0.0], [0.5, 3.0], [2.0, 1.0]]])
    >>> ranks([(torch.arange(3), maps)], maps[:, :1])
    tensor([[[1, 2]]])
    """
    above = torch.zeros(maps.shape, dtype=torch.long, device=maps.device)
    for _, others in parts:
        for place in range(maps.shape[1]):
            above[:, place] += (others > maps[:, place : place + 1]).sum(dim=1)
    return above
