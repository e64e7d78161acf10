"""Quotations: what somebody passed, as it may stand in a message, on a terminal or in a figure."""

from __future__ import annotations

import os
from itertools import takewhile

MOST = 120
"""The most letters of a quotation, which is a line: a message must stay readable whatever was passed."""
MOST_OF_MESSAGE = 1500
"""The most letters of a whole message; the longest are lists of names that could have been meant."""


class QuotingError(ValueError):
    r"""An error about what files or other people's code say: its message is one legible line of bounded length.

    >>> str(QuotingError("a.json: it says \x1b[2J"))
    'a.json: it says \\x1b[2J'
    """

    def __init__(self, message: str) -> None:
        super().__init__(line(message, MOST_OF_MESSAGE))


def legible(text: str) -> str:
    r"""A text in which every character that is not printed is written as its escape sequence.

    Control characters would command a terminal, marks of direction would show another text than the one that is there, and
    the surrogates by which Python holds bytes that are not UTF-8 can be written to no file.

    Args:
        text: any text.

    >>> legible("a \x1b[2J \u202e \udcfc ü")
    'a \\x1b[2J \\u202e \\udcfc ü'
    """
    return text if text.isprintable() else "".join(map(_legible, text))


def line(text: str, most: int = MOST) -> str:
    """A text as one line without quotes: :func:`legible`, and without its middle if it is longer than a line.

    Args:
        text: any text.
        most: the most letters, at least 10 (default :data:`MOST`); dots, and the number of letters there were, are added.

    >>> line("x" * 100_000, 10)
    'xxxx...xxxxxx (100,000 letters)'
    """
    kept, note = _cut(text, most)
    return legible(kept) + note


def quoted(value: object, most: int = MOST) -> str:
    r"""A value for a message: a text or a path in quotes, anything else as ``repr`` shows it, on one line and not longer.

    Args:
        value: what was passed.
        most: the most letters, at least 10 (default :data:`MOST`); see :func:`line`.

    >>> quoted("ViT-B-32"), quoted("a\x07b"), quoted(3.5), quoted("x" * 10_000, 10)
    ("'ViT-B-32'", "'a\\x07b'", '3.5', "'xxxx...xxxxxx' (10,000 letters)")
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    if isinstance(value, str):
        kept, note = _cut(value, most)
        return repr(kept) + note
    try:
        text = repr(value)
    except Exception:  # an object may have a broken repr, and the message is about something else
        text = f"<{type(value).__name__}>"
    return line(text, most)


def check_utf8(parameter: str, text: str) -> None:
    r"""Refuses a text that no file and no tokenizer can take, before anything is done with it.

    Python holds bytes of a file name or of the command line that are not UTF-8 as surrogates.

    Args:
        parameter: what the message begins with.
        text: a text, or a path as a text.

    Raises:
        ValueError: naming the text.

    >>> check_utf8("texts", "f\udcfcr")
    Traceback (most recent call last):
    ValueError: texts: 'f\udcfcr' is not text in UTF-8; give it so, and rename a file that is called like that
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{parameter}: {quoted(text)} is not text in UTF-8; give it so, and rename a file that is called like that"
        ) from None


def _cut(text: str, most: int) -> tuple[str, str]:
    """A text that shows at most so many letters, and what is said behind it if its middle was left out."""
    if len(text) <= most and len(legible(text)) <= most:
        return text, ""
    # The end of a path says more than its beginning.
    head = _fitting(text[:most], most * 2 // 5)
    tail = _fitting(text[-most:][::-1], most - most * 2 // 5)[::-1]
    return f"{head}...{tail}", f" ({len(text):,} letters)"


def _fitting(text: str, most: int) -> str:
    """The first characters of a text, as many as take at most so many letters when they are legible."""
    left = most

    def fits(character: str) -> bool:
        nonlocal left
        left -= len(_legible(character))
        return left >= 0

    return "".join(takewhile(fits, text))


def _legible(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]
