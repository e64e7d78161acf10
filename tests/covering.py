"""Products of two tables that grow, tested by a part that covers both; the rest is slow."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest

R = TypeVar("R")
C = TypeVar("C")


def anything(row: object, column: object) -> bool:
    """Whether a pair says something: any does."""
    return True


def covering(
    rows: Sequence[R],
    columns: Sequence[C],
    per_row: int = 2,
    per_column: int = 3,
    telling: Callable[[R, C], bool] = anything,
) -> list[tuple[int, int]]:
    """Places of pairs, ``per_column`` for each column and ``per_row`` for each row at least, where there are so many.

    Always the least used rows and columns are taken, so that pairs are spread evenly and the same in every run. Pairs that
    are not ``telling`` (a method that refuses a family, say) do not count.
    """
    chosen: list[tuple[int, int]] = []
    possible = [(i, j) for (i, r), (j, c) in itertools.product(enumerate(rows), enumerate(columns)) if telling(r, c)]
    for axis, count, lines in ((1, per_column, len(columns)), (0, per_row, len(rows))):
        for line in range(lines):
            used = Counter(pair[1 - axis] for pair in chosen)
            missing = count - sum(pair[axis] == line for pair in chosen)
            others = [pair for pair in possible if pair[axis] == line and pair not in chosen]
            chosen += sorted(others, key=lambda pair: (used[pair[1 - axis]], pair[1 - axis]))[: max(0, missing)]
    return chosen


def covered(
    rows: Iterable[R],
    columns: Iterable[C],
    per_row: int = 2,
    per_column: int = 3,
    telling: Callable[[R, C], bool] = anything,
) -> list[Any]:
    """All pairs as parameters of a test, those outside of :func:`covering` marked as slow."""
    rows, columns = list(rows), list(columns)
    chosen = set(covering(rows, columns, per_row, per_column, telling))
    return [
        pytest.param(row, column, id=f"{row}-{column}", marks=() if (i, j) in chosen else pytest.mark.slow)
        for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns))
    ]
