"""Phrases of captions."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from captum_gradeclip.tuning import noun_phrases


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a dog in a black car waiting for traffic lights", ["dog", "black car", "traffic lights"]),  # the paper's example
        ("A man riding a wave on top of a surfboard.", ["man", "wave", "surfboard"]),
        ("the small striped red cross at the top", ["small striped red cross"]),
        ("a red star left of a plain pink square", ["red star", "plain pink square"]),
        ("a yellow circle to the left of the large red cross", ["yellow circle", "large red cross"]),
        ("something pink", []),
        ("a photo of a ring above a ring", ["ring"]),
        ("", []),
        ("running quickly and then", []),
    ],
)
def test_phrases_are_adjectives_and_nouns(caption: str, phrases: list[str]) -> None:
    assert noun_phrases(caption) == phrases


def test_a_tagger_of_ones_own_decides() -> None:
    def tagger(text: str) -> list[tuple[str, str]]:
        return [(word, "NN" if word[0].isupper() else "JJ" if word == "old" else "X") for word in text.split()]

    assert noun_phrases("old Tree near old old Big House", tagger) == ["old tree", "old old big house"]


def test_the_first_phrases_are_kept() -> None:
    caption = "a red ring, a blue star, a green circle, a pink square and a cyan triangle"
    assert noun_phrases(caption) == ["red ring", "blue star", "green circle", "pink square"]
    assert noun_phrases(caption, most=1) == ["red ring"]


def test_nltk_without_its_data_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = ModuleType("nltk")
    tags = [("a", "DT"), ("black", "JJ"), ("dog", "NN")]
    nltk.word_tokenize = str.split  # type: ignore[attr-defined]
    nltk.pos_tag = lambda words: tags  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    assert noun_phrases("a black dog", "nltk") == ["black dog"]

    def missing(words: object) -> object:
        raise LookupError("punkt")

    nltk.pos_tag = missing  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="tagger: the data of NLTK are not on this machine"):
        noun_phrases("a black dog", "nltk")


def test_what_is_no_caption_or_no_tagger_is_refused() -> None:
    with pytest.raises(TypeError, match="caption: expected a string"):
        noun_phrases(["a dog"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tagger: expected 'textblob', 'nltk' or a function"):
        noun_phrases("a dog", "spacy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="most: expected at least 1"):
        noun_phrases("a dog", most=0)
