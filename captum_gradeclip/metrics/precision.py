"""The precision in which maps are compared: their own, so that no order and no peak is lost."""

from __future__ import annotations

import torch
from torch import Tensor

_WIDE = (torch.float64, torch.int32, torch.int64)


def lossless(values: Tensor) -> Tensor:
    """Floating point values of at least float32 that keep the order of the values given.

    Args:
        values: of any real type.

    Returns:
        The same values without a graph: float64 for float64 and for integers of 32 or 64 bits, which float32 cannot tell
        apart, and float32 for all others.

    >>> lossless(torch.tensor([2**24, 2**24 + 1])).diff().tolist(), lossless(torch.ones(1, dtype=torch.float16)).dtype
    ([1.0], torch.float32)
    """
    return values.detach().to(torch.float64 if values.dtype in _WIDE else torch.float32)


def shown(result: Tensor) -> Tensor:
    """A figure as float32, or as it is where float32 has no room for it.

    Args:
        result: a scalar, float64.

    >>> shown(torch.tensor(0.5, dtype=torch.float64)), shown(torch.tensor(1e300, dtype=torch.float64))
    (tensor(0.5000), tensor(1.0000e+300, dtype=torch.float64))
    """
    short = result.float()
    return result if bool(result.isfinite() & ~short.isfinite()) else short
