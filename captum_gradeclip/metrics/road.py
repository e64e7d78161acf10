"""ROAD: pixels removed so that the hole itself tells nothing, from the most or from the least important on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torchmetrics import Metric

from .faithfulness import Traced, ranks, traced_by

_NEIGHBOURS = tuple(
    (dy, dx, 1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
)


def noisy_linear_imputation(image: Tensor, removed: Tensor, generator: torch.Generator, noise: float = 0.01) -> Tensor:
    """An image whose removed pixels are the weighted mean of their neighbours, and a little noise.

    All removed pixels are solved for at once; neighbours side by side weigh 1/6, diagonal ones 1/12, and at the border the
    weights that are there share what is missing.

    Args:
        image: ``(C, H, W)``.
        removed: ``(H, W)``, boolean.
        generator: of the noise.
        noise: its standard deviation.

    Returns:
        ``(C, H, W)``.

    >>> image = torch.tensor([[[0.0, 0.0, 3.0]]])
    >>> hole = torch.tensor([[False, True, False]])
    >>> noisy_linear_imputation(image, hole, torch.Generator().manual_seed(0), noise=0.0)
    tensor([[[0.0000, 1.5000, 3.0000]]])
    """
    if not removed.any():
        return image
    height, width = removed.shape
    hole = removed.cpu().numpy()
    if hole.all():
        raise ValueError("removed: all pixels, so there is nothing to fill them from")
    unknown = np.full(hole.shape, -1)
    unknown[hole] = np.arange(hole.sum())
    rows, columns = np.nonzero(hole)
    known = image.double().cpu().numpy()
    weights = np.zeros(len(rows))
    right = np.zeros((len(rows), len(known)))
    entries: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]] = []
    for dy, dx, weight in _NEIGHBOURS:
        y, x = rows + dy, columns + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        here = np.nonzero(inside)[0]
        y, x = y[inside], x[inside]
        weights[here] += weight
        also = unknown[y, x] >= 0
        entries.append((here[also], unknown[y[also], x[also]], -weight))
        right[here[~also]] += weight * known[:, y[~also], x[~also]].T
    everywhere = np.arange(len(rows))
    i = np.concatenate([everywhere, *(entry[0] for entry in entries)])
    j = np.concatenate([everywhere, *(entry[1] for entry in entries)])
    values = np.concatenate([weights, *(np.full(len(entry[0]), entry[2]) for entry in entries)])
    solved = spsolve(coo_matrix((values, (i, j))).tocsc(), right).reshape(len(rows), -1)
    filled = image.clone()
    filled[:, removed] = torch.from_numpy(solved.T.copy()).to(image)
    filled[:, removed] += noise * torch.randn(len(image), len(rows), generator=generator).to(image)
    return filled


class ROAD(Metric):
    """Performance on images whose hottest (or coldest) pixels were removed and debiased, mean over several shares.

    Args:
        forward_func: images ``(B, C, H, W)`` to outputs ``(B, T)``.
        performance: as for :class:`~captum_gradeclip.metrics.Deletion`.
        order: ``"most"`` relevant first (lower is better), ``"least"`` (higher is better), or ``"combined"``, half the
            difference of least and most.
        shares: of the pixels that are removed.
        settings: of :class:`torchmetrics.Metric`.

    >>> metric = ROAD(lambda x: x.mean(dim=(2, 3)), shares=(0.5,))
    >>> metric.update(torch.ones(1, 3, 8, 8), torch.rand(1, 4, 4), torch.tensor([0]))
    >>> float(metric.compute()) < 0.01
    True

    Source: Rong, Leemann, Borisov, Kasneci, Kasneci: "A Consistent and Efficient Evaluation Strategy for Attribution
    Methods", ICML 2022.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    examples: Tensor

    def __init__(
        self,
        forward_func: Callable[[Tensor], Tensor],
        performance: Traced = "score",
        *,
        order: Literal["most", "least", "combined"] = "combined",
        shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if order not in ("most", "least", "combined"):
            raise ValueError(f"order: expected 'most', 'least' or 'combined', got {order!r}")
        if not shares or not all(0 < share < 1 for share in shares):
            raise ValueError(f"shares: expected numbers between 0 and 1, got {shares!r}")
        self._forward_func = (forward_func,)
        self.performance, self.order, self.shares = performance, order, tuple(shares)
        self.add_state("total", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Adds images ``(N, C, H, W)`` with their maps and targets ``(N,)``; ``seeds`` are of each image's noise."""
        traced = traced_by(self.performance, targets)
        place = ranks(maps, images.shape[-2:])
        pixels = place.shape[1]
        index = torch.arange(len(images), device=images.device)
        seeds = range(len(images)) if seeds is None else seeds
        for side, wanted in enumerate(("most", "least")):
            if self.order not in (wanted, "combined"):
                continue
            for share in self.shares:
                count = round(share * pixels)
                removed = place < count if wanted == "most" else place >= pixels - count
                filled = [
                    noisy_linear_imputation(image, hole.view(image.shape[1:]), torch.Generator().manual_seed(seed))
                    for image, hole, seed in zip(images, removed, seeds)
                ]
                with torch.no_grad():
                    values = traced(self._forward_func[0](torch.stack(filled)), index)
                self.total[side] += values.double().sum().to(self.total.device) / len(self.shares)
        self.examples += len(images)

    def compute(self) -> Tensor:
        """The mean performance, or half the difference."""
        most, least = self.total / self.examples
        result: Tensor = {"most": most, "least": least, "combined": (least - most) / 2}[self.order]
        return result.float()
