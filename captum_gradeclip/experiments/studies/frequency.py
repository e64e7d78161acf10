"""Frequencies: how often words are used, on the Zipf scale: the decimal logarithm of occurrences among a billion words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...quoting import quoted
from ..data import DataError
from ..data.readers import read_text


def zipf(counts: Mapping[str, float]) -> dict[str, float]:
    """Counts on the Zipf scale; words that never occur have no place on it.

    >>> zipf({"a": 1, "b": 999_999, "c": 0})["a"]
    3.0
    """
    total = sum(counts.values())
    return {word: math.log10(count / total * 1e9) for word, count in counts.items() if count > 0}


def look_up(source: str | Path, words: Sequence[str], counts: Mapping[str, int]) -> tuple[str, dict[str, float]]:
    """The frequency of words by a source, for those that it knows, and what the source is called on an axis.

    Args:
        source: ``"captions"``, ``"wordfreq"``, or a file of counts.
        words: the words, in lower case.
        counts: how often each word occurs in the captions.

    Raises:
        DataError: for a file that cannot be read, naming line and column.
        ModuleNotFoundError: without the package wordfreq, which ``captum_gradeclip[study]`` installs, if it is asked for.

    >>> look_up("captions", ["red"], {"red": 1, "ring": 9})
    ('frequency in the captions (Zipf scale)', {'red': 8.0})
    """
    if source == "wordfreq":
        from wordfreq import zipf_frequency

        found = {word: float(zipf_frequency(word, "en")) for word in words}
        return "frequency in English by wordfreq (Zipf scale)", {word: value for word, value in found.items() if value > 0}
    known = zipf(counts if source == "captions" else read(Path(source)))
    name = "frequency in the captions (Zipf scale)" if source == "captions" else "frequency in the file (Zipf scale)"
    return name, {word: known[word] for word in words if word in known}


def read(file: Path) -> dict[str, float]:
    """Counts from a file with a word and its count in each line, separated by a tab, a comma, a semicolon or a blank.

    A first line without a number is a heading. A word that stands there in upper and in lower case has both counts.

    Raises:
        DataError: for any other line, naming file, line and column.
    """
    found: dict[str, float] = {}
    for number, text in enumerate(read_text(file).removeprefix("\ufeff").splitlines(), 1):
        if not text.strip():
            continue
        delimiter = next((one for one in ("\t", ",", ";") if one in text), None)
        cells = [cell.strip() for cell in text.strip().split(delimiter)]
        if len(cells) != 2 or not cells[0]:
            raise DataError(f"{file}: line {number}, column 1 (word): expected a word and its count, got {quoted(text)}")
        try:
            count = float(cells[1])
        except ValueError:
            count = math.nan
        if not count >= 0 or math.isinf(count):
            if number == 1:
                continue
            raise DataError(
                f"{file}: line {number}, column 2 (count): expected a number of at least 0, got {quoted(cells[1])}"
            )
        word = cells[0].lower()
        found[word] = found.get(word, 0.0) + count
    if not any(found.values()):
        raise DataError(f"{file}: line 1: expected a word and its count in each line, got none")
    return found
