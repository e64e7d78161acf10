"""Heat maps of figures: a cell for each row and column, colored by its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ... import show
from ...quoting import line

_NUMBERS = 8
"""The most columns whose cells have room for their numbers."""
_TICKS = 16
"""About how many rows or columns are named."""


@dataclass(frozen=True)
class Heatmap:
    """Figures in rows and columns.

    Attributes:
        title: its title.
        values: the figures ``(rows, columns)``; NaN for none.
        rows: names of the rows, the first of which is drawn at the bottom.
        columns: names of the columns.
        key: what the figures are.
        signed: whether the colors have their middle at zero (default: they begin at the lowest figure).
    """

    title: str
    values: npt.NDArray[np.float64]
    rows: Sequence[str]
    columns: Sequence[str]
    key: str
    signed: bool = False


@show.own_settings()
def heatmaps(some: Sequence[Heatmap], columns: int = 2) -> show.Drawing:
    """Draws heat maps side by side, in rows.

    Args:
        some: the heat maps, at least one.
        columns: number of them in a row, at least 1 (default 2).

    >>> values = np.array([[0.1, 0.2], [0.3, -0.4]])
    >>> figure = heatmaps([Heatmap("heads", values, ["layer 1", "layer 2"], ["1", "2"], "cosine", signed=True)])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['0.10', '0.20', '0.30', '-0.40']
    """
    columns = min(columns, len(some))
    rows = -(-len(some) // columns)
    figure = show.Drawing(figsize=(4.6 * columns, 3.8 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, one in zip(axes, some):
        _draw(figure, axis, one)
    for axis in axes[len(some) :]:
        axis.set_axis_off()
    return figure


def _draw(figure: Figure, axis: Axes, one: Heatmap) -> None:
    highest = float(np.nanmax(np.abs(one.values))) if one.signed and np.isfinite(one.values).any() else None
    low, colors = (None, "viridis") if highest is None else (-highest, "RdBu_r")
    shown = axis.imshow(one.values, origin="lower", aspect="auto", cmap=colors, vmin=low, vmax=highest)
    for ticks, labels, names in (
        (axis.set_xticks, axis.set_xticklabels, one.columns),
        (axis.set_yticks, axis.set_yticklabels, one.rows),
    ):
        places = range(0, len(names), max(1, round(len(names) / _TICKS)))
        ticks(places)
        for text in labels([line(names[place], 20) for place in places], fontsize=7):
            text.update(show.PLAIN)
    axis.set_title(line(one.title, 60), fontsize=9).update(show.PLAIN)
    bar = figure.colorbar(shown, ax=axis, shrink=0.9)
    bar.ax.tick_params(labelsize=7)
    bar.ax.set_ylabel(line(one.key, 60), fontsize=7).update(show.PLAIN)
    if len(one.columns) > _NUMBERS:
        return
    digits = 2 if np.nanmax(np.abs(one.values), initial=0.0) >= 0.1 else 4
    shades = shown.to_rgba(one.values)[..., :3] @ np.array([0.3, 0.6, 0.1])
    for (row, column), value in np.ndenumerate(one.values):
        if np.isfinite(value):
            color = "white" if shades[row, column] < 0.5 else "black"
            axis.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color=color)
