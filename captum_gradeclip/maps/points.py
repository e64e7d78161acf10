"""Point prompts: where to click in an interactive segmenter, as a map suggests it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import check_finite, check_number, check_sides, check_tensor
from .stretch import normalize


def point_prompts(attribution: Tensor, size: Sequence[int], threshold: float = 0.8) -> tuple[Tensor, Tensor]:
    """Picks the highest and the lowest cells of a map, as CLIP Surgery does to prompt SAM.

    The map is halved by bilinear interpolation and stretched to [0, 1]. Every cell of at least ``threshold`` becomes a
    positive point (at most half of the cells), and as many of the lowest cells become negative points.

    Args:
        attribution: ``(h, w)``, at least 2 x 2, finite.
        size: height and width in pixels of the picture on which the points lie.
        threshold: the lowest stretched value of a positive point, above 0 and at most 1 (default 0.8).

    Returns:
        The points ``(K, 2)`` as integer x and y in pixels, each the center of a cell, the highest cells first and the lowest
        last; and the labels ``(K,)``, 1 for positive and 0 for negative points. A constant map has no points: K is 0.

    Raises:
        TypeError, ValueError: if the map has another shape or values that are not finite, or a number is out of range.

    >>> points, labels = point_prompts(torch.tensor([[9.0, 9, 0, 0], [9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]), (64, 64))
    >>> points.tolist(), labels.tolist()
    ([[16, 16], [16, 48]], [1, 0])

    Source: Li, Wang, Duan, Li: "CLIP Surgery for Better Explainability with Enhancement in Open-Vocabulary Tasks", 2023.
    """
    check_finite("attribution", check_tensor("attribution", attribution, "(h, w)"))
    if min(attribution.shape) < 2:
        raise ValueError(f"attribution: expected at least two rows and columns, got {tuple(attribution.shape)}")
    check_number("threshold", threshold, above=0, most=1)
    check_sides("size", size)
    rows, columns = (side // 2 for side in attribution.shape)
    small = F.interpolate(attribution[None, None].float(), size=(rows, columns), mode="bilinear", align_corners=False)
    cells = normalize(small[0, 0]).flatten()
    count = min(int((cells >= threshold).sum()), len(cells) // 2)
    order = cells.argsort(descending=True, stable=True)
    chosen = torch.cat([order[:count], order[len(cells) - count :]])
    height, width = size
    x = ((chosen % columns + 0.5) * width / columns).long().clamp(max=width - 1)
    y = ((chosen // columns + 0.5) * height / rows).long().clamp(max=height - 1)
    labels = (torch.arange(2 * count, device=x.device) < count).long()
    return torch.stack([x, y], dim=1), labels
