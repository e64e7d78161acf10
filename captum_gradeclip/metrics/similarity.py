"""Similarity: how alike two maps are, or a map and a mask, by six measures.

All of these functions take pairs of maps ``(N, h, w)`` of one size, of any real type, and compute in float64. Cosine,
Pearson correlation and covariance read the maps as they are. The divergences, like the optimal transport in
:mod:`~captum_gradeclip.metrics.transport`, read a map as a distribution over its cells: it must not be negative, it is
divided by its sum, and a map of zeros, which says nothing about any cell, is the uniform distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_finite, check_number, check_tensor


def cosine_similarity(maps: Tensor, others: Tensor) -> Tensor:
    r"""Cosine of the angle between two maps that are read as vectors.

    .. math:: \frac{\sum_i x_i y_i}{\sqrt{\sum_i x_i^2} \sqrt{\sum_i y_i^2}}

    Args:
        maps: ``(N, h, w)``, finite.
        others: what they are compared with, of the same shape; a mask is a map of zeros and ones.

    Returns:
        ``(N,)``, float64, -1 to 1, and 0 to 1 if no value is negative; NaN where one of both maps is zero everywhere, since
        it has no direction.

    Raises:
        TypeError, ValueError: if the maps differ in shape or are not as above.

    >>> cosine_similarity(torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]), torch.tensor([[[1.0, 1.0]], [[1.0, 1.0]]]))
    tensor([0.7071,    nan], dtype=torch.float64)

    Source: tables VIII and IX of arXiv 2502.18816.
    """
    x, y = flat_pairs(maps, others)
    lengths = x.norm(dim=1) * y.norm(dim=1)
    return torch.where(lengths > 0, ((x * y).sum(dim=1) / lengths).clamp(-1, 1), torch.nan)


def pearson_correlation(maps: Tensor, others: Tensor) -> Tensor:
    r"""Pearson's correlation of the values of two maps.

    .. math:: \frac{\sum_i (x_i - \bar x) (y_i - \bar y)}{\sqrt{\sum_i (x_i - \bar x)^2} \sqrt{\sum_i (y_i - \bar y)^2}}

    Args:
        maps: ``(N, h, w)``, finite.
        others: what they are compared with, of the same shape.

    Returns:
        ``(N,)``, float64, -1 to 1; NaN where one of both maps is constant.

    Raises:
        TypeError, ValueError: if the maps differ in shape or are not as above.

    >>> pearson_correlation(torch.tensor([[[3.0, 1.0, 2.0]]]), torch.tensor([[[1, 0, 0]]]))
    tensor([0.8660], dtype=torch.float64)

    Source: the correlation of table IX of arXiv 2502.18816; its figures rather look like those of :func:`covariance`.
    """
    x, y = flat_pairs(maps, others)
    varies = (x.amax(dim=1) > x.amin(dim=1)) & (y.amax(dim=1) > y.amin(dim=1))
    x, y = x - x.mean(dim=1, keepdim=True), y - y.mean(dim=1, keepdim=True)
    lengths = x.norm(dim=1) * y.norm(dim=1)
    return torch.where(varies & (lengths > 0), ((x * y).sum(dim=1) / lengths).clamp(-1, 1), torch.nan)


def covariance(maps: Tensor, others: Tensor) -> Tensor:
    r"""Covariance of the values of two maps, which unlike the correlation knows how much they vary.

    .. math:: \frac{1}{hw} \sum_i (x_i - \bar x) (y_i - \bar y)

    Args:
        maps: ``(N, h, w)``, finite.
        others: what they are compared with, of the same shape.

    Returns:
        ``(N,)``, float64; for maps in [0, 1] it is -0.25 to 0.25.

    Raises:
        TypeError, ValueError: if the maps differ in shape or are not as above.

    >>> covariance(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1, 0]]]))
    tensor([0.2500], dtype=torch.float64)

    Source: ours, a reading of the correlation in table IX of arXiv 2502.18816.
    """
    x, y = flat_pairs(maps, others)
    return ((x - x.mean(dim=1, keepdim=True)) * (y - y.mean(dim=1, keepdim=True))).mean(dim=1)


def kl_divergence(maps: Tensor, others: Tensor, eps: float = 1e-7) -> Tensor:
    r"""Kullback-Leibler divergence of the other map from the map, in nats: how badly the map predicts the other one.

    .. math:: \sum_i q_i \log\left(\epsilon + \frac{q_i}{p_i + \epsilon}\right)

    for the distributions p of the map and q of the other one, as benchmarks of saliency have it: cells where the other one
    is zero count nothing, and cells that only the map leaves out count much, but not infinitely much.

    Args:
        maps: ``(N, h, w)``, finite and not negative.
        others: what they are compared with, of the same shape; the truth, a mask for example.
        eps: the small number in the formula, above 0 (default 1e-7).

    Returns:
        ``(N,)``, float64, 0 for two equal maps up to about ``eps``.

    Raises:
        TypeError, ValueError: if the maps differ in shape or are not as above.

    >>> kl_divergence(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[1, 0]]]))
    tensor([0.6931], dtype=torch.float64)

    Source: table IX of arXiv 2502.18816; the direction is that of Bylinskii et al.: "What Do Different Evaluation Metrics
    Tell Us About Saliency Models?", TPAMI 2019.
    """
    check_number("eps", eps, above=0)
    p, q = (one.flatten(1) for one in distributions(maps, others))
    return (q * (eps + q / (p + eps)).log()).sum(dim=1)


def js_divergence(maps: Tensor, others: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence of two maps, in nats.

    .. math:: \frac{1}{2} \sum_i p_i \log\frac{p_i}{u_i} + \frac{1}{2} \sum_i q_i \log\frac{q_i}{u_i}, \quad u = (p + q) / 2

    Args:
        maps: ``(N, h, w)``, finite and not negative.
        others: what they are compared with, of the same shape.

    Returns:
        ``(N,)``, float64, from 0 for two equal maps to log 2 = 0.6931 for maps that share no cell. The function of that name
        in SciPy returns the square root of it.

    Raises:
        TypeError, ValueError: if the maps differ in shape or are not as above.

    >>> js_divergence(torch.tensor([[[1.0, 0.0]], [[2.0, 2.0]]]), torch.tensor([[[0, 1]], [[1, 1]]]))
    tensor([0.6931, 0.0000], dtype=torch.float64)

    Source: table IX of arXiv 2502.18816.
    """
    p, q = (one.flatten(1) for one in distributions(maps, others))
    mean = ((p + q) / 2).clamp(min=torch.finfo(p.dtype).tiny)
    parts: Tensor = torch.special.xlogy(p, p / mean) + torch.special.xlogy(q, q / mean)
    return (parts.sum(dim=1) / 2).clamp(min=0)


