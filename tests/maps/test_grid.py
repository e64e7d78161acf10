"""The patch grid, found from the number of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from captum_gradeclip.maps import infer_grid


@settings(max_examples=200)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([4, 8, 14, 16, 32]), st.integers(0, 5))
def test_the_grid_of_any_image_is_found(h: int, w: int, patch: int, prefix: int) -> None:
    found_prefix, grid = infer_grid(prefix + h * w, (h * patch, w * patch))
    assert found_prefix + grid[0] * grid[1] == prefix + h * w
    # Another exact patch size can only win with a smaller prefix.
    assert grid == (h, w) or found_prefix < prefix


def test_known_grids() -> None:
    assert infer_grid(50, (224, 224)) == (1, (7, 7))
    assert infer_grid(196, (224, 224)) == (0, (14, 14))
    assert infer_grid(198, (224, 224)) == (2, (14, 14))
    assert infer_grid(3, (8, 16)) == (1, (1, 2))
    assert infer_grid(1 + 14 * 14, (225, 225)) == (1, (14, 14))
    with pytest.raises(ValueError, match="not a patch grid.*patch dropout"):
        infer_grid(120, (224, 224))


@settings(max_examples=300)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), patch=st.sampled_from([8, 14, 16, 32]), prefix=st.integers(0, 5))
def test_the_grid_is_found_again(rows: int, columns: int, patch: int, prefix: int) -> None:
    """Whatever grid is inferred explains the tokens with no more prefix than there was, or it is the right one."""
    tokens = rows * columns + prefix
    found, (h, w) = infer_grid(tokens, (rows * patch, columns * patch))
    assert h * w + found == tokens
    assert (h, w) == (rows, columns) or found <= prefix
