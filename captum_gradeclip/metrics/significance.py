"""Significance: how sure a difference between methods is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike
from scipy import stats

from ..arguments import check_number, one_of

Alternative = Literal["two-sided", "greater", "less"]


@dataclass(frozen=True)
class TTest:
    """The result of a paired t-test.

    Attributes:
        statistic: the t statistic; infinite or 0 if the test is degenerate.
        p_value: its p-value, 0 to 1.
        degenerate: whether all differences are equal, so that the statistic is not defined.

    >>> same = paired_t_test([0.5, 0.7], [0.4, 0.6])  # one difference at all points, so that its spread is zero
    >>> bool(same.statistic > 100), same.p_value, same.degenerate
    (True, 0.0, True)

    Source: as for :func:`paired_t_test`.
    """

    statistic: float
    p_value: float
    degenerate: bool = False


def paired_t_test(better: ArrayLike, other: ArrayLike, alternative: Alternative = "two-sided") -> TTest:
    """Tests whether two curves differ, by the paired differences of their points.

    Args:
        better: values ``(points,)`` of one method, at least 2.
        other: values ``(points,)`` of another method at the same steps.
        alternative: ``"two-sided"`` (the default); ``"greater"``, whether the first curve is the higher one; or ``"less"``.
            The p-values in the tables of the papers may be one-sided.

    Returns:
        The test. Where all differences are equal it is marked as degenerate, with a p-value of 1 if they are zero or have
        the wrong sign, else 0.

    Raises:
        ValueError: if the curves differ in length, have fewer than two points, or values that are not finite.

    >>> paired_t_test([0.9, 0.7, 0.6], [0.5, 0.4, 0.1], "greater").p_value < 0.05
    True

    Source: the test between the two best methods in the tables of arXiv 2502.18816, by SciPy; the degenerate case is ours.
    """
    one_of("alternative", alternative, Alternative)
    first, second = numbers("better", better), numbers("other", other)
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"better, other: expected as many points, at least 2, got {len(first)} and {len(second)}")
    difference = first - second
    rounding = 1e-12 * max(1.0, float(np.abs(first).max()), float(np.abs(second).max()))
    if np.ptp(difference) <= rounding:
        mean = 0.0 if abs(difference.mean()) <= rounding else float(difference.mean())
        right = {"two-sided": mean != 0, "greater": mean > 0, "less": mean < 0}[alternative]
        return TTest(float("inf") * np.sign(mean) if mean else 0.0, 0.0 if right else 1.0, degenerate=True)
    result = stats.ttest_rel(first, second, alternative=alternative)
    return TTest(float(result.statistic), float(result.pvalue))


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of a mean: percentiles of the means of samples that are drawn again with replacement.

    Args:
        values: one value per example.
        level: confidence level, above 0 and below 1 (default 0.95).
        resamples: number of samples that are drawn, at least 1 (default 1000).
        seed: seed of the draws (default 0).

    Returns:
        The lower and the upper end, or twice NaN if there are no values.

    Raises:
        TypeError, ValueError: if an argument is not as above.

    >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
    >>> 0.35 < low < 0.45 < 0.55 < high < 0.65
    True

    Source: Efron: "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 1979.
    """
    check_number("level", level, above=0, below=1)
    check_number("resamples", resamples, whole=True, least=1)
    check_number("seed", seed, whole=True, least=0)
    data = numbers("values", values)
    if len(data) == 0:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(0, len(data), size=(resamples, len(data)))
    low, high = np.quantile(data[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def numbers(name: str, values: ArrayLike) -> npt.NDArray[np.float64]:
    """Values as an array of one dimension, refused by name unless all of them are finite numbers."""
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected a sequence of numbers, got {type(values).__name__} with others") from error
    if found.ndim != 1:
        raise ValueError(f"{name}: expected a sequence of numbers, got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinite values among them")
    return found
