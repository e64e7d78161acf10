"""The limits of what one visitor may ask of a page that others use as well."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import Options, number


@dataclass(frozen=True)
class Limits(Options):
    """How much a visitor may upload and ask for at once.

    Attributes:
        megabytes: the largest file that is taken, in 2^20 bytes, above 0 (default 20).
        megapixels: the largest picture that is decoded, in 10^6 pixels, above 0 (default 25).
        texts: the most texts of one explanation, at least 1 (default 8).
        letters: the most letters of one text, at least 1 (default 400).
        methods: the most methods of one explanation, at least 1 (default 6).
        seconds: a method that is expected to take longer is refused, above 0 (default 120).
        waiting: the most visitors who wait at the same time, at least 1 (default 40).
        at_once: how many explanations are computed at the same time, at least 1 (default 1, since each uses all cores).

    >>> Limits(texts=3).texts
    3
    >>> Limits(megabytes=0)
    Traceback (most recent call last):
    ValueError: megabytes: expected above 0, got 0
    """

    megabytes: float = number(20.0, above=0)
    megapixels: float = number(25.0, above=0)
    texts: int = number(8, least=1)
    letters: int = number(400, least=1)
    methods: int = number(6, least=1)
    seconds: float = number(120.0, above=0)
    waiting: int = number(40, least=1)
    at_once: int = number(1, least=1)
