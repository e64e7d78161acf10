"""Where the output of somebody's transform lies in a picture, found by showing it pictures whose colors are places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .maps import Frame

_SNAP = 0.004
"""How far, as a share of a side, a box may lie from one that transforms usually have: colors tell 256 places apart."""
_STRAY = 0.02
"""How far single places may lie from a straight line, as a share of a side."""


def find_frame(transform: Callable[[Image.Image], Tensor], size: tuple[int, int]) -> Frame | None:
    """The part of a picture that a transform shows, if it is a box that was resized; whatever it does to colors.

    The transform is shown four pictures of the same size: a black and a white one, and two that become lighter to the right
    and downwards. How light a pixel of its output is, between black and white, says which place it shows.

    Args:
        transform: makes a picture into a tensor ``(C, H, W)``, the same at each call.
        size: width and height of the picture in pixels.

    Returns:
        The frame, which is exact where the transform shows the whole picture or its largest centered box; ``None`` if the
        output is no upright box of the picture, or depends on what the picture shows in another way.

    >>> def transform(image):
    ...     return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1) / 255
    >>> find_frame(transform, (60, 40)).box
    (0.0, 0.0, 60.0, 40.0)
    """
    width, height = size

    def shown(levels: np.typing.NDArray[np.float64]) -> Tensor:
        gray = np.broadcast_to((255 * levels + 0.5).astype(np.uint8), (height, width))
        return transform(Image.fromarray(np.ascontiguousarray(gray)).convert("RGB")).double().mean(dim=0)

    with torch.random.fork_rng(devices=[]):
        black, white = shown(np.zeros(1)), shown(np.ones(1))
        right = shown((np.arange(width) + 0.5) / width)
        below = shown((np.arange(height)[:, None] + 0.5) / height)
    span = white - black
    seen = span.abs() > 0.5 * span.abs().max()  # not what was put around the picture
    if not seen.any() or len({one.shape for one in (black, white, right, below)}) != 1:
        return None
    x = _line(((right - black) / span).masked_fill(~seen, torch.nan))
    y = _line(((below - black) / span).masked_fill(~seen, torch.nan).T)
    if x is None or y is None:
        return None
    box = (x[0] * width, y[0] * height, x[1] * width, y[1] * height)
    for usual in (Frame.whole(size), Frame.crop(size, black.shape[1] / black.shape[0])):
        if all(abs(one - two) < max(1, _SNAP * side) for one, two, side in zip(usual.box, box, size * 2)):
            return usual
    return Frame(size, box)


def _line(places: Tensor) -> tuple[float, float] | None:
    """Where the outer edges of the first and the last column lie, from the places that all columns show.

    Args:
        places: for each row and column a place between 0 and 1, NaN where none is seen.

    Returns:
        ``None`` if the places do not grow evenly from column to column, or differ from row to row.
    """
    columns = places.nanmean(dim=0)
    known = columns.isfinite()
    # At the borders of a picture, filters see less of it.
    inner = known & (columns > 0.02) & (columns < 0.98) if known.sum() > 8 else known
    if inner.sum() < 2:
        return None
    centers = torch.arange(len(columns), dtype=torch.float64)[inner] + 0.5
    design = torch.stack([torch.ones_like(centers), centers], dim=1)
    start, step = torch.linalg.lstsq(design, columns[inner][:, None]).solution.flatten().tolist()
    expected = start + step * (torch.arange(len(columns), dtype=torch.float64) + 0.5)
    stray = (places - expected)[:, inner].abs().nan_to_num()
    return None if step <= 0 or stray.max() > _STRAY else (start, start + step * len(columns))
