"""The widget: pictures under their maps as a piece of HTML, in which a word is clicked and a patch is pointed at."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..files import to_json
from ..maps import Frame, Words, to_pixels
from .bar import bar_colors, ends
from .fonts import shown
from .overlay import ALPHA, VEIL, overlay
from .scale import STEPS, Scale, flat, palette
from .style import Style

__all__ = ["Caption", "View", "data_uri", "document", "markup", "template", "widget"]

CELLS, REGION_CELLS = 64, 32
"""The most rows and columns of a map, and of the map of a word, in a page; finer ones are averaged."""
THUMBNAIL = 224
"""The most pixels along the longer side of the picture of a text, which is all that is seen where scripts do not run."""
_UNSEEN = 65535
"""The number that stands for no value, where 0 to 65534 stand for the values of a map from its lowest to its highest one."""
_MOST_LETTERS = 1000
"""The most letters of a text in a page, where a text may be a file that somebody took for one."""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a browser may do with a page of ours: nothing is fetched from anywhere, whatever somebody writes into it."""


@dataclass(frozen=True)
class Caption:
    """What the widget tells of one text, or class, beside its map.

    Attributes:
        title: the text.
        note: its score in words (default: nothing is said).
        numbers: further numbers, each with its name (default none).
        words: its words with the weights that they are colored by; empty (default) if no words were explained.
        regions: the map ``(h, w)`` of each word, in the same order; empty (default) if they are not known.

    >>> Caption("a dog", "score +0.312", words=[("a", 0.1), ("dog", 0.9)]).words[1]
    ('dog', 0.9)
    """

    title: str
    note: str = ""
    numbers: Sequence[tuple[str, str]] = ()
    words: Words = ()
    regions: Sequence[Tensor] = ()


@dataclass(frozen=True)
class View:
    """What the widget shows of one picture.

    Attributes:
        name: the name of the picture.
        image: the picture, as large as it is to be shown.
        maps: the maps of T texts ``(T, h, w)``, on the patch grid or in pixels of the model's input.
        frame: where these lie in ``image``.
        captions: what is told of the T texts.
        warnings: what speaks against trusting these maps (default nothing).

    >>> import torch
    >>> view = View("dog.jpg", Image.new("RGB", (6, 4)), torch.rand(1, 2, 3), Frame.whole((6, 4)), [Caption("a dog")])
    >>> view.maps.shape
    torch.Size([1, 2, 3])
    """

    name: str
    image: Image.Image
    maps: Tensor
    frame: Frame
    captions: Sequence[Caption]
    warnings: Sequence[str] = ()


def widget(
    views: Sequence[View],
    *,
    heading: str = "",
    unit: str = "",
    region_unit: str = "cosine",
    notes: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    style: Style | None = None,
) -> str:
    """Writes pictures with their maps as a piece of HTML that stands alone, for a page or a notebook.

    A text is chosen by a click, a word shows its region by one, a slider mixes the colors with the picture, and a patch that
    the pointer or the arrow keys are at tells its value and the words that it goes with. All of it is in the piece: pictures
    as JPEG, values as numbers of 16 bits, style and script. Names and texts are escaped, and the script reads numbers only.
    Where scripts do not run, in previews of mails for instance, there is an overlay for each text instead. Any number of
    pieces may stand on one page.

    Args:
        views: the pictures.
        heading: what stands above all of them, the name of the method for example (default nothing).
        unit: what the values of the maps are measured in (default: nothing is said).
        region_unit: the same of the maps of words (default ``"cosine"``).
        notes: what is to be said about all of them, each note for itself (default nothing).
        settings: names and values of what the maps were made with (default none).
        style: the color map and the scale of colors.

    Returns:
        One ``div``, with a ``style`` and a ``script`` inside.

    >>> import torch
    >>> maps, frame = torch.rand(1, 2, 3), Frame.whole((6, 4))
    >>> piece = widget([View("<b>.png", Image.new("RGB", (6, 4)), maps, frame, [Caption("a dog")])])
    >>> piece[:22], "&lt;b&gt;.png" in piece, "<b>" in piece, "://" in piece
    ('<div class="gradeclip"', True, False, False)
    """
    look = style or Style()
    tables = {name: _palette(look.cmap, signed) for name, signed in (("sequential", False), ("diverging", True))}
    told = {"alpha": ALPHA, "veil": VEIL, "steps": STEPS, "each": look.color_scale == "each", **tables}
    parts = [f"<style>{template('widget.css')}</style>"]
    parts += [_element("p", "gc-method", heading)] if heading else []
    parts += [_element("p", "gc-method", note) for note in notes]
    parts += [_view(view, unit, region_unit, look) for view in views]
    if settings:
        rows = "".join(f"<dt>{markup(name)}</dt><dd>{markup(value)}</dd>" for name, value in settings.items())
        parts.append(f'<details class="gc-settings"><summary>settings</summary><dl>{rows}</dl></details>')
    parts.append(f"<script>{template('widget.js')}</script>")
    return f'<div class="gradeclip" data-look="{html.escape(to_json(told))}">{"".join(parts)}</div>'


