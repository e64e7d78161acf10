"""A triple: a base word with a word that goes with it in a picture, and one that does not."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Triple:
    """Three words about a picture, and the two phrases that are made of them.

    Attributes:
        base: the word for a thing in the picture, ``"horse"``.
        matched: a word that is true of it, ``"young"``.
        mismatched: a word that is not, ``"white"``.
        matched_phrase: both of them, ``"young horse"``.
        mismatched_phrase: the base and the word that is not true, ``"white horse"``.
        kind: what is put together, ``"adjective + noun"`` for instance.

    >>> Triple("horse", "young", "white", "young horse", "white horse", "adjective + noun").texts
    ('horse', 'young', 'white', 'young horse', 'white horse')
    """

    base: str
    matched: str
    mismatched: str
    matched_phrase: str
    mismatched_phrase: str
    kind: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The words and phrases in the order of the attributes."""
        return tuple(getattr(self, name) for name in TEXTS)


TEXTS = tuple(one.name for one in fields(Triple) if one.name != "kind")
"""The names of the attributes that are texts."""
