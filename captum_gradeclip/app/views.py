"""Answers as HTML: maps over the picture, colored words to click, scores and warnings. All text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from PIL import Image
from torch import Tensor

from .. import show
from ..explain import Explanation
from ..images import Picture
from ..maps import Words, shares, to_pixels
from ..quoting import legible
from ..report import unit_of
from ..show.bar import bar_colors, ends
from ..show.fonts import shown
from ..show.widget import data_uri
from ..show.words import word_colors
from .answer import Answer, Found

SIDE = 480
"""The most pixels along the longer side of a picture on the page."""


def result(answer: Answer, shared: bool = True) -> str:
    """The maps of an answer: a row for each method, with a map for each text that lies over the picture.

    The element's style sheet shows the map at the opacity ``--map-opacity``, which a slider sets.

    Args:
        answer: the answer, or what is known of it so far.
        shared: whether the maps of a method have one scale, so that a text that is not there looks cold (default), or each
            its own.

    Returns:
        One ``div``. Each word is a button with the data ``text`` and ``word``, the numbers of its text and of itself.
    """
    small = shrunk(answer.picture.image)
    notes = "".join(_note("note", one) for one in answer.notes)
    warned: dict[str, list[str]] = {}
    for one in answer.found:
        for warning in one.explanation.warnings if one.explanation is not None else ():
            warned.setdefault(warning, []).append(one.name)
    warnings = "".join(_note(f"warning ({', '.join(names)})", text) for text, names in warned.items())
    words = _words(answer)
    rows = "".join(_row(one, answer, small, shared) for one in answer.found)
    return f'<div class="gradeclip" style="--picture:url({data_address(small)})">{rows}{words}{warnings}{notes}</div>'


def region(answer: Answer, text: int, word: int) -> str:
    """The region of a word: the picture under the word's map, and what that means.

    Args:
        answer: the answer.
        text: the number of the text, from 0.
        word: the number of the word in it, from 0.

    Raises:
        ValueError: if there is no such word, or words cannot be told apart here.
    """
    regions = answer.regions(text)
    if not 0 <= word < len(regions):
        raise ValueError(f"word: expected 0 to {len(regions) - 1}, got {word}")
    small, name = shrunk(answer.picture.image), regions[word][0]
    fine = _fine(answer.picture, regions[word][1][None], small)[0]
    # One scale for all words of the text: a word that goes with nothing looks cold.
    scale = show.Scale.of([one for _, one in regions])
    others = " ".join(
        f"<strong>{escape(shown(one))}</strong>" if number == word else escape(shown(one))
        for number, (one, _) in enumerate(regions)
    )
    told = (
        f'where "{escape(shown(name))}" is: red speaks for the word, blue against it. One scale for all words of the text.'
    )
    figure = _figure(_overlay(small, fine, scale), f"region of {name}", f"{others}<div>{told}</div>")
    return (
        f'<div class="gradeclip" style="--picture:url({data_address(small)})"><h3>the region of a word</h3>'
        f'<div class="maps one">{figure}</div>{_bar(scale, answer.unit)}</div>'
    )


def preview(image: Image.Image, name: str) -> str:
    """The picture that will be explained, with its name and size.

    Args:
        image: the picture.
        name: what it is called.
    """
    told = f"{escape(legible(name))}, {image.width} x {image.height} pixels"
    source = data_address(shrunk(image, 320))
    return f'<div class="gradeclip preview"><img src="{source}" alt="{escape(legible(name))}"><div>{told}</div></div>'


def refusal(message: str) -> str:
    """A message that stands in place of the result.

    Args:
        message: what is wrong, and what to do.

    >>> refusal("texts: <b>")
    '<div class="gradeclip"><div class="refusal" role="alert">texts: &lt;b&gt;</div></div>'
    """
    return f'<div class="gradeclip"><div class="refusal" role="alert">{escape(legible(message))}</div></div>'


def links(files: Sequence[tuple[str, bytes]]) -> str:
    """Links that download files, which lie inside of the page itself, so that the server keeps none.

    Args:
        files: their names and contents.
    """
    items = "".join(
        f'<a download="{escape(name)}" href="data:application/octet-stream;base64,{base64.b64encode(content).decode()}">'
        f"{escape(name)}</a>"
        for name, content in files
    )
    return f'<div class="gradeclip files">{items}</div>'


def shrunk(image: Image.Image, longest: int = SIDE) -> Image.Image:
    """A picture brought to a size for the page; small ones are enlarged, so that a map can be looked at.

    Args:
        image: the picture.
        longest: pixels along its longer side (default :data:`SIDE`).

    >>> shrunk(Image.new("RGB", (1000, 500))).size
    (480, 240)
    """
    factor = longest / max(image.size)
    return image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.BICUBIC
    )


def _row(found: Found, answer: Answer, small: Image.Image, shared: bool) -> str:
    heading = f"<h3>{escape(found.name)}"
    if found.explanation is None:
        return f'<section>{heading}</h3><div class="refusal">{escape(legible(found.refused))}</div></section>'
    explanation = found.explanation
    fine = _fine(answer.picture, explanation.maps[0], small)
    common = show.Scale.of(fine)
    figures = []
    for number, (one, text) in enumerate(zip(fine, explanation.texts)):
        flat = show.flat(one) is not None
        scale = None if flat else common if shared else show.Scale.of([one])
        lines = [_bold(escape(shown(text))), *_numbers(explanation, number, answer.unit)]
        if explanation.against is not None:
            lines.insert(1, f"rather than {escape(shown(explanation.against)) or 'no words'}")
        if flat:
            lines.append("the map is the same everywhere")
        elif scale is not None and not shared:
            lines.append(_bar(scale, unit_of(found.method, answer.unit)))
        caption = "".join(f'<div dir="auto">{told}</div>' for told in lines)
        figures.append(_figure(_overlay(small, one, scale), f"{found.name}: {text}", caption))
    bar = _bar(common, unit_of(found.method, answer.unit)) if shared else ""
    seconds = f" <small>{found.seconds:.2f} s</small></h3>"
    maps = "maps one" if len(figures) == 1 else "maps"
    return f'<section>{heading}{seconds}<div class="{maps}">{"".join(figures)}</div>{bar}</section>'


def _figure(overlay: Image.Image, label: str, caption: str) -> str:
    """A picture under a map, whose opacity the style sheet sets."""
    ratio = f"{overlay.width}/{overlay.height}"
    return (
        f'<figure><div class="stack" style="aspect-ratio:{ratio}"><img class="map" src="{data_address(overlay)}"'
        f' alt="{escape(legible(label))}"></div><figcaption>{caption}</figcaption></figure>'
    )


def _numbers(explanation: Explanation, text: int, unit: str) -> list[str]:
    """The scores of a text, as far as they are known."""
    name = "difference" if explanation.against is not None else unit
    columns = (
        (f"model: {name} ", explanation.scores, "+.3f"),
        ("probability ", explanation.probabilities, ".1%"),
        (f"explained: {name} ", explanation.explained_scores, "+.3f"),
        ("carried by patches ", explanation.carried, ".0%"),
    )
    return [f"{label}{float(values[0, text]):{form}}" for label, values, form in columns if values is not None]


def _words(answer: Answer) -> str:
    """The words of all texts, each a button on its color."""
    if answer.query.head == "classes" or not answer.texts:
        return ""
    weighed: Sequence[Words] = answer.words
    weighs = any(weight for words in weighed for _, weight in words)
    told = (
        "the redder a word, the more it counts for its text (blue: against it)"
        if weighs
        else "no method that was chosen weighs words"
    )
    rows = []
    for text, words in enumerate(weighed):
        buttons = " ".join(
            f'<button type="button" class="word" data-text="{text}" data-word="{number}" title="{share:.3g} of the text"'
            f' style="background:rgb({",".join(map(str, color))})">{escape(shown(word))}</button>'
            for number, ((word, share), color) in enumerate(zip(shares(words), word_colors(words)))
        )
        rows.append(f'<p dir="auto">{buttons}</p>')
    return f'<section class="words"><h3>words</h3><div>{told}; click a word to see its region</div>{"".join(rows)}</section>'


def _fine(picture: Picture, maps: Tensor, small: Image.Image) -> Tensor:
    return to_pixels(maps, picture.frame_of(maps).resized(small.size))


def _overlay(small: Image.Image, fine: Tensor, scale: show.Scale | None) -> Image.Image:
    return show.overlay(small, fine, scale=scale)


def _bar(scale: show.Scale, unit: str) -> str:
    """What the colors mean."""
    if not scale.high > scale.low:
        return ""
    numbers = [number for _, number in ends(scale)]
    colors = data_address(Image.fromarray(bar_colors(scale.signed, None)))
    return f'<div class="bar">{numbers[0]} <img src="{colors}" alt=""> {numbers[-1]} ({escape(unit)})</div>'


def _note(kind: str, text: str) -> str:
    return f'<div class="note"><b>{escape(kind)}:</b> {escape(legible(text))}</div>'


def _bold(text: str) -> str:
    return f"<strong>{text}</strong>"


def data_address(image: Image.Image) -> str:
    """A picture as an address that holds it, with exact colors where it is small."""
    return data_uri(image, "webp" if image.width * image.height > 20_000 else "png")
