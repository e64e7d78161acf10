"""The fonts of a text: whether installed ones can draw it, how wide it becomes, and where its lines break."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

import matplotlib
from matplotlib.font_manager import FontEntry, FontProperties, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.textpath import text_to_path

from ..quoting import legible

SANS = "DejaVu Sans"
"""The font of everything that it has the letters of; it comes with matplotlib."""
PLAIN = {"parse_math": False, "usetex": False}
"""How text that somebody passed is drawn, in which dollar signs are dollar signs."""

SHAPES = matplotlib.__version_info__[:2] >= (3, 11)
"""Whether matplotlib joins and orders the letters of scripts that need it."""
_TIGHT = 0.96
"""The share of a line that is used, since letters that are drawn with few dots are wider than they are measured."""
_JOINERS = "\u200c\u200d"
"""Characters without a shape of their own, which decide whether their neighbors are joined."""
# Fonts of matplotlib whose codes are not those of Unicode, and fonts that have a box or nothing for every character.
_ODD = ("cmb10", "cmex10", "cmmi10", "cmr10", "cmss10", "cmsy10", "cmtt10", "stix", "lastresort", "last resort", "adobe bl")


def shown(text: str) -> str:
    r"""A text in which everything that is not a printed character is visible, as :func:`~captum_gradeclip.quoting.legible`.

    Only the joiners of scripts that need them stay, between characters that may be of such a script.

    Args:
        text: any text.

    >>> shown("a\u200db"), shown("\u0915\u094d\u200d\u0937") == "\u0915\u094d\u200d\u0937"
    ('a\\u200db', True)
    """
    if text.isprintable():
        return text
    pieces = [
        one
        if one in _JOINERS and 0 < place < len(text) - 1 and ord(text[place - 1]) > 0x300 and ord(text[place + 1]) > 0x300
        else legible(one)
        for place, one in enumerate(text)
    ]
    return "".join(pieces)


def families(text: str) -> tuple[str, ...] | None:
    """The fonts that draw a text, each where those before it lack a character.

    Args:
        text: a text, see :func:`shown`.

    Returns:
        Names of families; ``None`` if some character is in no installed font, or if the text is of a script whose letters
        have to be joined or ordered and this matplotlib does not do so.

    >>> families("a dog"), families("\U0010ffff")
    (('DejaVu Sans',), None)
    """
    return _families(text, len(fontManager.ttflist))


def lettering(text: str, size: float) -> dict[str, object]:
    """The properties by which matplotlib draws a text in its fonts, and every character as it is.

    Args:
        text: a text, see :func:`shown`.
        size: size of the letters in points.
    """
    return {"fontfamily": list(families(text) or (SANS,)), "fontsize": size, **PLAIN}


def width(text: str, size: float) -> float:
    """The width of a text in inches.

    Args:
        text: a text of one line.
        size: size of the letters in points.

    >>> width("", 9), width("a dog", 18) == 2 * width("a dog", 9)
    (0.0, True)
    """
    fonts = families(text)
    # What no font draws has no width of its own.
    return (0.6 * len(text) if fonts is None else _width(text, fonts)) * size / 72 if text else 0.0


def height(lines: int, size: float) -> float:
    """The height of some lines of text in inches."""
    return lines * size * 1.32 / 72


def wrap(text: str, size: float, inches: float, most: int = 8) -> list[str]:
    """Breaks a text into lines, between words, or inside of a word that is longer than a line.

    Args:
        text: any text, see :func:`shown`.
        size: size of the letters in points.
        inches: the width of a line.
        most: the most lines; if there are more, dots follow as a line of their own (default 8).

    >>> wrap("one $two$ three", 9, 0.8)
    ['one $two$', 'three']
    """
    pieces: list[str] = []
    torn = 0  # each piece of a torn word but its last one is a line
    for word in text.split()[: 60 * most]:
        while word and torn <= most:
            fits = _fitting(word, size, inches * _TIGHT)
            pieces, word = [*pieces, word[:fits]], word[fits:]
            torn += bool(word)
    lines = [" ".join(pieces[number] for number in line) for line in break_lines(pieces, size, inches)]
    return lines if len(lines) <= most else [*lines[:most], "..."]


def clipped(text: str, size: float, inches: float) -> str:
    """A text that is no longer than a line, its end left out if it was; arguments as for :func:`wrap`.

    >>> clipped("octagon", 9, 0.3)
    'oc…'
    """
    if not text or (_fitting(text, size, inches) == len(text) and width(text, size) <= inches):
        return text
    return text[: _fitting(text, size, inches - width("…", size))] + "…"


def break_lines(words: Sequence[str], size: float, inches: float, between: float | None = None) -> list[list[int]]:
    """Breaks words into lines.

    Args:
        words: words; one that is longer than a line has a line of its own.
        size: size of the letters in points.
        inches: the width of a line.
        between: the width between two words in inches; ``None`` (default) for that of a space.

    Returns:
        For each line, the indices of its words. There is at least one line.

    >>> break_lines(["a", "red", "octagon"], 9, 0.5)
    [[0, 1], [2]]
    """
    space = width("a a", size) - 2 * width("a", size) if between is None else between
    inches *= _TIGHT
    lines: list[list[int]] = [[]]
    used = 0.0
    for number, word in enumerate(words):
        wide = width(word, size)
        if lines[-1] and used + wide > inches:
            lines.append([])
            used = 0.0
        lines[-1].append(number)
        used += wide + space
    return lines


def leftward(text: str) -> bool:
    """Whether a text is read from right to left, as its first letter says.

    >>> leftward("a dog"), leftward("\u05db\u05dc\u05d1")
    (False, True)
    """
    return next((kind != "L" for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")), False)


@lru_cache(4096)
def _families(text: str, installed: int) -> tuple[str, ...] | None:
    if not SHAPES and any(map(_needs_shaping, unicodedata.normalize("NFC", text))):
        return None
    found: list[FontEntry] = []
    for cluster in sorted(set(_clusters(text))):
        known = (matplotlib.font_manager.findfont(SANS), *(entry.fname for entry in found))
        if any(_has(path, cluster) for path in known):
            continue
        entry = next((one for one in _candidates(_region(text), installed) if _has(one.fname, cluster)), None)
        if entry is None:
            return None
        found.append(entry)
    return (SANS, *(entry.name for entry in found))


def _clusters(text: str) -> Iterator[str]:
    """The characters of a text with the marks on them, each of which one font has to draw."""
    cluster, joined = "", False
    for character in text:
        if character in _JOINERS:
            joined = True
        elif not _without_shape(character):
            if cluster and not joined and not unicodedata.category(character).startswith("M"):
                yield cluster
                cluster = ""
            cluster, joined = cluster + character, False
        elif character.isspace() and cluster:
            yield cluster
            cluster, joined = "", False
    if cluster:
        yield cluster


def _without_shape(character: str) -> bool:
    """Whether a character is a space, a joiner, or says which shape its neighbor has."""
    return character.isspace() or character in _JOINERS or "\ufe00" <= character <= "\ufe0f"


def _needs_shaping(character: str) -> bool:
    """Whether a character is written from the right, or joined with or placed on its neighbors."""
    marks = unicodedata.category(character) in ("Mn", "Mc", "Me") and not _without_shape(character)
    return marks or unicodedata.bidirectional(character) in ("R", "AL", "AN")


def _region(text: str) -> str:
    """The country by whose habit Han characters are drawn, as the end of a font's name."""
    names = {unicodedata.name(one, "").partition(" ")[0] for one in text}
    return "JP" if names & {"HIRAGANA", "KATAKANA"} else "KR" if "HANGUL" in names else "SC"


