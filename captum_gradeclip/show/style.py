"""The style: how figures look and how their files are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..options import Options, number
from .scale import check_cmap

ColorScale = Literal["shared", "each"]
"""One scale of colors for all maps of a picture, or one for each map."""
Format = Literal["png", "pdf", "svg"]
"""The format of a figure."""
INCH = 25.4
"""Millimeters of an inch, in which matplotlib measures."""
MARGIN = 0.06
"""The empty border of a page in inches."""


@dataclass(frozen=True)
class Style(Options):
    """How figures look and how their files are written.

    Attributes:
        cmap: name of a color map of matplotlib. ``None`` (default) for ``"plasma"``, which is as light as values are high,
            and ``"RdBu_r"`` for maps with negative values, whose scale is centered on zero. A color map without a middle is
            not used for these.
        color_scale: ``"shared"`` (default) for one scale for all texts of a picture, so that a text that is not there looks
            cold; ``"each"`` for one for each map, from its own lowest to its own highest value.
        width: width of a figure in millimeters, from 30 to 2000; ``None`` (default) for what suits its panels.
        dpi: dots per inch of what consists of dots, from 20 to 1200 (default 150).
        format: format of the files of figures, ``"png"`` (default), ``"pdf"`` or ``"svg"``.
        full_size: whether overlays have the size of the picture, instead of that at which they are looked at (default
            false).

    Raises:
        ValueError: naming the attribute that is out of range.

    >>> Style(width=254).room
    9.88
    >>> Style(color_scale="own")
    Traceback (most recent call last):
    ValueError: color_scale: expected one of ('shared', 'each'), got 'own'
    """

    cmap: str | None = None
    color_scale: ColorScale = "shared"
    width: float | None = number(None, least=30, most=2000)
    dpi: int = number(150, least=20, most=1200)
    format: Format = "png"
    full_size: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cmap(self.cmap)

    @property
    def room(self) -> float | None:
        """The width in inches without the borders of a page; ``None`` if no width is given."""
        return None if self.width is None else self.width / INCH - 2 * MARGIN
