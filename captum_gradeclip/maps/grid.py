"""The patch grid: how a sequence of tokens lies on an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..arguments import check_number, check_sides

MOST_PREFIX_TOKENS = 16
"""The most tokens that may precede the patches: one class token, and up to 15 register tokens."""
MOST_PREFIX_OTHERWISE = 5
"""The same limit where no patch size divides both sides of the image. It is stricter, since nearly any number of tokens
would otherwise fit some patch size."""


def infer_grid(tokens: int, size: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """Finds the patch grid behind a number of key tokens.

    The result has the smallest prefix ``p`` (class and register tokens) for which some patch size ``P`` gives
    ``(H // P) * (W // P) == tokens - p``. A patch size that divides both sides is preferred as long as its prefix is at most
    :data:`MOST_PREFIX_TOKENS`, because small oblong images would otherwise fit a wrong patch size with a smaller prefix.

    Args:
        tokens: number of key tokens, at least 1.
        size: height and width of the image in pixels.

    Returns:
        The pair ``(prefix, (h, w))``, the number of prefix tokens and the rows and columns of the grid.

    Raises:
        ValueError: if no patch size fits.

    >>> infer_grid(197, (224, 224)), infer_grid(261, (224, 224)), infer_grid(1201, (480, 640))
    ((1, (14, 14)), (5, (16, 16)), (1, (30, 40)))
    """
    check_number("tokens", tokens, whole=True, least=1)
    height, width = check_sides("size", size)
    best: dict[bool, tuple[int, tuple[int, int]]] = {}
    for patch in range(min(height, width), 0, -1):
        grid = height // patch, width // patch
        prefix = tokens - grid[0] * grid[1]
        if prefix < 0:
            break  # smaller patches only give more of them
        exact = height % patch == 0 and width % patch == 0
        if exact not in best or prefix < best[exact][0]:
            best[exact] = prefix, grid
    if True in best and best[True][0] <= MOST_PREFIX_TOKENS:
        return best[True]
    if False in best and best[False][0] <= MOST_PREFIX_OTHERWISE:
        return best[False]
    raise ValueError(
        f"layer: {tokens} key tokens are not a patch grid of a {height} x {width} image with up to {MOST_PREFIX_TOKENS}"
        " prefix tokens; is patch dropout active (train mode), or does the layer belong to another tower?"
    )


def possible_grids(tokens: int, size: Sequence[int]) -> list[tuple[int, int]]:
    """The patch grids that fit into a number of tokens, the most probable first.

    Patch sizes that divide both sides of the image come first, and among them those that leave the fewest tokens over. At
    most half of the tokens may be none of the patches, and at most :data:`MOST_PREFIX_OTHERWISE` where the size does not
    divide the sides.

    Args:
        tokens: number of tokens, at least 1.
        size: height and width of the image in pixels.

    Returns:
        Rows and columns of each grid; none if no grid fits.

    >>> possible_grids(21, (64, 64)), possible_grids(13, (7, 7))
    ([(4, 4)], [(3, 3)])
    """
    height, width = size
    found: dict[tuple[int, int], bool] = {}
    for patch in range(1, min(height, width) + 1):
        grid, exact = (height // patch, width // patch), height % patch == 0 and width % patch == 0
        over = tokens - grid[0] * grid[1]
        if 0 <= over <= (tokens // 2 if exact else MOST_PREFIX_OTHERWISE):
            found[grid] = found.get(grid, False) or exact
    return sorted(found, key=lambda grid: (not found[grid], tokens - grid[0] * grid[1]))


def nearest_multiple(length: float, unit: int) -> int:
    """Rounds a length to the nearest multiple of a unit, and never to zero.

    Args:
        length: a length in pixels, 0 or more.
        unit: side of a patch in pixels, at least 1.

    Returns:
        A multiple of ``unit``, at least ``unit`` itself. Halfway between two multiples, it is the larger one.

    >>> nearest_multiple(478, 16), nearest_multiple(3, 16)
    (480, 16)
    """
    check_number("length", length, least=0)
    check_number("unit", unit, whole=True, least=1)
    return max(1, math.floor(length / unit + 0.5)) * unit
