"""Ratings: how concrete words are, by what people said or by marks of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...quoting import quoted
from ..data import DataError
from ..data.rows import Row, read_rows
from ..findings.words import FUNCTION_WORDS, KINDS
from .lemmas import lemmas

WORD, RATING = "Word", "Conc.M"
"""The columns of the norms of Brysbaert et al. (2014): a word, and the mean rating of how concrete it is, 1 to 5."""
_LEAST, _MOST = 1.0, 5.0


@dataclass(frozen=True)
class Ratings:
    """Words with a number each.

    Attributes:
        name: what the numbers are, for the axis of a figure.
        values: the number of each word, in lower case.
        kinds: a group for each word; empty (default) if there are none.
    """

    name: str
    values: Mapping[str, float]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def of(self, word: str) -> tuple[float, str] | None:
        """The number of a word with the form that it was found under, its own or its lemma; ``None`` if neither is there.

        >>> ratings = Ratings("a", {"ring": 4.5})
        >>> ratings.of("Rings"), ratings.of("red")
        ((4.5, 'ring'), None)
        """
        form = word.lower()
        for one in (form, *lemmas(form)):
            if one in self.values:
                return self.values[one], one
        return None


_MARKS = {"object": 5.0, "attribute": 4.0, "place or number": 3.0, "function": 1.0}


def of_scenes() -> Ratings:
    """Our own marks of the words of scenes: no ratings by people, but what each word does in the grammar.

    Names of shapes are objects (5), colors, sizes and materials attributes (4); words of place and number (3) lie between
    these and all others, which are true of every picture (1).

    >>> of_scenes().of("rings"), of_scenes().kinds["the"]
    ((5.0, 'rings'), 'function')
    """
    kinds = dict.fromkeys(FUNCTION_WORDS, "function")
    for kind, words in KINDS.items():
        mark = {"shape": "object", "relation": "place or number", "number": "place or number"}.get(kind, "attribute")
        kinds.update(dict.fromkeys(words, mark))
    values = {word: _MARKS[kind] for word, kind in kinds.items()}
    return Ratings("our own marks, 1 to 5", values, kinds)


def read(file: Path) -> Ratings:
    """Ratings from a file with the columns ``Word`` and ``Conc.M`` of Brysbaert et al. (2014), others are passed over.

    Args:
        file: a spreadsheet (``.xlsx``), whose first sheet is read, or a text file with commas, semicolons or tabs.

    Raises:
        DataError: for a file without these columns, a word that is empty or rated twice, and a rating that is no number from
            1 to 5; naming file, line and column.
        ModuleNotFoundError: for a spreadsheet without the package openpyxl, which ``captum_gradeclip[study]`` installs.
    """
    rows = _sheet_rows(file) if file.suffix.lower() == ".xlsx" else read_rows(file, (WORD, RATING))
    values: dict[str, float] = {}
    lines: dict[str, int] = {}
    for row in rows:
        word = row.text(WORD).lower()
        if word in values:
            raise row.error(WORD, f"expected each word once, got {quoted(word)} again, which is in line {lines[word]}")
        values[word], lines[word] = row.number(RATING, _LEAST, _MOST), row.line
    return Ratings("concreteness, 1 to 5", values)


def _sheet_rows(file: Path) -> Iterator[Row]:
    """The rows of the first sheet of a spreadsheet."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    try:
        cells = list(load_workbook(file, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True))
    except (InvalidFileException, OSError, ValueError, KeyError, IndexError, EOFError, SyntaxError) as error:
        raise DataError(f"{file}: it is no spreadsheet that can be read: {error}") from None
    except Exception as error:  # a broken archive or broken XML inside of it has errors of its own
        raise DataError(f"{file}: it is no spreadsheet that can be read: {type(error).__name__}: {error}") from None
    places = _places(file, cells[0] if cells else ())
    found = False
    for number, values in enumerate(cells[1:], 2):
        if all(value is None for value in values):
            continue
        found = True
        texts = {name: _shown(values, place) for name, place in places.items()}
        yield Row(file, number, texts, places)
    if not found:
        raise DataError(f"{file}: line 2: expected rows under the columns {WORD}, {RATING}, got none")


def _places(file: Path, first: Sequence[object]) -> dict[str, int]:
    names = ["" if value is None else str(value).strip().lower() for value in first]
    for name in (WORD, RATING):
        if name.lower() not in names:
            raise DataError(f"{file}: line 1: expected the columns {WORD} and {RATING} in the first line; {name} is missing")
    return {name: names.index(name.lower()) + 1 for name in (WORD, RATING)}


def _shown(values: Sequence[object], place: int) -> str:
    value = values[place - 1] if place <= len(values) else None
    return "" if value is None else str(value)
