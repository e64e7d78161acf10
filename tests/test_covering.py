"""The pairs that stand for a product."""

from __future__ import annotations

import pytest

from .covering import covered, covering


@pytest.mark.parametrize(("rows", "columns"), [(27, 9), (27, 3), (2, 9), (5, 1), (1, 7), (30, 200), (12, 6), (12, 3)])
def test_every_row_and_every_column_is_covered(rows: int, columns: int) -> None:
    pairs = covering(range(rows), range(columns))
    assert len(set(pairs)) == len(pairs)
    for row in range(rows):
        assert sum(one == row for one, _ in pairs) >= min(2, columns)
    for column in range(columns):
        assert sum(one == column for _, one in pairs) >= min(3, rows)
    assert len(pairs) <= 2 * rows + 3 * columns


def test_pairs_that_say_nothing_do_not_count() -> None:
    pairs = covering(range(9), range(4), telling=lambda row, column: column != 2 or row > 6)
    assert [row for row, column in pairs if column == 2] == [7, 8]
    assert all(sum(one == column for _, one in pairs) >= 3 for column in (0, 1, 3))


def test_the_rest_is_slow() -> None:
    parameters = covered(range(27), range(9))
    assert len(parameters) == 27 * 9 and sum(not one.marks for one in parameters) == 54
