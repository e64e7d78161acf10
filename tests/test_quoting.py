"""Whatever is passed, a quotation of it is one line of printed characters, and not longer than a line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from captum_gradeclip.adapters.loading import LoadingError, first_line
from captum_gradeclip.experiments import DataError
from captum_gradeclip.notices import kept_notices, notice
from captum_gradeclip.quoting import MOST, MOST_OF_MESSAGE, check_utf8, legible, line, quoted

# Surrogates, controls and marks of direction are rare among all characters, and what this is about.
ANY = st.characters() | st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])
TEXTS = st.text(ANY, max_size=400) | st.builds(
    lambda one, times: one * times, st.text(ANY, max_size=9), st.integers(0, 9000)
)
NOTE = len("... (100,000,000 letters)")


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@given(TEXTS, st.integers(10, 300))
def test_a_line_is_printed_characters_of_bounded_number(text: str, most: int) -> None:
    shown = line(text, most)
    assert shown.isprintable() and len(shown) <= most + NOTE
    assert shown == legible(text) or f"({len(text):,} letters)" in shown
    assert legible(shown) == shown and legible(text).isprintable()
    shown.encode()


@given(TEXTS | st.binary(max_size=300) | st.lists(TEXTS, max_size=4) | st.dictionaries(TEXTS, st.floats(), max_size=3))
def test_so_is_a_quotation(value: object) -> None:
    shown = quoted(value)
    # A quotation may write a backslash or a quotation mark by two characters.
    assert shown.isprintable() and len(shown) <= 2 * MOST + NOTE + 2
    if isinstance(value, str) and len(value) <= MOST and len(legible(value)) <= MOST:
        assert shown == repr(value)


def test_a_quotation_of_other_things() -> None:
    assert quoted(Path("a", "b\x1b.png")) == "'a/b\\x1b.png'" and quoted(b"f\xfcr") == "'f\\udcfcr'"
    assert quoted(None) == "None" and quoted(Broken()) == "<Broken>" and quoted(10**5000) == "<int>"
    assert quoted("x" * 10_000).endswith("x' (10,000 letters)")
    assert quoted("/" + "deep/" * 90 + "name.png").endswith("/name.png' (459 letters)")


@pytest.mark.parametrize("kind", [DataError, LoadingError])
def test_errors_about_files_of_others_are_legible(kind: type[ValueError]) -> None:
    error = kind("a.json: \x1b[2J\n" + "x" * 10_000)
    assert str(error).isprintable() and len(str(error)) < MOST_OF_MESSAGE + NOTE
    assert str(pickle.loads(pickle.dumps(error)))[:100] == str(error)[:100]


def test_so_are_notices_and_first_lines() -> None:
    with kept_notices() as kept:
        notice("a \x1b]0;title\x07" + "x" * 10_000)
    assert kept[0].isprintable() and len(kept[0]) < MOST_OF_MESSAGE + NOTE
    assert first_line(ValueError("a\x1b[2J\nb\x07")) == "a\\x1b[2J b\\x07 ..."


@given(TEXTS)
def test_what_is_not_utf8_is_told(text: str) -> None:
    if any("\ud800" <= one <= "\udfff" for one in text):
        with pytest.raises(ValueError, match="^text: .* is not text in UTF-8") as caught:
            check_utf8("text", text)
        assert str(caught.value).isprintable()
    else:
        check_utf8("text", text)
