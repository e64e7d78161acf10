"""Looking at explanations: overlays, strips, coloured words; nothing here fails on a zero, constant or signed map."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from torch import Tensor

from .maps import normalize

Words = Sequence[tuple[str, float]]


def overlay(
    image: Image.Image, attribution: Tensor, *, alpha: float = 0.55, cmap: str = "jet", scale: float | None = None
) -> Image.Image:
    """A picture under its map, at the picture's own size.

    Args:
        image: RGB.
        attribution: ``(height, width)`` of the picture, see :func:`captum_gradeclip.maps.to_pixels`; where it is NaN, the
            model saw nothing and the picture stays as it is.
        alpha: weight of the colours against the picture.
        cmap: a matplotlib colour map.
        scale: the value that gets the last colour, to make several maps comparable; the map's own maximum if ``None``.

    Raises:
        ValueError: if the sizes differ.

    >>> overlay(Image.new("RGB", (3, 2)), torch.zeros(2, 3)).size
    (3, 2)
    """
    if tuple(attribution.shape) != (image.height, image.width):
        raise ValueError(
            f"attribution: expected the picture's height and width {image.height} x {image.width}, got"
            f" {tuple(attribution.shape)}; bring it there with maps.to_pixels"
        )
    seen = ~torch.isnan(attribution)
    values = torch.zeros_like(attribution, dtype=torch.float32)
    if seen.any():
        values[seen] = normalize(attribution[seen], dims=1) if scale is None else normalise_to(attribution[seen], scale)
    colours = matplotlib.colormaps[cmap](values.cpu().numpy())[..., :3] * 255
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    blended = np.where(seen.cpu().numpy()[..., None], (1 - alpha) * pixels + alpha * colours, pixels)
    return Image.fromarray(blended.clip(0, 255).astype(np.uint8))


def normalise_to(attribution: Tensor, scale: float) -> Tensor:
    """``attribution / scale`` within [0, 1]; zeros for a scale that is not positive.

    >>> normalise_to(torch.tensor([-1.0, 1.0, 9.0]), 2.0)
    tensor([0.0000, 0.5000, 1.0000])
    """
    values = torch.nan_to_num(attribution.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    return (values / scale).clamp(0, 1) if scale > 0 else torch.zeros_like(values)


def strip(
    image: Image.Image,
    attributions: Tensor,
    titles: Sequence[str],
    *,
    words: Sequence[Words] | None = None,
    width: float = 2.3,
    comparable: bool = False,
) -> Figure:
    """The picture and, beside it, one overlay per text, with the coloured words of the text below.

    Args:
        image: RGB.
        attributions: ``(T, height, width)`` of the picture.
        titles: T headings.
        words: per text ``[(word, weight), ...]``, drawn under its overlay.
        width: of one panel in inches.
        comparable: one colour scale for all maps instead of one each.

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
    word_height = 0.0 if words is None else 0.32 * max(len(_lines(w, 22)) for w in words) + 0.1
    figure = Figure(figsize=(width * panels, height + word_height + 0.4), layout="constrained")
    ratios = [height] if words is None else [height, word_height]
    axes = figure.subplots(rows, panels, squeeze=False, height_ratios=ratios)
    maps = _on_one_scale(attributions) if comparable else attributions
    axes[0, 0].imshow(np.asarray(image))
    for axis, one in zip(axes[0, 1:], maps):
        _draw_map(axis, image, one, 1.0 if comparable else None)
    for axis, title in zip(axes[0], ["image", *titles]):
        axis.set_title(_wrap(title, 26), fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    if words is not None:
        for axis, caption in zip(axes[1][1:], words):
            _draw_words(axis, caption)
    return figure


@dataclass(frozen=True)
class Row:
    """One row of :func:`matrix`: a heading, a map per column ``(T, height, width)`` of the picture, words below them.

    Without maps, the row says that there are none.
    """

    heading: str
    maps: Tensor | None
    words: Sequence[Words] | None = None


def matrix(
    image: Image.Image, rows: Sequence[Row], titles: Sequence[str], *, same_scale: bool = False, panel: float = 1.55
) -> Figure:
    """Rows of overlays, a method each, with a column per text; more than five rows stand in two blocks side by side.

    Args:
        image: RGB, shown first.
        rows: headings with their maps.
        titles: T headings of the columns.
        same_scale: one colour scale per row, from its lowest to its highest value, instead of one per map.
        panel: width of one overlay in inches.

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
            raise ValueError(f"rows: expected one map and caption for each of the {len(titles)} titles in {row.heading!r}")
    blocks = 2 if len(rows) > 5 else 1
    deep = -(-len(rows) // blocks)
    letters = round(14 * panel)
    # A panorama or a column would leave no room for its letters, or make a page as long as itself.
    shape = min(max(image.height / image.width, 0.4), 1.6)
    heights: list[float] = []
    for line in range(deep):
        told = [row.words for row in rows[line::deep] if row.words is not None]
        most = max((len(_lines(words, letters)) for one in told for words in one), default=0)
        empty = all(row.maps is None for row in rows[line::deep])
        heights += [0.4 if empty and line else panel * shape, 0.17 * most + 0.02]
    columns = len(titles) + 1
    heading = max(0.95, 0.085 * max((len(part) for row in rows for part in row.heading.split()), default=1))
    widths = ([heading] + [panel] * len(titles)) * blocks
    lines = max((_wrap(title, round(15 * panel)).count("\n") + 1 for title in titles), default=1)
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.015, wspace=0, hspace=0)
    figure = Figure(figsize=(sum(widths) + 0.2, sum(heights) + 0.14 * lines + 0.75 + 0.05 * deep), layout=tight)
    axes = figure.subplots(2 * deep, columns * blocks, squeeze=False, height_ratios=heights, width_ratios=widths)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, row in enumerate(rows):
        top, left = 2 * (number % deep), columns * (number // deep)
        # At the right edge of its column, so that a heading of the second block does not touch the first.
        axes[top, left].text(0.93, 0.5, _plain(row.heading), fontsize=8, ha="right", va="center")
        maps: Sequence[Tensor | None] = [None] * len(titles)
        if row.maps is not None:
            maps = list(_on_one_scale(row.maps) if same_scale else row.maps)
        for column, one in enumerate(maps, start=left + 1):
            if one is None:
                axes[top, column].text(0.5, 0.5, "not defined\nfor this model", fontsize=7, ha="center", va="center")
            else:
                _draw_map(axes[top, column], image, one, 1.0 if same_scale else None)
            if top == 0:
                axes[top, column].set_title(_wrap(titles[column - left - 1], round(15 * panel)), fontsize=8)
            if row.words is not None:
                _draw_words(axes[top + 1, column], row.words[column - left - 1], columns=letters, size=6)
    inset = axes[0, 0].inset_axes((0.08, 0.66, 0.85, 0.34))
    inset.imshow(np.asarray(image))
    inset.set_axis_off()
    axes[0, 0].set_title("image", fontsize=8)
    colours = matplotlib.cm.ScalarMappable(cmap="jet")
    bar = figure.colorbar(colours, ax=list(axes.flat), location="bottom", shrink=0.4, aspect=40, ticks=[0, 1], pad=0.02)
    bar.ax.set_xticklabels(["lowest", "highest of the row"] if same_scale else ["lowest", "highest of the map"], fontsize=7)
    return figure


def words_figure(captions: Sequence[Words], titles: Sequence[str] | None = None) -> Figure:
    """Captions as coloured words, one row each, the strongest word of a row in the last colour.

    >>> len(words_figure([[("a", 0.0), ("dog", 1.0)]]).axes)
    1
    """
    heights = [0.42 * len(_lines(caption, 60)) + (0.3 if titles else 0.05) for caption in captions] or [0.4]
    figure = Figure(figsize=(7.5, sum(heights) + 0.1), layout="constrained")
    axes = figure.subplots(max(1, len(captions)), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, caption, title in zip(axes, captions, titles or [""] * len(captions)):
        axis.set_title(title, fontsize=9, loc="left")
        _draw_words(axis, caption, columns=60, size=12)
    for axis in axes:
        axis.set_axis_off()
    return figure


def words_html(captions: Sequence[Words], titles: Sequence[str] | None = None) -> str:
    """A page of coloured words that stands alone, its text escaped; no IPython, no scripts, nothing loaded.

    >>> '&lt;b&gt;' in words_html([[("<b>", 1.0)]])
    True
    """
    rows = []
    for caption, title in zip(captions, titles or [""] * len(captions)):
        spans = " ".join(
            f'<span style="background:rgba(220,50,40,{strength:.3f})" title="{weight:.4g}">{html.escape(word)}</span>'
            for (word, weight), strength in zip(caption, _strengths(caption))
        )
        heading = f"<h2>{html.escape(title)}</h2>" if title else ""
        rows.append(f"{heading}<p>{spans}</p>")
    style = (
        "body{font:16px/1.9 sans-serif;margin:2em auto;max-width:50em}"
        "h2{font-size:13px;font-weight:normal;color:#666;margin:1.2em 0 0}"
        "p{margin:0}span{padding:.15em .3em;border-radius:.3em}"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Word attributions</title><style>{style}</style>\n'
        + "\n".join(rows)
        + "\n</html>\n"
    )


def save(figure: Figure, path: str | Path, dpi: int = 130) -> None:
    """Writes a figure without a window."""
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.08)


def _strengths(caption: Words) -> list[float]:
    """Word weights for the eye: from 0 to the caption's maximum, which becomes 1; negative words stay uncoloured."""
    weights = torch.tensor([weight for _, weight in caption], dtype=torch.float32)
    if not len(weights):
        return []
    weights = torch.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
    return list(normalise_to(weights, float(weights.max())).tolist())


def _lines(caption: Words, columns: int) -> list[list[int]]:
    """Indices of words, broken into lines of at most ``columns`` letters."""
    lines: list[list[int]] = [[]]
    used = 0
    for number, (word, _) in enumerate(caption):
        if used and used + len(word) > columns:
            lines.append([])
            used = 0
        lines[-1].append(number)
        used += len(word) + 1
    return lines


def _on_one_scale(maps: Tensor) -> Tensor:
    """Maps stretched together, the lowest of all values to 0 and the highest to 1; what was not seen stays NaN."""
    values, seen = maps.detach().float().clone(), ~torch.isnan(maps)
    if seen.any():
        values[seen] = normalize(values[seen], dims=1)
    return values


def _draw_map(axis: Any, image: Image.Image, attribution: Tensor, scale: float | None) -> None:
    """An overlay; a map of zeros says so, since its colour would pass for a low value."""
    if not torch.nan_to_num(attribution).any() and scale is None:
        axis.imshow(np.asarray(image), alpha=0.4)
        axis.text(0.5, 0.5, "nothing", fontsize=8, ha="center", va="center", transform=axis.transAxes)
        return
    axis.imshow(np.asarray(overlay(image, attribution, scale=scale)))


def _draw_words(axis: Any, caption: Words, columns: int = 22, size: int = 9) -> None:
    """Words on their colours, broken into lines; positions are counted in letters of a fixed-width font."""
    strengths = _strengths(caption)
    lines = _lines(caption, columns)
    axis.set_xlim(0, columns + 2)
    axis.set_ylim(len(lines), 0)
    for row, line in enumerate(lines):
        column = 0.5
        for number in line:
            word = caption[number][0]
            box = {"facecolor": (0.86, 0.2, 0.16, strengths[number]), "edgecolor": "none", "boxstyle": "square,pad=0.15"}
            axis.text(column, row + 0.5, _plain(word), fontsize=size, family="monospace", va="center", bbox=box)
            column += len(word) + 1


def _wrap(text: str, columns: int) -> str:
    lines = _lines([(word, 0.0) for word in text.split()], columns)
    words = text.split()
    return _plain("\n".join(" ".join(words[number] for number in line) for line in lines))


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")
