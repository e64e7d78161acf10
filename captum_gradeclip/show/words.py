"""Colored words: texts whose words are the stronger colored the more they weigh."""

from __future__ import annotations

import html
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..maps import Words, normalize_to


def words_figure(captions: Sequence[Words], titles: Sequence[str] | None = None) -> Figure:
    """Draws texts as colored words, one row per text; the strongest word of a row has the full color.

    Args:
        captions: for each text, ``[(word, weight), ...]``; negative weights stay uncolored.
        titles: one heading per text, or ``None`` (the default) for none.

    Returns:
        A figure with one axes per text.

    >>> len(words_figure([[("a", 0.0), ("dog", 1.0)]]).axes)
    1
    """
    heights = [0.42 * len(break_lines(caption, 60)) + (0.3 if titles else 0.05) for caption in captions] or [0.4]
    figure = Figure(figsize=(7.5, sum(heights) + 0.1), layout="constrained")
    axes = figure.subplots(max(1, len(captions)), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, caption, title in zip(axes, captions, titles or [""] * len(captions)):
        axis.set_title(title, fontsize=9, loc="left")
        draw_words(axis, caption, columns=60, size=12)
    for axis in axes:
        axis.set_axis_off()
    return figure


def words_html(captions: Sequence[Words], titles: Sequence[str] | None = None) -> str:
    """Writes texts as colored words into an HTML page that stands alone: no scripts, and nothing is loaded.

    Args:
        captions: for each text, ``[(word, weight), ...]``; negative weights stay uncolored.
        titles: one heading per text, or ``None`` (the default) for none.

    Returns:
        The page. Words and titles are escaped in it.

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


def draw_words(axis: Axes, caption: Words, columns: int = 22, size: int = 9) -> None:
    """Draws the words of one text on their colors, broken into lines.

    Args:
        axis: where to draw. Its limits are set so that one letter of a fixed-width font is one unit wide.
        caption: ``[(word, weight), ...]``.
        columns: letters per line, at least 1 (default 22).
        size: font size in points (default 9).
    """
    strengths = _strengths(caption)
    lines = break_lines(caption, columns)
    axis.set_xlim(0, columns + 2)
    axis.set_ylim(len(lines), 0)
    for row, line in enumerate(lines):
        column = 0.5
        for number in line:
            word = caption[number][0]
            box = {"facecolor": (0.86, 0.2, 0.16, strengths[number]), "edgecolor": "none", "boxstyle": "square,pad=0.15"}
            axis.text(column, row + 0.5, no_math(word), fontsize=size, family="monospace", va="center", bbox=box)
            column += len(word) + 1


def break_lines(caption: Words, columns: int) -> list[list[int]]:
    """Breaks a text into lines.

    Args:
        caption: ``[(word, weight), ...]``.
        columns: letters per line, at least 1; a word that is longer has a line of its own.

    Returns:
        For each line, the indices of its words. There is at least one line.

    >>> break_lines([("a", 0.0), ("red", 0.0), ("octagon", 0.0)], 6)
    [[0, 1], [2]]
    """
    lines: list[list[int]] = [[]]
    used = 0
    for number, (word, _) in enumerate(caption):
        if used and used + len(word) > columns:
            lines.append([])
            used = 0
        lines[-1].append(number)
        used += len(word) + 1
    return lines


def wrap(text: str, columns: int) -> str:
    """Breaks a heading into lines and escapes it for matplotlib.

    Args:
        text: the heading.
        columns: letters per line, at least 1.
    """
    words = text.split()
    lines = break_lines([(word, 0.0) for word in words], columns)
    return no_math("\n".join(" ".join(words[number] for number in line) for line in lines))


def no_math(text: str) -> str:
    """Escapes dollar signs, between which matplotlib would otherwise read a formula."""
    return text.replace("$", r"\$")


def _strengths(caption: Words) -> list[float]:
    """The strength of each word's color: its weight divided by the text's highest weight, 0 for negative weights."""
    weights = torch.tensor([weight for _, weight in caption], dtype=torch.float32)
    if not len(weights):
        return []
    weights = torch.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
    return list(normalize_to(weights, float(weights.max())).tolist())
