"""The strip: a picture and, beside it, one overlay per text, with the colored words of the text below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from ..maps import Words
from .bar import place_bar, place_key, told
from .fonts import height, lettering, wrap
from .legend import Legend
from .overlay import overlay
from .page import Drawing, Page, own_settings
from .scale import Scale, flat
from .style import Style
from .words import legend_of, place_words

GAP = 0.12
"""Space between panels in inches."""
_WIDEST = 12.6
"""The most inches of a figure whose width is not given."""
_LEAST = 0.95
"""The least inches of a panel that has a heading."""


@dataclass(frozen=True)
class Strip:
    """What :func:`strips` draws of one picture.

    Attributes:
        image: the picture, of any mode.
        maps: ``(T, height, width)`` of the picture.
        titles: T strings, the headings of the overlays.
        words: for each text ``[(word, weight), ...]``, drawn under its overlay, or ``None`` (the default) for none.
        notes: for each text a line under its overlay, the score for example, or ``None`` (the default) for none.
        heading: what stands above the picture (default ``"image"``).

    Raises:
        ValueError: if the numbers of maps, titles, captions and notes differ.

    >>> image, maps = Image.new("RGB", (4, 4)), torch.rand(1, 4, 4)
    >>> figure = strips([Strip(image, maps, ["a dog"], heading="first"), Strip(image, maps, ["a dog"], heading="second")])
    >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
    ['first', 'a dog', 'second', 'a dog']
    """

    image: Image.Image
    maps: Tensor
    titles: Sequence[str]
    words: Sequence[Words] | None = None
    notes: Sequence[str] | None = None
    heading: str = "image"

    def __post_init__(self) -> None:
        counts = [one for one in (self.words, self.notes) if one is not None]
        if self.maps.dim() != 3 or any(len(one) != len(self.titles) for one in (self.maps, *counts)):
            raise ValueError(
                f"attributions: expected one map (height, width), caption and note for each of {len(self.titles)} titles,"
                f" got shape {tuple(self.maps.shape)}" + "".join(f" and {len(one)} captions or notes" for one in counts)
            )


def strip(
    image: Image.Image,
    attributions: Tensor,
    titles: Sequence[str],
    *,
    words: Sequence[Words] | None = None,
    notes: Sequence[str] | None = None,
    unit: str = "",
    style: Style | None = None,
) -> Drawing:
    """Draws a picture and, beside it, one overlay per text, with the colored words of the text below.

    Panels that do not fit beside each other stand in several rows. A flat map is not stretched: its panel says which value
    it has. Where a map is NaN, the model saw nothing, and the panel is gray and hatched.

    Args:
        image: the picture, of any mode.
        attributions: ``(T, height, width)`` of the picture.
        titles: T strings, the headings of the overlays.
        words: for each text ``[(word, weight), ...]``, drawn under its overlay, or ``None`` (the default) for none.
        notes: for each text a line under its overlay, the score for example, or ``None`` (the default) for none.
        unit: what the values of the maps are measured in, ``"cosine"`` for example (default: nothing is said).
        style: colors, scale and size, see :class:`Style`.

    Returns:
        A figure whose first T + 1 axes are the panels.

    Raises:
        ValueError: if the numbers of maps, titles, captions and notes differ.

    >>> strip(Image.new("RGB", (4, 4)), torch.rand(2, 4, 4), ["a", "b"]).axes[1].get_title()
    'a'
    """
    return strips([Strip(image, attributions, titles, words, notes)], unit=unit, style=style)


def strips(parts: Sequence[Strip], *, unit: str = "", style: Style | None = None) -> Drawing:
    """Draws the strips of several pictures below each other, each with a scale of its own.

    Args:
        parts: what is drawn, at least one.
        unit: as for :func:`strip`.
        style: as for :func:`strip`.

    Returns:
        A figure.

    >>> image, maps = Image.new("RGB", (4, 4)), torch.rand(1, 4, 4)
    >>> len(strips([Strip(image, maps, ["a dog"]), Strip(image, maps, ["a cat"])]).axes) >= 4
    True
    """
    look = style or Style()
    with own_settings():
        placers = [_Placer(part, _Shape.of(part, look.room), look, unit) for part in parts]
        page = Page(look.room or max(3.2, *(one.shape.width for one in placers)))
        top = 0.0
        for one in placers:
            top = one.place(page, top) + 0.16
        return page.drawing(top - 0.16, look.dpi)


def draw_panel(axis: Axes, image: Image.Image, attribution: Tensor, scale: Scale, cmap: str | None, inches: float) -> None:
    """Draws an overlay, or, for a flat map, the picture under the words that say so.

    Args:
        axis: where to draw.
        image: the picture.
        attribution: ``(height, width)`` of the picture.
        scale: the scale of the map.
        cmap: as for :func:`captum_gradeclip.show.palette`.
        inches: width that the words may have.
    """
    value = flat(attribution)
    axis.imshow(np.asarray(overlay(image, attribution, cmap=cmap, scale=scale if value is None else None)))
    if value is not None:
        said = "not seen" if math.isnan(value) else f"{'zero' if value == 0 else told(value, abs(value))} everywhere"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "boxstyle": "square,pad=0.3"}
        size = 8.0 if inches > 1 else 6.0
        lines = "\n".join(wrap(said, size, max(0.4, inches - 0.1)))
        words = axis.text(0.5, 0.5, lines, ha="center", va="center", transform=axis.transAxes, bbox=box)
        words.update(lettering(said, size))


def scales_of(maps: Tensor, style: Style) -> list[Scale]:
    """The scale of each map: one for all, or its own, as the style says."""
    shared = Scale.of(maps)
    return [shared if style.color_scale == "shared" else Scale.of([one]) for one in maps]


def bounded(image: Image.Image, low: float = 0.2, high: float = 40.0) -> float:
    """Width of a picture divided by its height; a panel does not follow beyond these bounds, and the picture lies inside."""
    return min(max(image.width / image.height, low), high)


@dataclass(frozen=True)
class _Shape:
    """How many panels stand in a row, how wide their cells are, and how large the pictures in these, in inches."""

    columns: int
    cell: float
    wide: float
    high: float

    @classmethod
    def of(cls, part: Strip, inches: float | None) -> _Shape:
        """What suits a picture, on a page of this width, or on one that is as wide as it has to be."""
        count, aspect = len(part.titles) + 1, bounded(part.image)
        highest = 3.2 if inches is None else 2.2
        if inches is None:
            # Panels have about the same area, whatever the picture's aspect.
            high = min(2.0 / math.sqrt(aspect), highest, _WIDEST / aspect)
            cell = max(high * aspect, 1.6)
            most = int((_WIDEST + GAP) / (cell + GAP))
        else:
            most = int((inches + GAP) / (max(_LEAST, math.sqrt(0.7 * aspect)) + GAP))
        rows = math.ceil(count / max(1, most))
        columns = math.ceil(count / rows)
        if inches is not None:
            cell = (inches + GAP) / columns - GAP
            high = min(cell / aspect, max(highest, cell))
        return cls(columns, cell, high * aspect, high)

    @property
    def width(self) -> float:
        """Width of a row."""
        return self.columns * (self.cell + GAP) - GAP

    @property
    def size(self) -> float:
        """Size of letters that suits the cells, in points."""
        return min(9.0, max(6.5, 4.5 * self.cell))


@dataclass(frozen=True)
class _Placer:
    """Places the strip of one picture on a page."""

    part: Strip
    shape: _Shape
    style: Style
    unit: str

    def place(self, page: Page, top: float) -> float:
        """Places everything below ``top``, and returns where it ends."""
        part, shape, style = self.part, self.shape, self.style
        legend, scales = legend_of(part.titles, part.words or [], part.notes or []), scales_of(part.maps, style)
        labels = [_label_of(part.heading), *map(legend.label, part.titles)]
        headings = [wrap(text, shape.size, shape.cell) for text in labels]
        for first in range(0, len(headings), shape.columns):
            row = range(first, min(first + shape.columns, len(headings)))
            top += height(max(len(headings[number]) for number in row), shape.size) + 0.05
            bottom = top + shape.high
            for place, number in enumerate(row):
                left = (page.width - shape.width) / 2 + place * (shape.cell + GAP)
                if number == 0:
                    self._place_panel(page, left, top, headings[0], None, scales)
                else:
                    self._place_panel(page, left, top, headings[number], number - 1, scales)
                    bottom = max(bottom, self._place_below(page, left, top + shape.high, number - 1, legend, scales))
            top = bottom + 0.08
        shared = style.color_scale == "shared" and any(one.high > one.low for one in scales)
        label = "attribution" + (f" ({self.unit})" if self.unit else "")
        unseen = not bool(torch.isfinite(part.maps).all())
        if shared or unseen:
            top += place_key(page, top, scales[0] if shared else None, style.cmap, label, unseen, 7.5)
        return page.note(legend.note, top)

    def _place_panel(
        self, page: Page, left: float, top: float, heading: list[str], number: int | None, scales: list[Scale]
    ) -> None:
        """Places the picture itself (number ``None``) or an overlay, under its heading."""
        part, shape = self.part, self.shape

        def draw(axis: Axes) -> None:
            if number is None:
                axis.imshow(np.asarray(part.image.convert("RGB")))
            else:
                draw_panel(axis, part.image, part.maps[number], scales[number], self.style.cmap, shape.cell)
            text = "\n".join(heading)
            axis.set_title(text, pad=3, linespacing=1.2).update(lettering(text, shape.size))

        page.axes(left + (shape.cell - shape.wide) / 2, top, shape.wide, shape.high, draw, panel=True)

    def _place_below(self, page: Page, left: float, top: float, number: int, legend: Legend, scales: list[Scale]) -> float:
        """Places what stands below an overlay, and returns where it ends."""
        part, cell, size = self.part, self.shape.cell, self.shape.size - 1 if self.shape.size > 7.5 else self.shape.size
        if part.notes is not None:
            lines = wrap(legend.label(part.notes[number]), size, cell)
            page.text(lines, left + cell / 2, top + 0.02, size, "center")
            top += height(len(lines), size) + 0.04
        if self.style.color_scale == "each" and scales[number].high > scales[number].low:
            top += 0.04
            top += place_bar(page, left + 0.1 * cell, top, 0.8 * cell, scales[number], self.style.cmap, 6.5)
        if part.words is not None:
            top += place_words(page, part.words[number], left, top + 0.02, cell, size, legend) + 0.02
        return top


def _label_of(heading: str) -> str:
    """What stands above a picture, which is no text of the legend: its name, if fonts can draw it."""
    legend = Legend([heading])
    return "image" if legend.numbers else legend.label(heading)
