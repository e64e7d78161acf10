"""The phrases of a caption: what in it may be found in a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

from ..arguments import check_number
from ..quoting import quoted

Tagger: TypeAlias = Callable[[str], Iterable[tuple[str, str]]]
"""A function from a text to its words in their order, each with a part-of-speech tag of the Penn Treebank."""
TaggerName = Literal["textblob", "nltk"]

_ADJECTIVES = ("JJ", "JJR", "JJS")
_NOUNS = ("NN", "NNS", "NNP", "NNPS")
_SIDES = (
    "left",
    "right",
    "top",
    "bottom",
    "middle",
    "center",
    "centre",
    "front",
    "back",
    "side",
    "background",
    "foreground",
)
# Taggers take most of these for nouns, adjectives or verbs, but no part of a picture shows them.
_NO_PART = (
    *(("to", "the", side, "of") for side in _SIDES),
    *((word, "the", side) for word in ("on", "at", "in", "to", "from") for side in _SIDES),
    *((word, side, "of") for word in ("on", "in") for side in ("top", "front", "back")),
    *(("left", "of"), ("right", "of"), ("next", "to"), ("close", "to")),
    *(
        (word, "of")
        for word in ("photo", "photograph", "picture", "image", "view", "group", "couple", "pair", "lot", "bunch")
    ),
    *((word,) for word in ("something", "someone", "anything", "everything", "nothing")),
)


def noun_phrases(caption: str, tagger: TaggerName | Tagger = "textblob", most: int = 4) -> list[str]:
    """The phrases "adjectives and nouns" of a caption, in their order.

    A phrase is a run of any number of adjectives (JJ, JJR, JJS) with at least one noun (NN, NNS, NNP, NNPS) behind them. A
    base form of a verb that stands behind an article or an adjective, where English has none, is taken for a noun. Words
    that say where something is, or speak of the picture itself ("left of", "on top of", "a photo of"), belong to no phrase.

    Args:
        caption: the caption.
        tagger: what tags the words: ``"textblob"`` (default), whose data come in its wheel; ``"nltk"``, whose data have to
            be on this machine, or a function of your own.
        most: largest number of phrases, at least 1 (default 4); the first ones are kept.

    Returns:
        The phrases in small letters, each once; none if the caption has none.

    Raises:
        ModuleNotFoundError: if the package of the tagger is not installed; the extra ``tuning`` has textblob.
        TypeError: if the caption is no string.
        ValueError: for another tagger, one without its data, or ``most`` below 1.

    >>> noun_phrases("A dog in a black car waiting for traffic lights")
    ['dog', 'black car', 'traffic lights']
    >>> noun_phrases("a photo of a large red cross left of two stars")
    ['large red cross', 'stars']

    Source: Zhao et al., arXiv 2502.18816v1, section 6.
    """
    if not isinstance(caption, str):
        raise TypeError(f"caption: expected a string, got {quoted(caption)}")
    check_number("most", most, whole=True, least=1)
    tag = tagger if callable(tagger) else _known(tagger)
    words = [(str(word).lower(), str(kind)) for word, kind in tag(caption)]
    return list(dict.fromkeys(_chunks(_without(words))))[:most]


def _chunks(words: Sequence[tuple[str, str]]) -> list[str]:
    """The runs of adjectives and nouns among tagged words."""
    found: list[str] = []
    adjectives: list[str] = []
    nouns: list[str] = []
    before = ""
    for word, kind in (*words, ("", "")):
        is_noun = kind in _NOUNS or (kind in ("VB", "VBP") and before in (*_ADJECTIVES, "DT", "CD", "PRP$"))
        if not is_noun and nouns:
            found.append(" ".join([*adjectives, *nouns]))
            adjectives, nouns = [], []
        if is_noun:
            nouns.append(word)
        elif kind in _ADJECTIVES:
            adjectives.append(word)
        else:
            adjectives = []
        before = kind
    return found


def _without(words: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same words, where those that no part of a picture shows have a tag that belongs to no phrase."""
    changed, place = list(words), 0
    while place < len(words):
        lengths = [len(one) for one in _NO_PART if tuple(word for word, _ in words[place : place + len(one)]) == one]
        for number in range(place, place + max(lengths, default=0)):
            changed[number] = words[number][0], ""
        place += max(lengths, default=1)
    return changed


@lru_cache
def _known(name: str) -> Tagger:
    if name == "textblob":
        from textblob.en import tag

        return tag  # type: ignore[no-any-return]  # textblob publishes no types
    if name == "nltk":
        return _nltk
    raise ValueError(f"tagger: expected 'textblob', 'nltk' or a function of a text, got {quoted(name)}")


def _nltk(text: str) -> Iterable[tuple[str, str]]:
    import nltk

    try:
        return nltk.pos_tag(nltk.word_tokenize(text))  # type: ignore[no-any-return]  # nltk publishes no types
    except LookupError as error:
        raise ValueError(
            "tagger: the data of NLTK are not on this machine; nltk.download('punkt_tab') and"
            " nltk.download('averaged_perceptron_tagger_eng') fetch them, or use tagger='textblob', which needs no download"
        ) from error
