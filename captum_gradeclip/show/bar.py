"""The color bar: what the colors of a figure mean, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from PIL import Image

from .fonts import height, width
from .overlay import ALPHA, veiled
from .page import Page
from .scale import STEPS, Scale, palette

_LIGHT, _DARK = 250.0, 222.0
_UNSEEN = "not seen by the model"
_THICK = 0.1  # inches


def told(value: float, most: float, signed: bool = False, even: bool = False) -> str:
    """A number as figures show it: with three digits of the largest one beside it, and with a sign on a signed scale.

    Args:
        value: the number.
        most: the largest magnitude of the numbers beside it.
        signed: whether a plus stands before positive ones (default false).
        even: whether zeros at the end stay, so that numbers below each other have as many digits (default false).

    >>> told(0.42, 0.58), told(0.42, 0.58, even=True)
    ('0.42', '0.420')
    >>> told(0.26019, 0.26), told(-0.0042, 0.26), told(3e-05, 0.26), told(0.5, 0.5, signed=True), told(0.00002, 0.00068)
    ('0.26', '-0.004', '0', '+0.5', '0.00002')
    """
    digits = 0 if not math.isfinite(most) or most >= 100 else 2 - math.floor(math.log10(most)) if most > 0 else 0
    number = f"{value:.{digits}f}" if digits <= 6 and abs(value) < 1e6 else f"{value:.2e}"
    mantissa, exponent, power = number.partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa and not even else mantissa
    if float(mantissa) == 0:
        return "0"
    return f"{'+' if signed and value > 0 else ''}{mantissa}{exponent}{power}"


def ends(scale: Scale) -> list[tuple[float, str]]:
    """The numbers that stand at a bar, each with its place from 0 to 1.

    >>> ends(Scale(0.0, 2.0)), ends(Scale(-3.0, 3.0, signed=True))
    ([(0.0, '0'), (1.0, '2')], [(0.0, '-3'), (0.5, '0'), (1.0, '+3')])
    """
    most = max(abs(scale.low), abs(scale.high))
    low, high = (told(value, most, scale.signed) for value in (scale.low, scale.high))
    return [(0.0, low), (0.5, "0"), (1.0, high)] if scale.signed else [(0.0, low), (1.0, high)]


def bar_colors(signed: bool, cmap: str | None, rows: int = 8) -> npt.NDArray[np.uint8]:
    """The colors of a bar on the squares that stand for what is transparent.

    Args:
        signed: whether the middle stands for zero.
        cmap: as for :func:`captum_gradeclip.show.palette`.
        rows: thickness of the bar in dots (default 8).

    Returns:
        ``(rows, STEPS, 3)``, the first color on the left.
    """
    colors, opacity = palette(cmap, signed)
    y, x = np.ogrid[:rows, :STEPS]
    below = np.where((2 * y // rows + 8 * x // rows // 4) % 2, _LIGHT, _DARK)[..., None]
    weight = ALPHA * opacity[None, :, None]
    return np.rint(weight * colors[None] + (1 - weight) * below).astype(np.uint8)


def place_bar(
    page: Page,
    left: float,
    top: float,
    long: float,
    scale: Scale,
    cmap: str | None,
    size: float,
    marks: Sequence[tuple[float, str]] | None = None,
) -> float:
    """Places a bar with its numbers below.

    Args:
        page: where it is placed.
        left: its left edge in inches.
        top: its upper edge.
        long: its width.
        scale: what it shows.
        cmap: as for :func:`captum_gradeclip.show.palette`.
        size: size of the numbers in points.
        marks: what stands at it, each with its place from 0 to 1; ``None`` (default) for :func:`ends`.

    Returns:
        The height that it takes.
    """

    def draw(axis: Axes) -> None:
        axis.imshow(bar_colors(scale.signed, cmap), aspect="auto", interpolation="nearest")

    page.axes(left, top, long, _THICK, draw)
    for place, number in marks or ends(scale):
        align = {0.0: "left", 0.5: "center", 1.0: "right"}[place]
        page.text(number, left + place * long, top + _THICK, size, align)
    return _THICK + height(1, size)


def place_upright_bar(page: Page, left: float, top: float, high: float, scale: Scale, cmap: str | None, size: float) -> None:
    """Places a bar whose last color is above, with its numbers on its right; arguments as for :func:`place_bar`."""

    def draw(axis: Axes) -> None:
        axis.imshow(bar_colors(scale.signed, cmap).swapaxes(0, 1)[::-1], aspect="auto", interpolation="nearest")

    page.axes(left, top, _THICK, high, draw)
    for place, number in ends(scale):
        if place == 0.5 and high < 3 * height(1, size):
            continue  # the numbers would touch
        middle = {0.0: high - height(1, size), 0.5: (high - height(1, size)) / 2, 1.0: 0.0}[place]
        page.text(number, left + _THICK + 0.04, top + middle, size)


def place_key(
    page: Page,
    top: float,
    scale: Scale | None,
    cmap: str | None,
    label: str,
    unseen: bool,
    size: float,
    marks: Sequence[tuple[float, str]] | None = None,
) -> float:
    """Places what explains the colors of a figure: a bar under its label, and the veil of what the model did not see.

    Args:
        page: where it is placed, in the middle of its width.
        top: upper edge in inches.
        scale: what the bar shows; ``None`` for no bar.
        cmap: as for :func:`captum_gradeclip.show.palette`.
        label: what the numbers are.
        unseen: whether the veil is explained.
        size: size of the letters in points.
        marks: as for :func:`place_bar`.

    Returns:
        The height that it takes.
    """
    bottom, long, wide = top, min(3.0, 0.7 * page.width), 0.22 + width(_UNSEEN, size)
    beside = unseen and scale is not None and long + 0.35 + wide <= page.width
    left = (page.width - long - (0.35 + wide if beside else 0)) / 2
    if scale is not None:
        page.text(label, left + long / 2, bottom, size, "center")
        bottom += height(1, size) + 0.02
        bottom += place_bar(page, left, bottom, long, scale, cmap, size, marks)
    if unseen:
        place, start = (top + height(1, size), left + long + 0.35) if beside else (bottom + 0.04, (page.width - wide) / 2)

        def draw(axis: Axes) -> None:
            axis.imshow(np.asarray(veiled(Image.new("RGB", (24, 24), (90, 90, 90)))), interpolation="nearest")

        page.axes(start, place, 0.16, 0.16, draw)
        page.text(_UNSEEN, start + 0.22, place + 0.08 - height(1, size) / 2, size)
        bottom = max(bottom, place + 0.18)
    return bottom - top
