"""Optimal transport: how far the mass of one map must be carried to become another map."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import check_number, one_of
from .similarity import distributions

Cost = Literal["euclidean", "squared"]
MOST_CELLS = 32
"""The most rows and columns of the grid: the exact solution takes a matrix of the square of their product."""


def optimal_transport(maps: Tensor, others: Tensor, grid: int = 16, cost: Cost = "euclidean") -> Tensor:
    r"""Optimal transport distance of two maps, the earth mover's distance, solved exactly by POT.

    .. math:: \min_{t \ge 0} \sum_{ij} t_{ij} c_{ij} \quad \text{with} \quad \sum_j t_{ij} = p_i, \; \sum_i t_{ij} = q_j

    Both maps are divided by their sums, and their mass is added up in the cells of a grid of at most ``grid`` rows and
    columns, so that pictures of all sizes take the same time. The centers of the cells lie in the unit square, whatever the
    aspect of the picture, so that a distance of 1 is a whole side.

    Args:
        maps: ``(N, h, w)``, finite and not negative; a map of zeros is uniform.
        others: what they are compared with, of the same shape.
        grid: the most rows and columns, 1 to 32 (default 16: the patches of a ViT-B/16 are 14 x 14, and the time grows with
            the fourth power of the number and more).
        cost: ``"euclidean"`` (default), the distance of two cells, so that the result is the first Wasserstein distance; or
            ``"squared"``, the square of the distance, divided by the largest one between two cells of the grid.

    Returns:
        ``(N,)``, float64: 0 for two equal maps, at most the square root of 2, and of the squared cost at most 1.

    Raises:
        ModuleNotFoundError: without the package POT, which ``captum_gradeclip[study]`` installs.
        TypeError, ValueError: if an argument is not as above.

    >>> optimal_transport(torch.eye(4)[None], torch.eye(4).flip(0)[None]).round(decimals=3)
    tensor([0.5000], dtype=torch.float64)

    Source: table IX of arXiv 2502.18816, which states neither grid nor cost; these are ours.
    """
    check_number("grid", grid, whole=True, least=1, most=MOST_CELLS)
    one_of("cost", cost, Cost)
    emd2 = _solver()
    p, q = distributions(maps, others)
    rows, columns = (min(grid, side) for side in p.shape[1:])
    p, q = (F.adaptive_avg_pool2d(one[:, None], (rows, columns)).flatten(1) for one in (p, q))
    y, x = ((torch.arange(side, dtype=torch.float64) + 0.5) / side for side in (rows, columns))
    places = torch.cartesian_prod(y, x)
    costs = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    if cost == "squared":
        costs = costs**2 / max(float(costs.max()) ** 2, np.finfo(float).tiny)
    found = []
    for one, other in zip(p.cpu().numpy(), q.cpu().numpy()):
        # Cells without mass take no part, which makes the matrix of a small mask narrow.
        sources, targets = one > 0, other > 0
        mass, wanted = one[sources], other[targets]
        found.append(
            emd2(
                mass / mass.sum(), wanted / wanted.sum(), np.ascontiguousarray(costs[sources][:, targets]), numItermax=10**7
            )
        )
    return torch.tensor([float(one) for one in found], dtype=torch.float64)


def _solver() -> Callable[..., float]:
    """POT's exact solver. It would import every library of tensors that is installed, which takes seconds."""
    for library in ("PYTORCH", "JAX", "TENSORFLOW", "CUPY"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{library}", "1")
    from ot import emd2

    solver: Callable[..., float] = emd2
    return solver
