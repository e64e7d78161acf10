"""The patch grid, found from the number of tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from captum_gradeclip.maps import infer_grid


@settings(max_examples=300, deadline=None)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), patch=st.sampled_from([8, 14, 16, 32]), prefix=st.integers(0, 5))
def test_the_grid_is_found_again(rows: int, columns: int, patch: int, prefix: int) -> None:
    """Whatever grid is inferred explains the tokens with no more prefix than there was, or it is the right one."""
    tokens = rows * columns + prefix
    found, (h, w) = infer_grid(tokens, (rows * patch, columns * patch))
    assert h * w + found == tokens
    assert (h, w) == (rows, columns) or found <= prefix
