"""Texts in figures and pages stand there as they are, whatever they are; words have the colors and bars of their weights."""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from captum_gradeclip import show
from captum_gradeclip.experiments.tables import draw_curves
from captum_gradeclip.show import Row, Style, matrix, strip, words_figure, words_html
from captum_gradeclip.show.page import GRAY
from captum_gradeclip.show.words import _MOST_LINES, word_colors

from .looking import collisions, contrast, texts_of

IMAGE = Image.new("RGB", (30, 20))
HOSTILE = ["$5^$6", r"$\frac{$", r"\$5 $6", "a \x1b[2J \x00 b", "\udcfc", "\u202eb", "日本 😀", "x" * 2000, "word " * 300]
SIGNED = [("a", 0.0), ("red", -1.0), ("dog", 2.0)]


def figures(text: str) -> list[Figure]:
    caption = [(word, 0.5) for word in text.split(" ")]
    curve = {mode: {"x": [0.0, 1.0]} for mode in ("deletion", "insertion")}
    return [
        strip(IMAGE, torch.rand(1, 20, 30), [text], words=[caption], notes=[text]),
        matrix(IMAGE, [Row(text, torch.rand(1, 20, 30), [caption])], [text], notes=[text]),
        words_figure([caption], [text], notes=[text]),
        draw_curves([{"id": "a", "method": text, "curves": {text: curve}}], None),
    ]


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # of curves, whose names are those of methods
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_every_text_in_a_figure_is_drawn_as_it_is(text: str) -> None:
    for figure in figures(text):
        assert max(figure.get_size_inches()) < 100
        figure.savefig(io.BytesIO(), dpi=20)
        texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_text()]
        # Ticks of an axis are matplotlib's own, whose numbers may be formulas.
        passed = [one for one in texts if any(part in one.get_text() for part in ("$5", "frac", "x1b", "udcfc"))]
        assert all(not one.get_parse_math() and not one.get_usetex() for one in passed)
        assert passed or not any(part in text for part in ("$5", "frac", "\x1b", "\udcfc"))
        assert all(one.isprintable() for text in texts for one in text.get_text().split("\n"))


@pytest.mark.parametrize("setting", [{"text.usetex": True}, {"font.size": 40.0, "axes.titlesize": 60, "savefig.dpi": 7}])
def test_figures_do_not_depend_on_the_users_settings(setting: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Made and drawn outside of the package's own functions, as by ``explain(...).plot().savefig``; LaTeX is not needed."""

    def drawn() -> list[bytes]:
        files = []
        for figure in figures("$a$ dog")[:3]:
            figure.savefig(file := io.BytesIO(), format="png", dpi=50)
            files.append(file.getvalue())
        return files

    torch.manual_seed(0)
    expected = drawn()
    for name, value in setting.items():
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    torch.manual_seed(0)
    assert drawn() == expected
    before = dict(matplotlib.rcParams)
    with show.own_settings():
        assert not matplotlib.rcParams["text.usetex"] and matplotlib.rcParams["font.size"] == 10
    assert dict(matplotlib.rcParams) == before
    curves = figures("$a$ dog")[3]
    assert {one.get_usetex() for one in curves.findobj(Text) if isinstance(one, Text) and "$" in one.get_text()} == {False}


def test_curves_are_saved_without_latex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    show.save(figures("a dog")[3], tmp_path / "curves.png", 20)
    assert Image.open(tmp_path / "curves.png").width > 20


@given(st.text(st.characters() | st.characters(categories=["Cc", "Cs"]), max_size=300))
@settings(max_examples=100)
def test_pages_are_printable_and_have_no_scripts(text: str) -> None:
    page = words_html([[(text, 1.0)]], [text], notes=[text])
    page.encode()
    assert all(one.isprintable() or one in "\n\u200c\u200d" for one in page) and "<script" not in page


def test_a_long_text_has_bounded_lines_and_bars() -> None:
    figure = words_figure([[("word", 1.0)] * 5000], ["title " * 5000])
    words = [box for text, box, axis in texts_of(figure) if axis is figure.axes[0]]
    assert len({round(box.y0) for box in words}) == _MOST_LINES and figure.get_figheight() < 20


@pytest.mark.parametrize("width", [None, 60, 84, 178])
def test_words_and_bars_never_touch(width: float | None) -> None:
    captions = [
        [("a", 0.1), ("small", 0.0), ("extraordinarily" * 3, 0.4), ("octagon", 0.5)],
        SIGNED,
        [],
        [(f"word{number}", float(number)) for number in range(40)],
    ]
    titles = ["a title " * 12, "b", "c", "d"]
    for signed in (None, False):
        figure = words_figure(
            captions, titles, notes=["score +0.1"] * 4, unit="share", signed=signed, style=Style(width=width)
        )
        assert not collisions(figure)
        assert width is None or figure.get_figwidth() * 25.4 == pytest.approx(width)


def test_bars_are_as_long_as_weights_on_one_scale() -> None:
    figure = words_figure([SIGNED, [("cat", 4.0)]], unit="cosine")
    lengths = []
    for axis in figure.axes[1::2]:
        bars = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
        lengths += [bar.get_width() for bar in bars]
        assert len({round(bar.get_x(), 6) for bar in bars}) == 1, "all begin at zero"
    assert np.allclose(np.array(lengths) / lengths[-1], [0, -0.25, 0.5, 1.0])
    said = [text for text, _, _ in texts_of(figure)]
    assert {"-1.00", "+2.00", "+4.00", "cosine"} <= set(said) and "0" in said
    unsigned = words_figure([SIGNED], signed=False)
    widths = [patch.get_width() for patch in unsigned.axes[1].patches if isinstance(patch, Rectangle)]
    assert widths[1] == 0 < widths[2] and "-1.00" in [text for text, _, _ in texts_of(unsigned)], "the number still tells"


def test_colors_of_words_are_their_equation_and_letters_stand_out() -> None:
    """Red for, blue against, white for nothing; black letters have far more than the contrast of 4.5 that texts need."""
    for caption, signed in (
        (SIGNED, None),
        (SIGNED, False),
        ([("a", float("nan")), ("b", 3.0)], None),
        ([("a", 0.0)], None),
    ):
        weights = [0.0 if not np.isfinite(w) or (signed is False and w < 0) else w for _, w in caption]
        most = max(map(abs, weights)) or 1.0
        for weight, color in zip(weights, word_colors(caption, signed)):
            end = np.array((178, 24, 43) if weight > 0 else (33, 102, 172), dtype=float)
            assert np.abs(np.array(color) - (255 + 0.65 * abs(weight) / most * (end - 255))).max() <= 0.5
            assert contrast(color, (0, 0, 0)) >= 4.5
    assert contrast([int(GRAY[n : n + 2], 16) for n in (1, 3, 5)], (255, 255, 255)) >= 4.5, "the gray of notes"
    page = words_html([SIGNED])
    backgrounds = re.findall(r"background:rgb\((\d+),(\d+),(\d+)\);color:#000", page)
    assert [tuple(map(int, one)) for one in backgrounds] == word_colors(SIGNED)


def test_a_wide_figure_is_drawn_with_fewer_dots(tmp_path: Path) -> None:
    figure = Figure(figsize=(700, 1))
    show.save(figure, tmp_path / "wide", dpi=130)
    assert [one.name for one in tmp_path.iterdir()] == ["wide.png"]
    assert Image.open(tmp_path / "wide.png").width < 2**16