def document(title: str, body: str) -> str:
    """A page that stands alone: nothing is fetched, it is light or dark as the reader's other pages are.

    Args:
        title: its title, which is escaped.
        body: what stands in it, as HTML.

    Returns:
        The page, whose policy forbids to fetch anything.

    >>> page = document("<i>", "<p>a dog</p>")
    >>> page.startswith("<!DOCTYPE html>"), "<title>&lt;i&gt;</title>" in page
    (True, True)
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{markup(title)}</title><style>{template('document.css')}</style></head>\n<body>{body}</body></html>\n"
    )


@lru_cache
def template(name: str) -> str:
    """The text of a file that pages are made of, which lies beside this one.

    Args:
        name: the name of the file.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def data_uri(image: Image.Image, kind: str = "jpeg", quality: int = 88) -> str:
    """A picture as an address that holds it.

    Args:
        image: the picture.
        kind: ``"jpeg"`` (default), ``"webp"``, or ``"png"`` for exact colors.
        quality: that of a JPEG or a WebP, from 1 to 95 (default 88).

    >>> data_uri(Image.new("RGB", (2, 2)), "png")[:22]
    'data:image/png;base64,'
    """
    file = io.BytesIO()
    image.convert("RGB").save(file, format=kind, **({} if kind == "png" else {"quality": quality}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def markup(text: str) -> str:
    r"""A text as it may stand in HTML and in its attributes: escaped, visible, and without its end if it is very long.

    Args:
        text: any text.

    >>> markup("a <b> \x1b"), len(markup("x" * 100_000))
    ('a &lt;b&gt; \\x1b', 1001)
    """
    return html.escape(shown(text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}\u2026"))


def _view(view: View, unit: str, region_unit: str, look: Style) -> str:
    """One picture with its texts."""
    width, height = view.image.size
    fine = to_pixels(view.maps, view.frame)
    shared = Scale.of(fine)
    left, top, right, bottom = view.frame.box
    content = {
        "box": [left / width, top / height, right / width, bottom / height],
        "maps": [_numbers(one, pixels, shared, unit, CELLS) for one, pixels in zip(view.maps.detach().float().cpu(), fine)],
        "regions": [
            [_numbers(one, one, Scale.of(caption.regions), region_unit, REGION_CELLS) for one in caption.regions]
            for caption in view.captions
        ],
    }
    small = view.image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    thumbnails = to_pixels(view.maps, view.frame.resized(small.size))
    texts = []
    for caption, one, pixels in zip(view.captions, thumbnails, fine):
        own = look.color_scale == "each" or flat(pixels) is not None
        drawn = overlay(small, one, cmap=look.cmap, scale=Scale.of([pixels]) if own else shared)
        texts.append(_caption(caption, data_uri(drawn), one))
    numbers = [number for _, number in ends(shared)]
    bar = data_uri(Image.fromarray(bar_colors(shared.signed, look.cmap)), "png")
    veiled = '<span class="gc-veil">gray and hatched: not seen by the model</span>' if fine.isnan().any() else ""
    hint = ""
    if any(caption.regions for caption in view.captions):
        hint = '<p class="gc-hint" data-scripted hidden>A word shows its region when it is clicked.</p>'
    colored = "" if shared.high > shared.low else " hidden"
    return (
        f'<section class="gc-view" data-content="{html.escape(to_json(content))}">'
        f'<div class="gc-name" dir="auto">{markup(view.name)}</div>{_list(view.warnings)}<figure class="gc-look">'
        f'<div class="gc-stage" style="--aspect:{width / height:.4f}" role="group"'
        ' aria-label="the picture under its map; arrow keys move from patch to patch">'
        f'<img src="{data_uri(view.image)}" width="{width}" height="{height}" alt="{markup(view.name)}">'
        '<canvas class="gc-map"></canvas><div class="gc-patch" hidden></div></div>'
        '<figcaption class="gc-shown" dir="auto" data-scripted hidden></figcaption>'
        f'<div class="gc-key"{colored}><span class="gc-low">{numbers[0]}</span>'
        f'<img class="gc-bar" src="{bar}" alt="colors from the lowest to the highest value">'
        f'<span class="gc-high">{numbers[-1]}</span> <span class="gc-unit">{markup(unit)}</span>'
        f"{veiled}</div>"
        '<div class="gc-controls" data-scripted hidden><label>map <input class="gc-opacity" type="range" min="0" max="100"'
        ' value="100" aria-label="opacity of the map in percent"></label><label><input class="gc-each" type="checkbox">'
        " colors for each map alone</label></div>"
        '<output class="gc-reading" data-scripted hidden></output></figure>'
        f'<div class="gc-texts">{hint}{"".join(texts)}</div></section>'
    )


def _caption(caption: Caption, picture: str, drawn: Tensor) -> str:
    """One text: what chooses its map, its words, its numbers."""
    weights = [weight if math.isfinite(weight) else 0.0 for _, weight in caption.words]
    most = max(map(abs, weights), default=0.0) or 1.0
    tag, more = ("button", ' type="button" disabled') if caption.regions else ("span", "")
    kinds = ["gc-word gc-minus" if weight < 0 else "gc-word" for weight in weights]
    words = " ".join(
        f'<{tag} class="{kind}" style="--weight:{abs(weight) / most:.3f}" title="weight {weight:.4g}"{more}>'
        f"{markup(word)}</{tag}>"
        for (word, _), weight, kind in zip(caption.words, weights, kinds)
    )
    value = flat(drawn)
    same = "" if value is None or math.isnan(value) else f"the map is {value:.3g} everywhere"
    numbers = " · ".join(filter(None, [same, *(f"{name} {number}" for name, number in caption.numbers)]))
    return (
        '<div class="gc-text"><button type="button" class="gc-choose">'
        f'<img src="{picture}" alt=""><span><span class="gc-title" dir="auto">{markup(caption.title)}</span>'
        f'<span class="gc-note">{markup(caption.note)}</span></span></button>'
        + (f'<p class="gc-words" dir="auto">{words}</p>' if words else "")
        + (_element("p", "gc-numbers", numbers) if numbers else "")
        + "</div>"
    )


def _numbers(values: Tensor, seen: Tensor, shared: Scale, unit: str, most: int) -> dict[str, object]:
    """A map ``(h, w)`` as numbers for the script, with the scales of its colors; ``seen`` has what is colored."""
    rows, columns = values.shape
    if max(rows, columns) > most:
        values = F.adaptive_avg_pool2d(values[None], (min(rows, most), min(columns, most)))[0]
    array = values.double().numpy()
    finite = np.isfinite(array)
    low, high = (float(array[finite].min()), float(array[finite].max())) if finite.any() else (0.0, 0.0)
    share = (np.where(finite, array, low) - low) / (high - low) if high > low else np.zeros_like(array)
    cells = np.where(finite, np.rint(share * (_UNSEEN - 1)), _UNSEEN).astype("<u2")
    own = Scale.of([seen])
    return {
        "grid": list(values.shape),
        "ends": [low, high],
        "cells": base64.b64encode(cells.tobytes()).decode(),
        "shared": [shared.low, shared.high, shared.signed],
        "own": [own.low, own.high, own.signed],
        "flat": flat(seen),
        "unit": shown(unit),
    }


def _palette(cmap: str | None, signed: bool) -> str:
    """Red, green, blue and opacity of each step of a scale, a byte each."""
    colors, opacity = palette(cmap, signed)
    both = np.concatenate([colors, 255 * opacity[:, None]], axis=1)
    return base64.b64encode(np.rint(both).clip(0, 255).astype(np.uint8).tobytes()).decode()


def _list(warnings: Sequence[str]) -> str:
    entries = "".join(f"<li><b>warning:</b> {markup(one)}</li>" for one in warnings)
    return f'<ul class="gc-warnings">{entries}</ul>' if entries else ""


def _element(tag: str, kind: str, text: str) -> str:
    return f'<{tag} class="{kind}">{markup(text)}</{tag}>'
