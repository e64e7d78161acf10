"""The legend: numbers in place of the texts that no installed font can draw."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from .fonts import SHAPES, families, shown


class Legend:
    """Which texts a figure shows by a number, in the order in which they are given.

    Figures and pages of the same texts are given them in the same order, titles before words, so that their numbers agree.

    Args:
        texts: all texts of a figure.

    >>> Legend(["a dog", "two dogs"]).numbers, Legend(["a dog"]).label("a dog")
    ({}, 'a dog')
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.numbers: dict[str, int] = {}
        for text in texts:
            if families(shown(text)) is None:
                self.numbers.setdefault(text, len(self.numbers) + 1)

    def label(self, text: str) -> str:
        """The text as a figure shows it: with every character visible, or its number in brackets.

        Args:
            text: one of those that the legend was made of, or any other that installed fonts can draw.
        """
        return f"[{self.numbers[text]}]" if text in self.numbers else shown(text)

    @property
    def note(self) -> str:
        """What stands below a figure to say what its numbers are; empty if it has none."""
        if not self.numbers:
            return ""
        last = f" to [{len(self.numbers)}]" if len(self.numbers) > 1 else ""
        scripts = sorted({name for text in self.numbers for name in _scripts(text)})
        named = [", ".join(scripts[:4]) + (" and other" if len(scripts) > 4 else "") + " text"] if scripts else []
        if any(unicodedata.category(one)[0] == "S" and families(one) is None for text in self.numbers for one in text):
            named.append("symbols")
        missing = "a font is missing" if SHAPES else "a font or matplotlib 3.11 is missing"
        return f"[1]{last}: {' and '.join(named) or 'text'}, for which {missing}; JSON and HTML results spell it out"


def _scripts(text: str) -> set[str]:
    """The scripts of the letters of a text that are not drawn, as the names of these letters begin."""
    names = {unicodedata.name(one, "").partition(" ")[0] for one in text if one.isalpha() and families(one) is None}
    return {name if name == "CJK" else name.capitalize() for name in names if name}
