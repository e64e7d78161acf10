"""Colored words: texts whose words are the stronger colored the more they weigh, and the weights as bars beside them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ..maps import Words
from .bar import told
from .fonts import break_lines, clipped, height, leftward, lettering, shown, width, wrap
from .legend import Legend
from .page import GRAY, Drawing, Page, own_settings
from .scale import NEGATIVE, POSITIVE
from .style import Style

_MOST_LINES, _MOST_BARS = 30, 60
"""The most lines and bars of a text in a figure, so that none makes a page that cannot be drawn."""
_STRONGEST = 0.65
"""The opacity of the color of the strongest word, on which black letters are still easily read."""
_BETWEEN = 0.06  # inches


def words_figure(
    captions: Sequence[Words],
    titles: Sequence[str] | None = None,
    *,
    notes: Sequence[str] | None = None,
    signed: bool | None = None,
    unit: str = "",
    style: Style | None = None,
) -> Drawing:
    """Draws texts as colored words, and beside each text a bar for each word; the strongest word has the full color.

    What counts for a text is red, what counts against it blue. The bars of all texts have one scale.

    Args:
        captions: for each text, ``[(word, weight), ...]``.
        titles: one heading per text, or ``None`` (the default) for none.
        notes: a line below each heading, the score for example, or ``None`` (the default) for none.
        signed: whether negative weights are colored and have bars; ``None`` (the default) stands for yes. With False, only
            their numbers tell of them.
        unit: what the weights are, which stands above the bars (default: nothing is said).
        style: the width and the dots per inch are those of the figure (default: 190 millimeters).

    Returns:
        A figure with two axes per text, its words and its bars.

    >>> len(words_figure([[("a", 0.0), ("dog", 1.0)]]).axes)
    2
    """
    look = style or Style()
    with own_settings():
        page = Page(look.room or 7.5)
        legend = legend_of(titles or [], captions, notes or [])
        beside = page.width > 4.5
        wide = 0.52 * page.width if beside else page.width
        size, small = (12.0, 9.0) if beside else (9.0, 7.0)
        left = wide + 0.2 if beside else 0.0
        bars = _Bars(captions, legend, signed, small, page.width - left)
        top = 0.0
        if unit and beside:
            page.text(unit, left + bars.names, top, small - 1, color=GRAY)
        for number, caption in enumerate(captions):
            # A heading stands where its words begin.
            from_right = leftward(" ".join(legend.label(word) for word, _ in caption))
            edge, align = (wide, "right") if from_right else (0.0, "left")
            if titles is not None:
                lines = wrap(legend.label(titles[number]), small, wide if from_right else page.width)
                page.text(lines, edge, top, small, align)
                top += height(len(lines), small)
            if notes is not None:
                page.text(legend.label(notes[number]), edge, top, small - 1, align, GRAY)
                top += height(1, small - 1)
            tall = place_words(page, caption, 0.0, top, wide, size, legend, signed)
            below = top if beside else top + tall + 0.04
            top = max(top + tall, below + bars.place(page, number, left, below)) + 0.1
        return page.drawing(max(page.note(legend.note, top), 0.3), look.dpi)


def words_html(captions: Sequence[Words], titles: Sequence[str] | None = None, *, notes: Sequence[str] | None = None) -> str:
    """Writes texts as colored words into an HTML page that stands alone: no scripts, and nothing is loaded.

    Args:
        captions: for each text, ``[(word, weight), ...]``; what counts for a text is red, what counts against it blue.
        titles: one heading per text, or ``None`` (the default) for none.
        notes: as for :func:`words_figure`.

    Returns:
        The page. Words and titles are escaped in it. Below the texts stand those that figures show by a number only, since
        no installed font draws them.

    >>> '&lt;b&gt;' in words_html([[("<b>", 1.0)]])
    True
    """
    rows = []
    for number, caption in enumerate(captions):
        title = titles[number] if titles else ""
        heading = f'<h2 dir="auto">{html.escape(shown(title))}</h2>' if title else ""
        note = f"<div>{html.escape(shown(notes[number]))}</div>" if notes else ""
        rows.append(f'{heading}{note}<p dir="auto">{colored(caption)}</p>')
    numbers = legend_of(titles or [], captions).numbers.items()
    if numbers:
        entries = "".join(f'<li value="{number}" dir="auto">{html.escape(shown(text))}</li>' for text, number in numbers)
        rows.append(f"<h2>what the numbers in the figures stand for</h2><ol>{entries}</ol>")
    style = (
        "body{font:16px/1.9 sans-serif;margin:2em auto;max-width:50em;color:#000;background:#fff}"
        "h2{font-size:13px;font-weight:normal;color:#595959;margin:1.2em 0 0}"
        "div{font-size:13px;line-height:1.4;color:#595959}"
        "p{margin:0}span{padding:.15em .3em;border-radius:.3em}"
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Word attributions</title><style>{style}</style>\n'
        + "\n".join(rows)
        + "\n</html>\n"
    )


def colored(caption: Words) -> str:
    """The words of a text as HTML, each on its color, with its weight as a title.

    Args:
        caption: ``[(word, weight), ...]``.

    Returns:
        A line of HTML, in which the words are escaped.

    >>> print(colored([("dog", 1.0)]))
    <span style="background:rgb(205,105,117);color:#000" title="1">dog</span>
    """
    return " ".join(
        f'<span style="background:rgb({",".join(map(str, color))});color:#000" title="{weight:.4g}">'
        f"{html.escape(shown(word))}</span>"
        for (word, weight), color in zip(caption, word_colors(caption))
    )


def legend_of(titles: Sequence[str], captions: Iterable[Words], others: Iterable[str] = ()) -> Legend:
    """The legend of texts and their words, in the order in which all figures and pages number them.

    Args:
        titles: the texts.
        captions: ``[(word, weight), ...]`` of each of them, also several times.
        others: what else a figure says (default nothing).

    Returns:
        The legend, which has a number for each text that no installed font can draw.

    >>> legend = legend_of(["a dog"], [[("a", 0.1), ("dog", 0.9)]])
    >>> legend.numbers, legend.label("dog")  # letters that every font has
    ({}, 'dog')
    """
    return Legend(chain(titles, (word for caption in captions for word, _ in caption), others))


def place_words(
    page: Page,
    caption: Words,
    left: float,
    top: float,
    wide: float,
    size: float,
    legend: Legend,
    signed: bool | None = None,
) -> float:
    """Places the words of one text on their colors, broken into lines, from the right where the text is read so.

    Args:
        page: where they are placed.
        caption: ``[(word, weight), ...]``.
        left: left edge in inches.
        top: upper edge.
        wide: width of a line.
        size: size of the letters in points.
        legend: the numbers of words that cannot be drawn.
        signed: as for :func:`words_figure`.

    Returns:
        The height that they take.
    """
    words = [clipped(legend.label(word), size, wide - 2 * _BETWEEN) for word, _ in caption]
    lines = break_lines(words, size, wide - _BETWEEN, between=2 * _BETWEEN)[:_MOST_LINES]
    colors, step = word_colors(caption, signed), 1.9 * size / 72
    backward = leftward("".join(word for word, _ in caption))

    def draw(axis: Axes) -> None:
        axis.set(xlim=(0, wide), ylim=(step * len(lines), 0))
        for row, line in enumerate(lines):
            edge = _BETWEEN
            for number in line:
                long = width(words[number], size)
                start = wide - edge - long if backward else edge
                corner = start - 0.6 * _BETWEEN, (row + 0.12) * step
                color = [share / 255 for share in colors[number]]
                axis.add_patch(Rectangle(corner, long + 1.2 * _BETWEEN, 0.76 * step, facecolor=color, edgecolor="none"))
                axis.text(start, (row + 0.65) * step, words[number]).update(lettering(words[number], size))
                edge += long + 2 * _BETWEEN

    page.axes(left, top, wide, step * len(lines), draw)
    return step * len(lines)


def word_colors(caption: Words, signed: bool | None = None) -> list[tuple[int, int, int]]:
    """The color of each word from 0 to 255: the stronger, the larger its weight beside the largest one of the text.

    Args:
        caption: ``[(word, weight), ...]``; weights that are not finite count as zero.
        signed: as for :func:`words_figure`.

    >>> word_colors([("a", 0.0), ("red", 2.0), ("dog", -1.0)])
    [(255, 255, 255), (205, 105, 117), (183, 205, 228)]
    """
    weights = _weights(caption, signed)
    most = max(map(abs, weights), default=0.0)
    strengths = [_STRONGEST * abs(weight) / most if most > 0 else 0.0 for weight in weights]
    return [
        tuple(round(255 + strength * (end - 255)) for end in (POSITIVE if weight > 0 else NEGATIVE))  # type: ignore[misc]
        for weight, strength in zip(weights, strengths)
    ]


def _weights(caption: Words, signed: bool | None) -> list[float]:
    """The weights that have a color and a bar; 0 for the others."""
    weights = torch.tensor([weight for _, weight in caption], dtype=torch.float64)
    weights = torch.nan_to_num(weights, nan=0.0, posinf=0.0, neginf=0.0)
    return list((weights.clamp(min=0) if signed is False else weights).tolist())


class _Bars:
    """Bars on one scale: names of words on the left, weights at the ends of the bars.

    Args:
        captions: the words of all texts.
        legend: the numbers of words that cannot be drawn.
        signed: as for :func:`words_figure`.
        size: size of the letters in points.
        wide: width of everything in inches.
    """

    def __init__(self, captions: Sequence[Words], legend: Legend, signed: bool | None, size: float, wide: float) -> None:
        some = [caption[:_MOST_BARS] for caption in captions]
        self.size, self.wide = size, wide
        self.weights = [_weights(caption, signed) for caption in some]
        self.words = [[clipped(legend.label(word), size, 0.3 * wide) for word, _ in caption] for caption in some]
        self.names = max((width(word, size) for words in self.words for word in words), default=0.0) + 0.08
        every = [weight for weights in self.weights for weight in weights]
        most, negative = max(map(abs, every), default=0.0), min(every, default=0.0) < 0
        # The numbers tell of negative weights also where these have no bars.
        self.numbers = [[told(weight, most, negative, even=True) for _, weight in caption] for caption in some]
        room = max((width(number, size - 1) for numbers in self.numbers for number in numbers), default=0.0) + 0.08
        left = room if negative else 0.0
        self.unit = (wide - self.names - room - left) / (2 if negative else 1) / most if most > 0 else 0.0
        self.zero = left + (self.unit * most if negative else 0.0)

    def place(self, page: Page, number: int, left: float, top: float) -> float:
        """Places the bars of a text, and returns the height that they take."""
        words, step = self.words[number], 1.55 * self.size / 72

        def draw(axis: Axes) -> None:
            axis.set(xlim=(-self.names, self.wide - self.names), ylim=(step * len(words), 0))
            axis.plot([self.zero, self.zero], [0, step * len(words)], color=GRAY, lw=0.6)
            for row, (word, weight, said) in enumerate(zip(words, self.weights[number], self.numbers[number])):
                color = [part / 255 for part in (NEGATIVE if weight < 0 else POSITIVE)]
                end, base = self.zero + self.unit * weight, (row + 0.72) * step
                axis.add_patch(Rectangle((self.zero, (row + 0.15) * step), end - self.zero, 0.7 * step, facecolor=color))
                axis.text(-0.08, base, word, ha="right").update(lettering(word, self.size))
                beside = axis.text(end + (-0.04 if weight < 0 else 0.04), base, said, ha="right" if weight < 0 else "left")
                beside.update(lettering(said, self.size - 1))

        if words:
            page.axes(left, top, self.wide, step * len(words), draw)
        return step * len(words)