def distributions(maps: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of maps as distributions over their cells, ``(N, h, w)`` each, float64; a map of zeros is uniform.

    Args:
        maps: ``(N, h, w)``, finite and not negative.
        others: of the same shape.

    Raises:
        TypeError, ValueError: if the maps differ in shape or are not as above.

    >>> distributions(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[0, 0]]]))[0]
    tensor([[[0.7500, 0.2500]]], dtype=torch.float64)
    """
    check_pairs(maps, others)
    found = []
    for name, one in (("maps", maps), ("others", others)):
        values = one.detach().double()
        if bool((values < 0).any()):
            raise ValueError(
                f"{name}: expected values of at least 0, of which a distribution can be made, got {float(values.min()):g};"
                " captum_gradeclip.maps.stretched brings signed maps to [0, 1]"
            )
        # Values near the largest ones that there are would add up to infinity.
        largest = values.amax(dim=(1, 2), keepdim=True)
        values = torch.where(largest > 0, values / torch.where(largest > 0, largest, 1.0), 1.0)
        found.append(values / values.sum(dim=(1, 2), keepdim=True))
    return found[0], found[1]


def check_pairs(maps: Tensor, others: Tensor) -> None:
    """Refuses anything but two tensors ``(N, h, w)`` of one shape with finite values.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    for name, one in (("maps", maps), ("others", others)):
        check_finite(name, check_tensor(name, one, "(N, h, w)"))
    if maps.shape != others.shape:
        raise ValueError(
            f"others: expected the shape of maps {tuple(maps.shape)}, got {tuple(others.shape)}; resize one of them"
        )


def flat_pairs(maps: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of maps as rows ``(N, h * w)`` of float64, without a graph; errors are those of :func:`check_pairs`."""
    check_pairs(maps, others)
    return maps.detach().double().flatten(1), others.detach().double().flatten(1)
