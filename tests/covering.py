"""Products of two tables that grow, tested by a part that covers both; the rest is slow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pytest

R = TypeVar("R")
C = TypeVar("C")


def covering(rows: Sequence[R], columns: Sequence[C], per_row: int = 2, per_column: int = 3) -> list[tuple[R, C]]:
    """Pairs in which each row has ``per_row`` columns at least and each column ``per_column`` rows, where there are so many.

    Row after row takes the next columns in turn, so that the pairs are the same in every run and spread evenly.
    """
    count = min(len(columns), max(per_row, math.ceil(min(per_column, len(rows)) * len(columns) / len(rows))))
    return [
        (row, columns[(number * count + step) % len(columns)]) for number, row in enumerate(rows) for step in range(count)
    ]


def covered(rows: Iterable[R], columns: Iterable[C], per_row: int = 2, per_column: int = 3) -> list[Any]:
    """All pairs as parameters of a test, those outside of :func:`covering` marked as slow."""
    rows, columns = list(rows), list(columns)
    chosen = [(rows.index(row), columns.index(column)) for row, column in covering(rows, columns, per_row, per_column)]
    return [
        pytest.param(row, column, id=f"{row}-{column}", marks=() if (i, j) in chosen else pytest.mark.slow)
        for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns))
    ]