@lru_cache
def _candidates(region: str, installed: int) -> list[FontEntry]:
    """The installed fonts that may fill in, those first that look like :data:`SANS`."""

    def rank(entry: FontEntry) -> tuple[bool, ...]:
        name = entry.name
        foreign = name.endswith((" JP", " KR", " SC", " TC", " HK")) and not name.endswith(region)
        return (entry.style != "normal", entry.weight not in (400, "normal", "regular"), not name.startswith("Noto Sans"),
                not name.startswith("Noto"), "Serif" in name, "Mono" in name, foreign)  # fmt: skip

    names = ((entry, entry.name.lower()) for entry in fontManager.ttflist)
    usable = [entry for entry, name in names if not name.startswith(_ODD) and "color" not in name]
    return sorted(usable, key=lambda entry: (*rank(entry), entry.name))


@lru_cache(2**14)
def _has(path: str, cluster: str) -> bool:
    with suppress(RuntimeError, OSError, ValueError):  # a font may be broken, or gone since matplotlib looked
        return all(_face(path).get_char_index(ord(one)) for one in cluster)
    return False


@lru_cache(512)
def _face(path: str) -> FT2Font:
    return FT2Font(path)


@lru_cache(2**14)
def _width(text: str, fonts: tuple[str, ...]) -> float:
    """The width in multiples of the size of the letters."""
    wide, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(family=list(fonts), size=72), ismath=False)
    return float(wide) / 72


def _fitting(text: str, size: float, inches: float) -> int:
    """How many characters from the start of a text fit, one at least; marks are not torn from their letters."""
    # Few letters are narrower than a fifth of the size, so that a long text is not measured as a whole.
    ends = range(1, min(len(text), 8 + int(5 * max(inches, 0) * 72 / size)) + 1)
    fits = max(1, bisect_right(ends, inches, key=lambda end: width(text[:end], size)))
    whole = fits
    while 0 < whole < len(text) and (_without_shape(text[whole]) or unicodedata.category(text[whole]).startswith("M")):
        whole -= 1
    return whole or fits
