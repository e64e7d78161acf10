"""Scatter plots: points with names, and the straight lines through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import show
from ...metrics import linear_regression
from ...quoting import line

_LETTER = (0.013, 0.034)
"""Width and height of a letter of a label, as shares of a panel."""
_MOST = 60
"""The most labels of a panel."""


@dataclass(frozen=True)
class Points:
    """Points of one kind.

    Attributes:
        name: what they are.
        x: their places.
        y: their heights.
        labels: a name for each of them; empty (default) for none.
        colors: a value for each of them that becomes a color; empty (default) for one color.
        fitted: whether the line of least squares is drawn through them (default true).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str] = ()
    colors: Sequence[float] = ()
    fitted: bool = True


@dataclass(frozen=True)
class Panel:
    """One scatter plot.

    Attributes:
        title: its title.
        x: what lies on the horizontal axis.
        y: what lies on the vertical axis.
        points: the points, each kind in a color of its own.
        key: what the colors of points with values mean (default: nothing).
    """

    title: str
    x: str
    y: str
    points: Sequence[Points] = field(default_factory=tuple)
    key: str = ""


@show.own_settings()
def scatter(panels: Sequence[Panel], columns: int = 3) -> show.Drawing:
    """Draws scatter plots in rows.

    Args:
        panels: the plots, at least one.
        columns: number of plots in a row, at least 1 (default 3).

    >>> panel = Panel("lines", "x", "y", [Points("odd", [1, 2, 3], [1, 2, 4], ["a", "b", "c"])])
    >>> len(scatter([panel]).axes)
    1
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = show.Drawing(figsize=(4.1 * columns, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, panel in zip(axes, panels):
        _draw(figure, axis, panel)
    for axis in list(axes)[len(panels) :]:
        axis.set_axis_off()
    return figure


def _draw(figure: Figure, axis: Axes, panel: Panel) -> None:
    for text in (
        axis.set_title(line(panel.title, 60), fontsize=9),
        axis.set_xlabel(line(panel.x, 60), fontsize=8),
        axis.set_ylabel(line(panel.y, 60), fontsize=8),
    ):
        text.update(show.PLAIN)
    axis.tick_params(labelsize=7)
    drawn = [one for one in panel.points if len(one.x)]
    for number, one in enumerate(drawn):
        if len(one.colors):
            shown = axis.scatter(one.x, one.y, s=14, c=one.colors, cmap="viridis", alpha=0.85, linewidths=0)
            bar = figure.colorbar(shown, ax=axis, shrink=0.8)
            bar.set_label(line(panel.key, 60), fontsize=7)
            bar.ax.tick_params(labelsize=7)
        else:
            axis.scatter(one.x, one.y, s=12, color=f"C{number}", alpha=0.5, linewidths=0, label=line(one.name, 40))
        fit = linear_regression(one.x, one.y)
        if one.fitted and fit.defined:
            ends = np.array([min(one.x), max(one.x)])
            axis.plot(ends, fit.intercept + fit.slope * ends, color="black" if len(one.colors) else f"C{number}", lw=1.3)
    if not drawn:
        axis.text(0.5, 0.5, "no points", transform=axis.transAxes, ha="center", fontsize=8, color="0.4")
    elif len(drawn) > 1:
        legend = axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=3, frameon=False)
        for text in legend.get_texts():
            text.update(show.PLAIN)
    _label(axis, drawn)


def _label(axis: Axes, points: Sequence[Points]) -> None:
    """Writes the names of points beside them, as long as there is room; those that are drawn first come first."""
    named = [(x, y, name) for one in points for x, y, name in zip(one.x, one.y, one.labels)]
    if not named:
        return
    axis.margins(x=0.1, y=0.1)
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    taken: list[tuple[float, float, float]] = []
    for x, y, name in named:
        if len(taken) == _MOST:
            return
        across, up = (x - left) / (right - left), (y - bottom) / (top - bottom)
        text = line(name, 20)
        wide = _LETTER[0] * (len(text) + 1)
        ends = across + wide > 1  # there is no room on the right
        across -= wide * ends
        if all(across + wide < a or a + w < across or abs(up - b) > _LETTER[1] for a, b, w in taken):
            taken.append((across, up, wide))
            beside, side = ((-2.5, 1.5), "right") if ends else ((2.5, 1.5), "left")
            said = axis.annotate(text, (x, y), xytext=beside, textcoords="offset points", fontsize=6, ha=side)
            said.update(show.PLAIN)
