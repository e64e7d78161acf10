"""Figures of explanations: a strip with one overlay per text, or a matrix with one row per method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from torch import Tensor

from ..maps import Words, normalize
from .overlay import overlay
from .words import break_lines, draw_words, no_math, wrap

_Grid = npt.NDArray[np.object_]  # the axes of a figure by row and column


def strip(
    image: Image.Image,
    attributions: Tensor,
    titles: Sequence[str],
    *,
    words: Sequence[Words] | None = None,
    width: float = 2.3,
) -> Figure:
    """Draws a picture and, beside it, one overlay per text, with the colored words of the text below.

    Each map has a color scale of its own, from its lowest to its highest value.

    Args:
        image: the picture, of any mode.
        attributions: ``(T, height, width)`` of the picture.
        titles: T strings, the headings of the overlays.
        words: for each text ``[(word, weight), ...]``, drawn under its overlay, or ``None`` (the default) for none.
        width: width of one panel in inches (default 2.3).

    Returns:
        A figure of T + 1 panels.

    Raises:
        ValueError: if the numbers of maps, titles and captions differ.

    >>> strip(Image.new("RGB", (4, 4)), torch.rand(2, 4, 4), ["a", "b"]).axes[1].get_title()
    'a'
    """
    if attributions.dim() != 3 or len(attributions) != len(titles) or (words is not None and len(words) != len(titles)):
        raise ValueError(
            f"attributions: expected one map (height, width) and one caption for each of the {len(titles)} titles, got"
            f" shape {tuple(attributions.shape)}" + ("" if words is None else f" and {len(words)} captions")
        )
    panels = len(titles) + 1
    height = width * image.height / image.width
    rows = 1 if words is None else 2
    word_height = 0.0 if words is None else 0.32 * max(len(break_lines(w, 22)) for w in words) + 0.1
    figure = Figure(figsize=(width * panels, height + word_height + 0.4), layout="constrained")
    ratios = [height] if words is None else [height, word_height]
    axes = figure.subplots(rows, panels, squeeze=False, height_ratios=ratios)
    axes[0, 0].imshow(np.asarray(image))
    for axis, one in zip(axes[0, 1:], attributions):
        _draw_map(axis, image, one)
    for axis, title in zip(axes[0], ["image", *titles]):
        axis.set_title(wrap(title, 26), fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    if words is not None:
        for axis, caption in zip(axes[1][1:], words):
            draw_words(axis, caption)
    return figure


@dataclass(frozen=True)
class Row:
    """One row of :func:`matrix`.

    Attributes:
        heading: what stands on the left, such as the name of a method.
        maps: one map per column, ``(T, height, width)`` of the picture; with ``None``, each panel of the row reads "not
            defined for this model".
        words: for each column ``[(word, weight), ...]``, drawn under its overlay, or ``None`` (the default) for none.
    """

    heading: str
    maps: Tensor | None
    words: Sequence[Words] | None = None


def matrix(
    image: Image.Image, rows: Sequence[Row], titles: Sequence[str], *, same_scale: bool = False, panel: float = 1.55
) -> Figure:
    """Draws overlays in rows and columns, with a row per method and a column per text.

    More than five rows stand in two blocks side by side.

    Args:
        image: the picture, of any mode; it is also shown by itself, first of all.
        rows: the maps of each method with their heading.
        titles: T strings, the headings of the columns.
        same_scale: whether the maps of a row share one color scale, from the row's lowest to its highest value, instead of
            having one each (default ``False``).
        panel: width of one overlay in inches (default 1.55).

    Returns:
        A figure of all panels, with one color bar.

    Raises:
        ValueError: if a row has another number of maps than there are titles.

    >>> figure = matrix(Image.new("RGB", (4, 4)), [Row("a method", torch.rand(2, 4, 4))], ["a", "b"])
    >>> [axis.get_title() for axis in figure.axes[:3]]
    ['image', 'a', 'b']
    """
    for row in rows:
        if (row.maps is not None and len(row.maps) != len(titles)) or (
            row.words is not None and len(row.words) != len(titles)
        ):
            raise ValueError(
                f"rows: expected one map and caption for each of the {len(titles)} titles, got another number of them in the"
                f" row {row.heading!r}"
            )
    figure, axes, deep = _panels(image, rows, titles, panel)
    columns, letters = len(titles) + 1, round(14 * panel)
    for number, row in enumerate(rows):
        top, left = 2 * (number % deep), columns * (number // deep)
        # The heading stands at the right edge of its column, so that one of the second block does not touch the first.
        axes[top, left].text(0.93, 0.5, no_math(row.heading), fontsize=8, ha="right", va="center")
        maps: Sequence[Tensor | None] = [None] * len(titles)
        if row.maps is not None:
            maps = list(_on_one_scale(row.maps) if same_scale else row.maps)
        for column, one in enumerate(maps, start=left + 1):
            if one is None:
                axes[top, column].text(0.5, 0.5, "not defined\nfor this model", fontsize=7, ha="center", va="center")
            else:
                _draw_map(axes[top, column], image, one, 1.0 if same_scale else None)
            if top == 0:
                axes[top, column].set_title(wrap(titles[column - left - 1], round(15 * panel)), fontsize=8)
            if row.words is not None:
                draw_words(axes[top + 1, column], row.words[column - left - 1], columns=letters, size=6)
    inset = axes[0, 0].inset_axes((0.08, 0.66, 0.85, 0.34))
    inset.imshow(np.asarray(image))
    inset.set_axis_off()
    axes[0, 0].set_title("image", fontsize=8)
    colors = matplotlib.cm.ScalarMappable(cmap="jet")
    bar = figure.colorbar(colors, ax=axes.ravel().tolist(), location="bottom", shrink=0.4, aspect=40, ticks=[0, 1], pad=0.02)
    bar.ax.set_xticklabels(["lowest", "highest of the row"] if same_scale else ["lowest", "highest of the map"], fontsize=7)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 130) -> None:
    """Writes a figure to a file; no window is opened.

    Args:
        figure: any figure of matplotlib.
        path: the file, whose ending chooses the format, for example ``.png`` or ``.pdf``.
        dpi: dots per inch (default 130).
    """
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.08)


def _panels(image: Image.Image, rows: Sequence[Row], titles: Sequence[str], panel: float) -> tuple[Figure, _Grid, int]:
    """The empty figure of :func:`matrix`, its axes, and how many rows one block holds.

    A row of the matrix is two rows of axes, the overlays above their words.
    """
    blocks = 2 if len(rows) > 5 else 1
    deep = -(-len(rows) // blocks)
    letters = round(14 * panel)
    # A very wide picture would leave no room for the letters of its panel, a very tall one would make an endless page.
    shape = min(max(image.height / image.width, 0.4), 1.6)
    heights: list[float] = []
    for line in range(deep):
        texts = [row.words for row in rows[line::deep] if row.words is not None]
        most = max((len(break_lines(words, letters)) for one in texts for words in one), default=0)
        empty = all(row.maps is None for row in rows[line::deep])
        heights += [0.4 if empty and line else panel * shape, 0.17 * most + 0.02]
    heading = max(0.95, 0.085 * max((len(part) for row in rows for part in row.heading.split()), default=1))
    widths = ([heading] + [panel] * len(titles)) * blocks
    lines = max((wrap(title, round(15 * panel)).count("\n") + 1 for title in titles), default=1)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.015, wspace=0, hspace=0)
    figure = Figure(figsize=(sum(widths) + 0.2, sum(heights) + 0.14 * lines + 0.75 + 0.05 * deep), layout=tight)
    axes = figure.subplots(2 * deep, (len(titles) + 1) * blocks, squeeze=False, height_ratios=heights, width_ratios=widths)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes, deep


def _on_one_scale(maps: Tensor) -> Tensor:
    """Stretches maps together, the lowest of all values to 0 and the highest to 1; NaN (not seen by the model) stays."""
    values, seen = maps.detach().float().clone(), ~torch.isnan(maps)
    if seen.any():
        values[seen] = normalize(values[seen], dims=1)
    return values


def _draw_map(axis: Axes, image: Image.Image, attribution: Tensor, scale: float | None = None) -> None:
    """Draws an overlay, or the word "nothing" for a map of zeros, whose color would look like a low value."""
    if not torch.nan_to_num(attribution).any() and scale is None:
        axis.imshow(np.asarray(image), alpha=0.4)
        axis.text(0.5, 0.5, "nothing", fontsize=8, ha="center", va="center", transform=axis.transAxes)
        return
    axis.imshow(np.asarray(overlay(image, attribution, scale=scale)))
