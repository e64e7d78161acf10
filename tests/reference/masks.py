"""RISE: one mask, pixel by pixel."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def one_mask(flip: Tensor, shift: list[float], size: tuple[int, int]) -> Tensor:
    """Pixel by pixel: bilinear between the centres of the cells, mirrored beyond the outer ones, cut off at the shift."""
    cells = len(flip)
    cell = [math.ceil(side / cells) for side in size]
    mask = torch.zeros(size, dtype=torch.float64)
    for y in range(size[0]):
        for x in range(size[1]):
            place = [(int(s * c) + at + 0.5) * cells / ((cells + 1) * c) - 0.5 for s, c, at in zip(shift, cell, (y, x))]
            for row in (0, 1):
                for column in (0, 1):
                    low = [math.floor(p) for p in place]
                    weight = math.prod(1 - abs(p - (lo + step)) for p, lo, step in zip(place, low, (row, column)))
                    i, j = (cells - 1 - abs(cells - 1 - abs(lo + step)) for lo, step in zip(low, (row, column)))
                    mask[y, x] += weight * flip[i, j]
    return mask
