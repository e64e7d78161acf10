"""What a figure shows, as its reader sees it: texts with the places that they take, and panels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

Scaling = Literal["shared", "each"]
STYLES: dict[str, tuple[float | None, Scaling]] = {
    "as large as it likes, shared": (None, "shared"),
    "as large as it likes, each": (None, "each"),
    "84 mm, shared": (84, "shared"),
    "84 mm, each": (84, "each"),
}
"""Widths in millimeters and scales of colors, by names for tests."""


def texts_of(figure: Figure) -> list[tuple[str, Bbox, Axes | None]]:
    """The texts of a figure with the pixels that they take and the axes that they stand in, after it was laid out."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    inside = [one for axis in figure.axes for one in (axis.title, *axis.texts)]
    found = [one for one in (*figure.texts, *inside) if one.get_text().strip()]
    return [(one.get_text(), one.get_window_extent(canvas.get_renderer()), one.axes) for one in found]


def panels_of(figure: Figure) -> list[Axes]:
    """The axes that show a picture, an overlay or a color bar."""
    return [axis for axis in figure.axes if axis.get_images()]


def collisions(figure: Figure) -> list[str]:
    """Texts that touch each other, a panel that is not their own, or the edge of the figure."""
    texts, box = texts_of(figure), figure.bbox
    found = [f"{a[0]!r} and {b[0]!r}" for a, b in itertools.combinations(texts, 2) if _area(a[1], b[1]) > 2]
    for text, place, axis in texts:
        if place.x0 < box.x0 - 1 or place.y0 < box.y0 - 1 or place.x1 > box.x1 + 1 or place.y1 > box.y1 + 1:
            found.append(f"{text!r} and the edge")
        others = [panel for panel in panels_of(figure) if panel is not axis or _below_or_above(place, panel)]
        found += [f"{text!r} and a panel" for panel in others if _area(place, panel.bbox) > 2]
    panels = [axis.bbox for axis in panels_of(figure)]
    found += ["two panels" for a, b in itertools.combinations(panels, 2) if _area(a, b) > 2]
    return found


def _area(one: Bbox, other: Bbox) -> float:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(0.0, wide) * max(0.0, high)


def _below_or_above(place: Bbox, panel: Axes) -> bool:
    """Whether a text of a panel stands outside of it: its heading, and not what is said in the middle of it."""
    middle = (place.y0 + place.y1) / 2
    return not panel.bbox.y0 < middle < panel.bbox.y1


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """How well letters of one color are read on another, from 1 to 21, by the guidelines for web content (WCAG 2.2).

    Colors are red, green and blue of sRGB from 0 to 255. A contrast of 4.5 is enough for text.
    """

    def luminance(color: Sequence[float]) -> float:
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
