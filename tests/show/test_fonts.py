"""Texts of all scripts: drawn where an installed font has their letters, a number in the legend where none has."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings, strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from PIL import Image

from captum_gradeclip.show import Row, fonts, matrix, own_settings, strip, words_figure, words_html
from captum_gradeclip.show.fonts import (
    break_lines,
    clipped,
    families,
    leftward,
    lettering,
    shown,
    width,
    wrap,
)
from captum_gradeclip.show.legend import Legend

from .looking import texts_of

TEXTS = {
    "Chinese": "一只狗在草地上",
    "Japanese": "犬が 草の上に いる",
    "Arabic": "كلب على العشب",
    "Hebrew": "כלב על הדשא",
    "Hindi": "घास पर एक कुत्ता",
    "emoji": "a 🦊 in the 🏠",
    "Thai": "สุนัขบนหญ้า",
    "mixed": "dog כלב كلب 狗",
    "joined": "می\u200cخو 👨\u200d👩\u200d👧",
}


def font_with(name: str, text: str, path: Path) -> None:
    """Writes a font whose letters, those of a text, are squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 700), (750, 700), (750, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = {ord(one): f"u{ord(one):x}" for one in text}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (800, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWeightClass=400)
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no font is installed but those of matplotlib."""
    own = Path(matplotlib.get_data_path())
    monkeypatch.setattr(fontManager, "ttflist", [one for one in fontManager.ttflist if own in Path(one.fname).parents])
    clear()
    yield
    clear()


def clear() -> None:
    """Forgets what was found out about fonts, since the number of them may be the same by chance."""
    for one in (fonts._families, fonts._candidates, fonts._has):
        one.cache_clear()


def figures(text: str) -> list[Figure]:
    """A figure of each kind with a text as heading and words."""
    caption = [(word, 1.0 - 2 * (number % 2)) for number, word in enumerate(text.split())]
    image, one = Image.new("RGB", (30, 20)), torch.rand(1, 20, 30)
    return [
        strip(image, one, [text], words=[caption], notes=["score +0.100"]),
        matrix(image, [Row("a method", one, [caption])], [text], notes=["score +0.100"]),
        words_figure([caption], [text]),
    ]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("shapes", [True, False])
def test_every_script_is_drawn_or_numbered_without_warnings(
    name: str, shapes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whatever fonts this machine has, and as if its matplotlib did or did not shape texts."""
    monkeypatch.setattr(fonts, "SHAPES", shapes and fonts.SHAPES)
    clear()
    text = TEXTS[name]
    with warnings.catch_warnings():
        # By these, matplotlib tells of characters without a glyph, and of scripts that it cannot draw.
        warnings.filterwarnings("error", "Glyph|Matplotlib|findfont")
        for figure in figures(text):
            said = [one for one, _, _ in texts_of(figure)]
            for format in ("png", "pdf", "svg"):
                figure.savefig(io.BytesIO(), format=format, dpi=30)
            if families(shown(text)) is None:
                assert "[1]" in said and any("for which a font" in one for one in said)
                assert not any(part in one for one in said for part in text.split() if families(shown(part)) is None)
            else:
                assert any(one.replace("\n", " ") == shown(text) for one in said) or "…" in "".join(said)
                assert not any("for which a font" in one for one in said)
    clear()


def test_a_font_that_has_the_letters_is_found(only_dejavu: None, tmp_path: Path) -> None:
    text = "\u72ac \u8349"
    assert families(text) is None and "[1]" in [one for one, _, _ in texts_of(figures(text)[0])]
    for name, letters in (("Odd Serif", "\u72ac\u8349"), ("Noto Sans Some", "\u72ac"), ("Some Color Emoji", "\u72ac\u8349")):
        font_with(name, letters, tmp_path / f"{name}.ttf")
        fontManager.addfont(tmp_path / f"{name}.ttf")
    assert families(text) == ("DejaVu Sans", "Noto Sans Some", "Odd Serif"), "Noto first, colors never"
    assert families("\u72ac") == ("DejaVu Sans", "Noto Sans Some") and families("a dog") == ("DejaVu Sans",)
    assert width("\u72ac\u8349", 72) == pytest.approx(1.6, abs=0.02)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Glyph|Matplotlib|findfont")
        for figure in figures(text):
            assert not any("[1]" in one for one, _, _ in texts_of(figure))
    (tmp_path / "Odd Serif.ttf").unlink()  # since matplotlib looked
    fonts._has.cache_clear(), fonts._face.cache_clear(), fonts._families.cache_clear()
    assert families("\u8349") is None


def test_before_matplotlib_shapes_texts_those_that_need_it_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """DejaVu Sans has the letters of Arabic and Hebrew, which would stand in the wrong order and apart."""
    for text in (TEXTS["Arabic"], TEXTS["Hebrew"]):
        monkeypatch.setattr(fonts, "SHAPES", True)
        clear()
        assert families(text) == ("DejaVu Sans",)
        monkeypatch.setattr(fonts, "SHAPES", False)
        clear()
        assert families(text) is None
    assert families("é ä ß Ω я") == families(unicodedata.normalize("NFD", "é ä")) == ("DejaVu Sans",)
    clear()


def test_numbers_are_the_same_in_all_figures_and_on_the_page(only_dejavu: None) -> None:
    titles = ["a dog", "犬 と 猫", "狗"]
    captions = [[("a", 0.5), ("dog", 0.5)], [("犬", 0.2), ("と", 0.3), ("猫", 0.5)], [("狗", 1.0)]]
    image, maps = Image.new("RGB", (30, 20)), torch.rand(3, 20, 30)
    drawn = [
        strip(image, maps, titles, words=captions),
        matrix(image, [Row("a method", maps, captions)], titles),
        words_figure(captions, titles),
    ]
    expected = {"犬 と 猫": 1, "狗": 2, "犬": 3, "と": 4, "猫": 5}
    for figure in drawn:
        said = [one for one, _, _ in texts_of(figure)]
        assert said.count("[2]") >= 2 and all(f"[{number}]" in said for number in expected.values())
        assert "[1] to [5]: CJK, Hiragana text, for which" in " ".join(said)
    page = words_html(captions, titles)
    for text, number in expected.items():
        assert f'<li value="{number}" dir="auto">{text}</li>' in page and (f">{text}</" in page)
    assert "<ol>" not in words_html(captions[:1], titles[:1])


def test_texts_from_the_right() -> None:
    assert leftward(TEXTS["Arabic"]) and leftward("3 " + TEXTS["Hebrew"]) and not leftward("dog " + TEXTS["Hebrew"])
    if families(TEXTS["Hebrew"]) is None:
        pytest.skip("this matplotlib does not shape texts")
    words = TEXTS["Hebrew"].split()
    figure = words_figure([[(word, 1.0) for word in words]])
    places = {text: box for text, box, axis in texts_of(figure) if axis is figure.axes[0]}
    lefts = [places[word].x0 for word in words]
    assert lefts == sorted(lefts, reverse=True), "the first word stands on the right"


@given(st.text(st.characters() | st.characters(categories=["Cc", "Cs", "Mn"]), max_size=200), st.floats(0.3, 6))
@settings(max_examples=60)
def test_lines_are_as_wide_as_asked_and_few(text: str, inches: float) -> None:
    lines = wrap(shown(text * 4), 9, inches)
    assert len(lines) <= 9
    for line in lines:
        # What no font draws is measured by guess, and a letter may have any number of marks.
        plain = families(line) is not None and not any(map(unicodedata.combining, line))
        assert not plain or len(line) == 1 or width(line, 9) <= inches + 1e-6
        assert all(one.isprintable() or one in "\u200c\u200d" for one in line)
    assert "".join("".join(lines).split()) == "".join(shown(text * 4).split()) or lines[-1] == "..."
    assert width(clipped(shown(text), 9, inches), 9) <= inches + 0.2


def test_a_long_word_costs_no_time_to_measure() -> None:
    assert len(wrap("x" * 100_000, 9, 1.0)) == 9 and clipped("x" * 100_000, 9, 1.0).endswith("x…")
    assert break_lines([], 9, 1.0) == [[]]


def test_widths_are_those_of_the_drawing() -> None:
    with own_settings():
        figure = Figure(figsize=(6, 1), dpi=200)
        for text in ("a dog on the grass", "WWW", "iiii", TEXTS["Hebrew"]):
            if families(text):
                figure.text(0, 0.5, text).update(lettering(text, 9))
        for text, box, _ in texts_of(figure):
            assert box.width / 200 == pytest.approx(width(text, 9), rel=0.06, abs=0.01)


def test_what_a_legend_says(only_dejavu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Legend(["a dog"]).note == "" and Legend(["a\x1b"]).label("a\x1b") == r"a\x1b"
    assert Legend(["狗"]).note == (
        "[1]: CJK text, for which a font is missing; JSON and HTML results spell it out"
        if fonts.SHAPES
        else "[1]: CJK text, for which a font or matplotlib 3.11 is missing; JSON and HTML results spell it out"
    )
    many = Legend(["狗", "개", "कु", "ก", "ኣ", "狗"])
    assert many.numbers == {"狗": 1, "개": 2, "कु": 3, "ก": 4, "ኣ": 5} and "and other text" in many.note
