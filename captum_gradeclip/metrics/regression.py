"""Regression: the straight line through points, and how sure its slope is."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy import stats

from .significance import numbers


@dataclass(frozen=True)
class Regression:
    """The line of least squares through some points.

    Attributes:
        slope: change of y for one unit of x; NaN where there are fewer than three points, or all of them have one x.
        intercept: y at x = 0; NaN likewise.
        r_squared: share of the variance of y that the line explains, 0 to 1; NaN likewise, and 0 if all points have one y.
        p_value: two-sided p-value of the slope against no slope, 0 to 1; NaN likewise.
        count: number of points.

    >>> line = linear_regression([0, 1, 2, 3], [1.0, 2.9, 5.1, 7.0])
    >>> round(line.slope, 2), round(line.r_squared, 3), line.p_value < 0.01, line.defined
    (2.02, 0.999, True, True)

    Source: as for :func:`linear_regression`.
    """

    slope: float
    intercept: float
    r_squared: float
    p_value: float
    count: int

    @property
    def defined(self) -> bool:
        """Whether there is a line."""
        return self.slope == self.slope


def linear_regression(x: ArrayLike, y: ArrayLike) -> Regression:
    """Ordinary least squares of y on x.

    Args:
        x: values ``(points,)``, finite.
        y: as many values, finite.

    Returns:
        The line; of fewer than three points, or points of one x, a line that is not defined.

    Raises:
        TypeError, ValueError: if x and y differ in length, or are not finite numbers.

    >>> line = linear_regression([0, 1, 2, 3], [1, 3, 5, 7])
    >>> line.slope, line.intercept, line.r_squared, line.count
    (2.0, 1.0, 1.0, 4)
    >>> linear_regression([1, 1, 1], [0, 1, 2]).defined
    False

    Source: the line through scores and through the concreteness of words in arXiv 2502.18816, solved by SciPy.
    """
    first, second = numbers("x", x), numbers("y", y)
    if len(first) != len(second):
        raise ValueError(f"y: expected as many values as x, {len(first)}, got {len(second)}")
    nothing = float("nan")
    if len(first) < 3 or first.min() == first.max():
        return Regression(nothing, nothing, nothing, nothing, len(first))
    if second.min() == second.max():
        return Regression(0.0, float(second[0]), 0.0, 1.0, len(first))
    found = stats.linregress(first, second)
    return Regression(float(found.slope), float(found.intercept), float(found.rvalue) ** 2, float(found.pvalue), len(first))
