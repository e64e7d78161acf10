"""The sheet: many pictures as thumbnails with their scores, on one page that is searched and sorted."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from .widget import data_uri, document, markup, template

__all__ = ["Card", "Cell", "sheet"]

THUMBNAIL = 192
"""The most pixels along the longer side of a thumbnail."""
_MOST_CHOICES = 200
"""The most texts that are offered as a choice."""


@dataclass(frozen=True)
class Cell:
    """What a card shows of one text.

    Attributes:
        title: the text.
        note: its score in words (default: nothing is said).
        score: its score, by which cards are sorted; ``None`` (default) if it is not known.
        thumbnail: its overlay; ``None`` (default) if there is none.

    >>> Cell("a dog", "score +0.312", 0.312).thumbnail is None
    True
    """

    title: str
    note: str = ""
    score: float | None = None
    thumbnail: Image.Image | None = None


@dataclass(frozen=True)
class Card:
    """One picture of a sheet.

    Attributes:
        name: its name.
        link: the relative address of what tells more, percent-encoded; empty (default) if there is nothing.
        about: a line below its name, its folder for example (default: nothing is said).
        cells: its texts.
        warnings: what speaks against trusting its maps (default nothing).
        error: why it was not explained; empty (default) if it was.

    >>> Card("dog.jpg", cells=[Cell("a dog")]).error
    ''
    """

    name: str
    link: str = ""
    about: str = ""
    cells: Sequence[Cell] = ()
    warnings: Sequence[str] = ()
    error: str = ""


def sheet(title: str, cards: Sequence[Card], notes: Sequence[str] = ()) -> str:
    """Writes a page with a card for each picture, which stands alone and fetches nothing.

    The cards are searched by words of names, texts and warnings, and sorted by name, by score, of the best text or of a
    chosen one, and by the number of warnings. Where scripts do not run, all cards stand there in their order.

    Args:
        title: what stands above it.
        cards: the pictures.
        notes: what is to be said about all of them, each note for itself (default nothing).

    Returns:
        The page, see :func:`captum_gradeclip.show.document`. All texts are escaped in it.

    >>> page = sheet("results", [Card("<b>.jpg", cells=[Cell("a dog", "score +0.312", 0.312)])])
    >>> "&lt;b&gt;.jpg" in page, "://" in page
    (True, False)
    """
    texts = list(dict.fromkeys(cell.title for card in cards for cell in card.cells))
    places = {text: number for number, text in enumerate(texts)}
    offered = texts[:_MOST_CHOICES]
    choices = "".join(f'<option value="{number}">{markup(text)}</option>' for number, text in enumerate(offered))
    which = (
        f'<label>text <select class="gs-text"><option value="">all texts</option>{choices}</select></label>'
        if len(texts) > 1
        else ""
    )
    orders = {
        "given": "as they were explained",
        "name": "by name",
        "highest": "highest score first",
        "lowest": "lowest score first",
        "warnings": "most warnings first",
    }
    options = "".join(f'<option value="{name}">{told}</option>' for name, told in orders.items())
    warned = sum(bool(card.warnings or card.error) for card in cards)
    body = (
        f'<main class="gs"><style>{template("sheet.css")}</style><h1 dir="auto">{markup(title)}</h1>'
        + "".join(f'<p class="gs-about">{markup(note)}</p>' for note in notes)
        + '<div class="gs-controls" hidden><label>search <input class="gs-search" type="search"'
        ' placeholder="words of names, texts, warnings"></label>'
        f'{which}<label>order <select class="gs-order">{options}</select></label>'
        '<label>size <input class="gs-size" type="range" min="72" max="320" value="116"></label>'
        f'<label><input class="gs-warned" type="checkbox"> warnings only ({warned})</label>'
        '<output class="gs-count" aria-live="polite"></output></div>'
        f'<div class="gs-cards">{"".join(_card(card, places) for card in cards)}</div>'
        f"<script>{template('sheet.js')}</script></main>"
    )
    return document(title, body)


def _card(card: Card, places: Mapping[str, int]) -> str:
    """One picture; ``places`` are the numbers of the texts, by which they are chosen."""
    words = " ".join([card.name, card.about, card.error, *(cell.title for cell in card.cells), *card.warnings])
    name = markup(card.name)
    named = f'<a href="{html.escape(card.link)}">{name}</a>' if card.link else name
    count = len(card.warnings)
    told = f"{count} warning{'s' if count != 1 else ''}"
    warnings = "".join(f"<li>{markup(one)}</li>" for one in card.warnings)
    return (
        f'<article class="gs-card" data-name="{name}" data-search="{markup(words.casefold())}"'
        f' data-warnings="{count + bool(card.error)}">'
        f'<h2 dir="auto">{named}</h2>'
        + (f'<p class="gs-about" dir="auto">{markup(card.about)}</p>' if card.about else "")
        + (f'<p class="gs-error">not explained: {markup(card.error)}</p>' if card.error else "")
        + (f'<div class="gs-cells">{"".join(_cell(cell, places) for cell in card.cells)}</div>' if card.cells else "")
        + (f'<details class="gs-warnings"><summary>{told}</summary><ul>{warnings}</ul></details>' if count else "")
        + "</article>"
    )


def _cell(cell: Cell, places: Mapping[str, int]) -> str:
    picture = ""
    if cell.thumbnail is not None:
        small = cell.thumbnail.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        picture = f'<img src="{data_uri(small, quality=78)}" loading="lazy" alt="">'
    known = cell.score is not None and math.isfinite(cell.score)
    score = f' data-score="{cell.score:.9g}"' if known else ""
    return (
        f'<figure class="gs-cell" data-text="{places[cell.title]}"{score}>{picture}'
        f'<figcaption><span dir="auto">{markup(cell.title)}</span>'
        f'<span class="gs-note">{markup(cell.note)}</span></figcaption></figure>'
    )
