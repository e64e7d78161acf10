"""Where to click: maps as point prompts for an interactive segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .maps import normalise


def point_prompts(attribution: Tensor, size: Sequence[int], threshold: float = 0.8) -> tuple[Tensor, Tensor]:
    """The highest and the lowest cells of a map, as CLIP Surgery prompts SAM.

    The map is halved by bilinear interpolation and stretched to [0, 1]; every cell of at least ``threshold`` becomes a
    positive point (at most half of the cells), and as many of the lowest become negative ones.

    Args:
        attribution: ``(h, w)``.
        size: height and width of the picture that is clicked on, in pixels.
        threshold: above 0, at most 1.

    Returns:
        Points ``(K, 2)`` as integer x, y, cell centres, the highest first and then the lowest; labels ``(K,)``, 1 for
        positive points and 0 for negative ones. A map that is the same everywhere points nowhere: K is 0.

    Raises:
        ValueError: for a map that is not ``(h, w)`` or no larger than one cell or not finite, or a threshold out of range.

    >>> points, labels = point_prompts(torch.tensor([[9.0, 9, 0, 0], [9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]), (64, 64))
    >>> points.tolist(), labels.tolist()
    ([[16, 16], [16, 48]], [1, 0])
    """
    if attribution.dim() != 2 or min(attribution.shape) < 2:
        raise ValueError(f"attribution: expected (h, w) with at least two rows and columns, got {tuple(attribution.shape)}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: expected above 0 and at most 1, got {threshold}")
    if not torch.isfinite(attribution).all():
        raise ValueError("attribution: it holds NaN or infinite values")
    rows, columns = (side // 2 for side in attribution.shape)
    small = F.interpolate(attribution[None, None].float(), size=(rows, columns), mode="bilinear", align_corners=False)
    cells = normalise(small[0, 0]).flatten()
    count = min(int((cells >= threshold).sum()), len(cells) // 2)
    order = cells.argsort(descending=True, stable=True)
    chosen = torch.cat([order[:count], order[len(cells) - count :]])
    height, width = size
    x = ((chosen % columns + 0.5) * width / columns).long().clamp(max=width - 1)
    y = ((chosen // columns + 0.5) * height / rows).long().clamp(max=height - 1)
    labels = (torch.arange(2 * count, device=x.device) < count).long()
    return torch.stack([x, y], dim=1), labels
