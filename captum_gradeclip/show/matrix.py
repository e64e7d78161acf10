"""The matrix: overlays in rows and columns, with a row per method and a column per text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from ..maps import Words
from ..quoting import line, quoted
from .bar import ends, place_key, place_upright_bar
from .fonts import height, width, wrap
from .page import GRAY, Drawing, Page, own_settings
from .scale import Scale
from .strip import GAP, bounded, draw_panel, scales_of
from .style import Style
from .words import legend_of, place_words

_WIDEST, _LEAST = 13.0, 0.75
_HEADING, _BAR = (0.85, 1.35), 0.24  # inches of the column of headings, least and most, and of the bar of a row
_SMALL, _TINY = 7.5, 6.5  # points
_BLOCK = 5
"""More rows than these stand in two blocks side by side, if there is room."""


@dataclass(frozen=True)
class Row:
    """One row of :func:`matrix`.

    Attributes:
        heading: what stands on the left, such as the name of a method.
        maps: one map per column, ``(T, height, width)`` of the picture; ``None`` if there are none.
        words: for each column ``[(word, weight), ...]``, drawn under its overlay, or ``None`` (the default) for none.
        unit: what the values of the maps are measured in (default: nothing is said).
        absent: what each panel of a row without maps reads (default ``"not defined for this model"``).

    >>> rows = [Row("a method", torch.rand(1, 4, 4), unit="cosine"), Row("another", None)]
    >>> figure = matrix(Image.new("RGB", (4, 4)), rows, ["a dog"])
    >>> [text.get_text() for text in figure.texts if text.get_text() in ("another", rows[1].absent)]
    ['another', 'not defined for this model']
    """

    heading: str
    maps: Tensor | None
    words: Sequence[Words] | None = None
    unit: str = ""
    absent: str = "not defined for this model"


def matrix(
    image: Image.Image,
    rows: Sequence[Row],
    titles: Sequence[str],
    *,
    notes: Sequence[str] | None = None,
    style: Style | None = None,
) -> Drawing:
    """Draws overlays in rows and columns, with a row per method and a column per text.

    Many rows stand in two blocks side by side, and columns for which there is no room in further blocks below. Methods
    measure in different units, so a scale is shared by the maps of a row at most.

    Args:
        image: the picture, of any mode; it is also shown by itself, first of all.
        rows: the maps of each method with their heading.
        titles: T strings, the headings of the columns.
        notes: for each column a line below its heading, the score for example, or ``None`` (the default) for none.
        style: colors, scale and size, see :class:`Style`.

    Returns:
        A figure whose first axes are the picture and the panels, row by row.

    Raises:
        ValueError: if a row has another number of maps than there are titles.

    >>> figure = matrix(Image.new("RGB", (4, 4)), [Row("a method", torch.rand(2, 4, 4))], ["a", "b"])
    >>> len([axis for axis in figure.axes if axis.get_label() == "panel"])
    2
    """
    for row in rows:
        counts = (len(one) for one in (row.maps, row.words) if one is not None)
        if any(count != len(titles) for count in counts):
            raise ValueError(
                f"rows: expected one map and caption for each of the {len(titles)} titles, got another number of them in the"
                f" row {quoted(row.heading)}"
            )
    look = style or Style()
    with own_settings():
        return _Placer(image, rows, titles, notes, look).drawing()


def heading_of(text: str) -> str:
    """The heading of a row, its lines as they are given, each of them legible and of bounded length."""
    return "\n".join(line(one, 40) for one in text.split("\n")[:6])


class _Placer:
    """Places the panels of a matrix on a page."""

    def __init__(
        self, image: Image.Image, rows: Sequence[Row], titles: Sequence[str], notes: Sequence[str] | None, style: Style
    ) -> None:
        self.image, self.rows, self.titles, self.notes, self.style = image, rows, titles, notes, style
        captions = (caption for row in rows for caption in row.words or ())
        lines = [one for row in rows for one in heading_of(row.heading).split("\n")]
        self.legend = legend_of(titles, captions, chain(notes or [], lines))
        self.scales = [None if row.maps is None else scales_of(row.maps, style) for row in rows]
        longest = max((width(word, _SMALL) for one in lines for word in self.legend.label(one).split()), default=0.0)
        self.headings = min(max(_HEADING[0], longest + 0.1), _HEADING[1])
        numbers = [text for some in self.scales for one in (some or [])[:1] for _, text in ends(one)]
        shared = style.color_scale == "shared"
        self.numbers = _BAR + max((width(text, 6) for text in numbers), default=0.0) if shared else 0.0
        self.aspect = bounded(image)
        # Panels have about the same area, whatever the picture's aspect.
        high = min(1.35 / math.sqrt(self.aspect), 2.4, (_WIDEST - 2) / self.aspect / max(1, min(3, len(titles))))
        self.cell = max(high * self.aspect, 1.2)
        self.blocks = 2 if len(rows) > _BLOCK and self._block(len(titles)) * 2 + GAP <= (style.room or _WIDEST) else 1
        self.columns = max(1, len(titles))
        self.page = Page(style.room or self.blocks * (self._block(self.columns) + GAP) - GAP)
        if style.room is not None:
            room = (style.room + GAP) / self.blocks - GAP - self.headings - self.numbers
            self.columns = min(self.columns, max(1, int((room + 0.06) / (max(_LEAST, 0.16 * self.aspect) + 0.06))))
            self.cell = (room + 0.06) / self.columns - 0.06
            high = min(self.cell / self.aspect, max(1.25, self.cell))
        self.high = high

    def _block(self, columns: int) -> float:
        return self.headings + columns * (self.cell + 0.06) - 0.06 + self.numbers

    def drawing(self) -> Drawing:
        """The figure."""
        page, top = self.page, 0.0
        for first in range(0, max(1, len(self.titles)), self.columns):
            top = self._place_columns(range(first, min(first + self.columns, len(self.titles))), top)
        used = {one.signed for some in self.scales for one in some or () if one.high > one.low}
        unseen = any(row.maps is not None and not torch.isfinite(row.maps).all() for row in self.rows)
        top += 0.04
        for signed in sorted(used) if self.style.color_scale == "each" else ():
            # The numbers stand at the panels.
            marks = [(0.0, "-largest"), (0.5, "0"), (1.0, "+largest")] if signed else [(0.0, "lowest"), (1.0, "highest")]
            scale = Scale(-1.0, 1.0, True) if signed else Scale(0.0, 1.0)
            top += place_key(page, top, scale, self.style.cmap, "value of each map", False, _SMALL, marks) + 0.04
        if unseen:
            top += place_key(page, top, None, self.style.cmap, "", True, _SMALL)
        return page.drawing(page.note(self.legend.note, top), self.style.dpi)

    def _place_columns(self, columns: range, top: float) -> float:
        """Places all rows of some columns, in blocks side by side, and returns where they end."""
        deep = -(-len(self.rows) // self.blocks)
        labels = [wrap(self.legend.label(self.titles[column]), _SMALL, self.cell) for column in columns]
        tall = height(max((len(one) for one in labels), default=0), _SMALL)
        tall += height(1, _TINY) if self.notes is not None else 0.0
        wide = min(self.headings - 0.1, self.aspect)  # of the picture itself, which is no higher than an inch
        header = max(tall, wide / self.aspect) + 0.04

        def draw(axis: Axes) -> None:
            axis.imshow(np.asarray(self.image.convert("RGB")))

        self.page.axes(0.0, top, wide, wide / self.aspect, draw, panel=True)
        bottoms = []
        for block in range(self.blocks):
            left = block * (self._block(len(columns)) + GAP)
            for place, label in enumerate(labels):
                middle, start = left + self.headings + place * (self.cell + 0.06) + self.cell / 2, top + header - 0.04 - tall
                self.page.text(label, middle, start, _SMALL, "center")
                if self.notes is not None:
                    note = self.legend.label(self.notes[columns[place]])
                    self.page.text(note, middle, start + height(len(label), _SMALL), _TINY, "center", GRAY)
            below = top + header
            for number in range(block * deep, min((block + 1) * deep, len(self.rows))):
                below = self._place_row(number, columns, left, below)
            bottoms.append(below)
        return max(bottoms, default=top + header) + 0.04

    def _place_row(self, number: int, columns: range, left: float, top: float) -> float:
        """Places the panels of a method for some columns, and returns where they end."""
        row, scales = self.rows[number], self.scales[number]
        heading = heading_of(row.heading).split("\n") + ([row.unit] if row.unit else [])
        lines = [
            (one, size, color)
            for text, (size, color) in zip(heading, chain([(_SMALL, "black")], repeat((_TINY, GRAY))))
            for one in wrap(self.legend.label(text), size, self.headings - 0.1)
        ]
        high = 0.4 if row.maps is None else self.high
        start = top + max(0.0, (high - sum(height(1, size) for _, size, _ in lines)) / 2)
        for one, size, color in lines:
            self.page.text(one, left + self.headings - 0.08, start, size, "right", color)
            start += height(1, size)
        bottom = max(top + high, start)
        for place, column in enumerate(columns):
            x = left + self.headings + place * (self.cell + 0.06)
            bottom = max(bottom, self._place_panel(number, column, x, top, high))
        if scales and self.style.color_scale == "shared" and scales[0].high > scales[0].low:
            x = left + self.headings + len(columns) * (self.cell + 0.06)
            long = max(min(high, 1.2), height(2, 6))
            place_upright_bar(self.page, x, top + max(0.0, high - long) / 2, long, scales[0], self.style.cmap, 6)
            bottom = max(bottom, top + long)
        return bottom + 0.06

    def _place_panel(self, number: int, column: int, left: float, top: float, high: float) -> float:
        """Places one panel and what stands below it, and returns where it ends."""
        row, scales = self.rows[number], self.scales[number]
        if row.maps is None or scales is None:
            lines = wrap(row.absent, 7, self.cell)
            self.page.text(lines, left + self.cell / 2, top + (high - height(len(lines), 7)) / 2, 7, "center", GRAY)
        else:
            one, scale, wide = row.maps[column], scales[column], min(self.cell, high * self.aspect)

            def draw(axis: Axes) -> None:
                axis.set_label("panel")
                draw_panel(axis, self.image, one, scale, self.style.cmap, self.cell)

            self.page.axes(left + (self.cell - wide) / 2, top, wide, high, draw, panel=True)
        bottom = top + high
        if scales is not None and self.style.color_scale == "each" and scales[column].high > scales[column].low:
            numbers = " ... ".join(dict.fromkeys(text for _, text in ends(scales[column])))
            self.page.text(numbers, left + self.cell / 2, bottom, 6, "center", GRAY)
            bottom += height(1, 6)
        if row.words is not None:
            bottom += 0.02 + place_words(self.page, row.words[column], left, bottom + 0.02, self.cell, 6, self.legend)
        return bottom
