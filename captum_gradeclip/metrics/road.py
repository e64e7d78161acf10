"""ROAD: pixels removed in such a way that the shape of the hole itself tells the model nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from ..arguments import check_finite, check_number, check_numbers, check_tensor, one_of
from .curves import ranks
from .examples import MAPS, answers, check_images, check_seeds
from .precision import shown
from .scoring import ScoreChoice, finite_values, score_function
from .ungrouped import Ungrouped

Order = Literal["most", "least", "combined"]
# Neighbors side by side weigh 1/6, diagonal ones 1/12: (row offset, column offset, weight).
_NEIGHBORS = tuple(
    (dy, dx, 1 / 6 if 0 in (dy, dx) else 1 / 12) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
)


def noisy_linear_imputation(image: Tensor, removed: Tensor, generator: torch.Generator, noise: float = 0.01) -> Tensor:
    """Fills removed pixels with the weighted mean of their neighbors, plus a little noise.

    The values of all removed pixels are found at once, as the solution of a linear system. Neighbors side by side weigh 1/6
    and diagonal ones 1/12; at the border of the image the weights of the existing neighbors are scaled up to a sum of 1.

    Args:
        image: ``(C, H, W)``.
        removed: ``(H, W)``, boolean: True on the pixels to fill, which must not be all.
        generator: source of the noise, on the CPU.
        noise: standard deviation of the noise, 0 or more, in the units of the image (default 0.01).

    Returns:
        ``(C, H, W)``; where nothing is removed, the image itself.

    Raises:
        TypeError, ValueError: if an argument is not as above, or all pixels are removed.

    >>> image = torch.tensor([[[0.0, 0.0, 3.0]]])
    >>> hole = torch.tensor([[False, True, False]])
    >>> noisy_linear_imputation(image, hole, torch.Generator().manual_seed(0), noise=0.0)
    tensor([[[0.0000, 1.5000, 3.0000]]])

    Source: Rong, Leemann, Borisov, Kasneci, Kasneci: "A Consistent and Efficient Evaluation Strategy for Attribution
    Methods", ICML 2022.
    """
    check_finite("image", check_tensor("image", image, "(C, H, W)", kind="floats"))
    check_number("noise", noise, least=0)
    if check_tensor("removed", removed, "(H, W)", kind="booleans").shape != image.shape[1:]:
        raise ValueError(f"removed: expected the sides of the image {tuple(image.shape[1:])}, got {tuple(removed.shape)}")
    if not removed.any():
        return image
    height, width = removed.shape
    hole = removed.cpu().numpy()
    if hole.all():
        raise ValueError("removed: expected at least one pixel that stays, to fill the others from, got all pixels")
    unknown = np.full(hole.shape, -1)
    unknown[hole] = np.arange(hole.sum())
    rows, columns = np.nonzero(hole)
    known = image.double().cpu().numpy()
    weights = np.zeros(len(rows))
    right = np.zeros((len(rows), len(known)))
    entries: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], float]] = []
    for dy, dx, weight in _NEIGHBORS:
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


class ROAD(Ungrouped):
    """Mean score on images of which the most or the least important pixels were removed and filled from their neighbors.

    For ``order="most"`` lower is better, for ``"least"`` and ``"combined"`` higher is better. The bounds are those of the
    score function, 0 to 1 for an accuracy; for ``"combined"`` they are half the width of that range, -0.5 to 0.5, and a
    random map has an expected value of 0.

    Args:
        forward_func: a function from images ``(B, C, H, W)`` to outputs ``(B, T)``.
        performance: the score function, as for :class:`~captum_gradeclip.metrics.Deletion` (default ``"score"``).
        order: which pixels are removed: ``"most"`` for the most important, ``"least"`` for the least important, or
            ``"combined"`` (the default) for half the difference of the two, least minus most.
        shares: the shares of the pixels that are removed, each above 0 and below 1 (default 0.2, 0.4, 0.6, 0.8); the result
            is the mean over them.
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: if ``performance``, ``order`` or ``shares`` is not as above.

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
        performance: ScoreChoice = "score",
        *,
        order: Order = "combined",
        shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
        **settings: object,
    ) -> None:
        super().__init__(**settings)
        kept = tuple(check_numbers("shares", shares, above=0, below=1))
        if not kept:
            raise ValueError("shares: expected at least one number, each above 0 and below 1, got none")
        self._forward_func = (forward_func,)
        self.performance, self.order, self.shares = performance, one_of("order", order, Order), kept
        self.add_state("total", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Adds images with their maps.

        Args:
            images: ``(N, C, H, W)``, normalized.
            maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite.
            targets: label or column of the output for each image, ``(N,)``, integer.
            seeds: one seed per image for its noise (default 0, 1, ...).
        """
        examples = len(check_images(images))
        check_tensor("maps", maps, *MAPS, examples=("images", examples))  # their values are checked where they are ranked
        check_tensor("targets", targets, "(N,)", kind="integers", examples=("images", examples))
        seeds = check_seeds(seeds, examples)
        measure = score_function(self.performance, targets)
        place = ranks(maps, images.shape[-2:])
        pixels = place.shape[1]
        index = torch.arange(len(images), device=images.device)
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
                values = finite_values(measure(answers(self._forward_func[0], torch.stack(filled)), index))
                self.total[side] += values.double().sum().to(self.total.device) / len(self.shares)
        self.examples += len(images)

    def compute(self) -> Tensor:
        """The mean score over all examples and shares, or half the difference of the two means, a scalar."""
        most, least = self.total / self.examples
        result: Tensor = {"most": most, "least": least, "combined": (least - most) / 2}[self.order]
        return shown(result)
