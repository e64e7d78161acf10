"""The scale: which range of values one set of colors stands for, and how strongly each value is colored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..quoting import quoted

STEPS = 255
"""How many colors a scale has; an odd number, so that one of them is that of zero."""
SEQUENTIAL, DIVERGING = "plasma", "RdBu_r"
"""The color maps of maps without and with negative values."""
POSITIVE, NEGATIVE = (178, 24, 43), (33, 102, 172)
"""Red and blue, the ends of :data:`DIVERGING`, for words that count for and against a text."""

_CLEAR = 0.3
"""Up to this share of the scale, colors become stronger, from transparent to their full weight."""
_MIDDLE = 0.4
"""This share of a diverging color map, which is nearly white or black, is left out, since zero is transparent."""
_SIGNED = 0.01
"""Values below zero by less than this share of the largest one are rounding errors of a map that has none."""
_FLAT = 1e-6
"""A map whose values differ by less than this share of the largest one shows nothing but rounding errors."""

Colors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """The range of values that one set of colors stands for.

    Attributes:
        low: the value of the first color.
        high: the value of the last color; not above ``low`` where there is nothing to color.
        signed: whether the middle color stands for zero, and those on its sides for what counts for and against a text.

    >>> scale = Scale.of([torch.tensor([0.0, 2.0]), torch.tensor([-4.0, 1.0])])  # one for all texts of a picture
    >>> scale, scale.places(np.array([-4.0, 0.0, 4.0], dtype=np.float32)).tolist()
    (Scale(low=-4.0, high=4.0, signed=True), [0, 127, 254])
    """

    low: float
    high: float
    signed: bool = False

    @classmethod
    def of(cls, maps: Iterable[Tensor]) -> Scale:
        """The scale that some maps share: from the lowest to the highest value, or, with negative ones, centered on zero.

        Args:
            maps: maps of any shape; values that are not finite do not count, nor do maps that are flat, see :func:`flat`.

        >>> Scale.of([torch.tensor([0.0, 2.0]), torch.tensor([1.0, 4.0])])
        Scale(low=0.0, high=4.0, signed=False)
        >>> Scale.of([torch.tensor([-3.0, 2.0])])
        Scale(low=-3.0, high=3.0, signed=True)
        """
        values = [one[torch.isfinite(one)] for one in (one.detach().float() for one in maps) if flat(one) is None]
        if not values:
            return cls(0.0, 0.0)
        low, high = min(float(one.min()) for one in values), max(float(one.max()) for one in values)
        most = max(-low, high)
        return cls(-most, most, True) if low < -_SIGNED * most else cls(low, high)

    def places(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """The number of the color of each value, from 0 to :data:`STEPS` - 1; what lies outside of the scale has an end's.

        >>> Scale(0.0, 2.0).places(np.array([-1.0, 1.0, 9.0], dtype=np.float32)).tolist()
        [0, 127, 254]
        """
        middle = (STEPS - 1) // 2 if self.signed else 0
        if not self.high > self.low:
            return np.full(values.shape, middle, dtype=np.uint8)
        # Halves, since the range of finite values may be larger than the largest of them.
        shares = (values / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        places: npt.NDArray[np.uint8] = np.rint(shares.clip(0, 1) * (STEPS - 1)).astype(np.uint8)
        return places


def flat(attribution: Tensor) -> float | None:
    """The one value of a map that has the same everywhere, up to rounding errors; ``None`` for any other map.

    Args:
        attribution: a map of any shape; where it is not finite, the model saw nothing. A map that is nowhere finite has the
            value NaN.

    Returns:
        The value, NaN, or ``None``.

    >>> flat(torch.tensor([0.0, torch.nan])), flat(torch.tensor([0.0, 1.0])), flat(torch.tensor([torch.nan]))
    (0.0, None, nan)
    """
    values = attribution.detach().float()
    values = values[torch.isfinite(values)]
    if not values.numel():
        return float("nan")
    low, high = float(values.min()), float(values.max())
    return high if high - low <= _FLAT * max(abs(low), abs(high)) else None


@lru_cache
def palette(cmap: str | None, signed: bool) -> tuple[Colors, Colors]:
    r"""The colors of a scale and how opaque each of them is, so that the picture keeps its own where nothing is attributed.

    .. math:: o(t) = \min(1, t / 0.3), \quad o(t) = \min(1, |2 t - 1| / 0.3) \text{ for signed maps}

    Args:
        cmap: the name of a color map of matplotlib. ``None`` (default of whoever calls) is :data:`SEQUENTIAL`, and
            :data:`DIVERGING` for signed maps, as it is for signed maps where the color map has no middle.
        signed: whether the middle stands for zero.

    Returns:
        Red, green and blue from 0 to 255 ``(STEPS, 3)``, and opacities from 0 to 1 ``(STEPS,)``.

    Raises:
        ValueError: if there is no such color map.

    >>> colors, opacity = palette(None, signed=False)
    >>> colors[-1].round().tolist(), float(opacity[0]), float(opacity[-1])
    ([240.0, 249.0, 33.0], 0.0, 1.0)
    """
    name = check_cmap(cmap) or SEQUENTIAL
    if signed and not diverges(name):
        name = DIVERGING
    places = np.linspace(0, 1, STEPS)
    distance = np.abs(2 * places - 1) if signed else places
    opacity = np.minimum(1, distance / _CLEAR).astype(np.float32)
    if signed:
        places = 0.5 + np.sign(places - 0.5) * (_MIDDLE + (1 - _MIDDLE) * distance) / 2
    return _rgb(name, places.tolist()), opacity


def check_cmap(cmap: str | None) -> str | None:
    """The name of a color map itself, refused unless matplotlib has such a color map.

    Raises:
        ValueError: naming some of them.

    >>> check_cmap("virdis")
    Traceback (most recent call last):
    ValueError: cmap: matplotlib has no color map 'virdis'; for instance plasma, viridis, magma, cividis, RdBu_r or PuOr
    """
    if cmap is None or (isinstance(cmap, str) and cmap in matplotlib.colormaps):
        return cmap
    raise ValueError(
        f"cmap: matplotlib has no color map {quoted(cmap)}; for instance plasma, viridis, magma, cividis, RdBu_r or PuOr"
    )


@lru_cache
def diverges(cmap: str) -> bool:
    """Whether a color map is lightest or darkest in its middle, so that its halves can stand for two signs.

    Args:
        cmap: its name.

    >>> diverges("PuOr"), diverges("viridis")
    (True, False)
    """
    first, middle, last = lightness(_rgb(cmap, (0.0, 0.5, 1.0))).tolist()
    return bool(middle > max(first, last) + 10 or middle < min(first, last) - 10)


def lightness(colors: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The lightness L* of colors as people see it, from 0 for black to 100 for white.

    Args:
        colors: red, green and blue of sRGB from 0 to 255, ``(..., 3)``.

    >>> lightness([[0, 0, 0], [255, 255, 255]]).round(6).tolist()
    [0.0, 100.0]

    Source: CIE 15 for L*, IEC 61966-2-1 for sRGB.
    """
    shares = np.asarray(colors, dtype=np.float64) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    y: npt.NDArray[np.float64] = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > (6 / 29) ** 3, 116 * np.cbrt(y) - 16, y * (29 / 3) ** 3)


def _rgb(cmap: str, places: Sequence[float]) -> Colors:
    return np.asarray(255 * matplotlib.colormaps[cmap](np.asarray(places))[:, :3], dtype=np.float32)
