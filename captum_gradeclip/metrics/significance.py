"""How sure a difference is: paired tests between curves, intervals by resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class TTest:
    """Of pairs: the statistic, its p-value, and whether all differences were equal, so that there is no statistic."""

    statistic: float
    p_value: float
    degenerate: bool = False


def paired_t_test(
    better: ArrayLike, other: ArrayLike, alternative: Literal["two-sided", "greater", "less"] = "two-sided"
) -> TTest:
    """Whether two curves differ, point by point.

    Args:
        better: values of one method at all recorded steps.
        other: of another, at the same steps.
        alternative: ``"greater"`` asks whether the first is the higher one; the tables of the papers may be one-tailed.

    Returns:
        The test; where all differences are equal, p is 1 if they are zero (or on the wrong side), else 0, and it is marked.

    Raises:
        ValueError: for curves of different or too few points.

    >>> paired_t_test([0.9, 0.7, 0.6], [0.5, 0.4, 0.1], "greater").p_value < 0.05
    True
    """
    first, second = np.asarray(better, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(
            f"better, other: expected two curves of as many points, at least 2, got {first.shape}, {second.shape}"
        )
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
    """The interval of the mean over examples, by resampling them (percentiles); seeded.

    >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
    >>> 0.35 < low < 0.45 < 0.55 < high < 0.65
    True
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(0, len(data), size=(resamples, len(data)))
    low, high = np.quantile(data[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
