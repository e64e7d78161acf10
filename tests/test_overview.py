"""The overview: which results are found, what their cards say, and that a page of them can be mailed."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_gradeclip import cli, overview as module
from captum_gradeclip.overview import find_results, overview
from captum_gradeclip.report import results_in
from captum_gradeclip.show.widget import template

from .fabricated import TEXTS, result, results
from .show.test_widget import HOSTILE, Parsed

Told = pytest.CaptureFixture[str]


def cards(page: str) -> list[str]:
    return page.split('<article class="gs-card"')[1:]


def titles(page: str) -> list[str]:
    return re.findall(r'<figcaption><span dir="auto">([^<]*)</span>', page)


def test_each_result_has_a_card_in_the_order_of_the_index(tmp_path: Path) -> None:
    scores = results(tmp_path, 12)
    page, count = overview(tmp_path)
    found = cards(page)
    assert count == len(found) == 13 and [f"photo {number}.jpg" in one for number, one in enumerate(found)] == [
        True
    ] * 12 + [False]
    assert "not explained: it is no picture" in found[-1]
    for told, card in zip(scores, found):
        assert [float(one) for one in re.findall(r'data-score="([^"]+)"', card)] == told
        assert titles(card) == list(TEXTS) and card.count('src="data:image/jpeg;base64,') == 3
        assert all(f"score {one:+.3f}" in card for one in told)
    assert [one.count("<li>") for one in found[:8]] == [1, 0, 0, 0, 0, 0, 0, 2] and "GradECLIP on scenes" in page
    thumbnail = Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", found[0])[0])))
    overlay = Image.open(tmp_path / "p0" / "overlay-0-a-red-circle.png")
    assert np.abs(np.asarray(thumbnail).astype(int) - np.asarray(overlay)).mean() < 10


def test_results_of_a_run_of_one_picture_and_of_several_runs(tmp_path: Path) -> None:
    result(tmp_path / "a", "a.jpg")
    assert find_results(tmp_path / "a") == [tmp_path / "a"] and overview(tmp_path / "a")[1] == 1
    results(tmp_path / "b", 2)
    result(tmp_path / ".hidden", "hidden.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert find_results(tmp_path) == [tmp_path / one for one in ("a", "b/p0", "b/p1")]
    page, count = overview(tmp_path)
    assert count == 4 and "b/p1" in page, "where it lies tells apart pictures of one name; an index inside tells what failed"
    with pytest.raises(ValueError, match="folder: no results of gradeclip explain lie in"):
        overview(_empty(tmp_path))
    with pytest.raises(FileNotFoundError, match="folder: there is no folder"):
        overview(tmp_path / "none")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_links_lead_to_the_page_or_the_figure(tmp_path: Path) -> None:
    result(tmp_path / "java:script" / "a b", "a.jpg")
    result(tmp_path / "java:script" / "c", "c.jpg")
    (tmp_path / "java:script" / "a b" / "strip.png").touch()
    (tmp_path / "java:script" / "c" / "strip.png").touch()
    (tmp_path / "java:script" / "c" / "explanation.html").touch()
    page, _ = overview(tmp_path)
    assert re.findall(r'href="([^"]+)"', page) == ["java%3Ascript/a%20b/strip.png", "java%3Ascript/c/explanation.html"]
    page, _ = overview(tmp_path / "java:script", tmp_path / "elsewhere")
    assert re.findall(r'href="([^"]+)"', page)[0] == "../java%3Ascript/a%20b/strip.png"


def test_texts_names_and_warnings_are_escaped_and_nothing_is_fetched(tmp_path: Path) -> None:
    result(tmp_path / "<b>&'", HOSTILE, (HOSTILE, "b"), warnings=[HOSTILE], options={"model": HOSTILE})
    page, _ = overview(tmp_path)
    parsed = Parsed(page)
    assert [tag for tag, _ in parsed.elements].count("script") == 1 and parsed.text.count("<script>alert(1)") >= 4
    assert not [one for _, attributes in parsed.elements for one in attributes if one.startswith("on")]
    assert page.split("<script>")[1].startswith(template("sheet.js")) and "://" not in page and "innerHTML" not in page
    assert all(one.get("src", "data:").startswith("data:") for _, one in parsed.elements)
    assert "\x1b" not in page and "\u202e" not in page and "default-src 'none'" in page


def test_results_that_somebody_has_changed_are_left_out(tmp_path: Path) -> None:
    results(tmp_path, 3)
    manifest = tmp_path / "p1" / "explanation.json"
    manifest.write_text(manifest.read_text().replace("photo 1", "photo 9"))
    (tmp_path / "p2" / "overlay-0-a-red-circle.png").write_bytes(b"no picture")
    page, count = overview(tmp_path)
    assert count == 3 and "photo 9" not in page and "not as they were written: 1 results" in page
    assert cards(page)[1].count("<img") == 2, "an overlay that cannot be read has no thumbnail"


def test_of_many_texts_those_of_the_highest_scores_are_shown(tmp_path: Path) -> None:
    texts = tuple(f"text {number}" for number in range(20))
    scores = result(tmp_path, "a.jpg", texts)
    page, _ = overview(tmp_path)
    best = sorted(sorted(range(20), key=lambda t: -scores[t])[: module.MOST_TEXTS])
    assert titles(page) == [texts[t] for t in best] and "and 14 texts of lower scores" in page


def test_classes_and_differences_are_called_so(tmp_path: Path) -> None:
    classes = [{"text": "whippet", "class": 172, "score": 7.5, "probability": 0.42}]
    told = {"image": "a", "texts": classes, "method": "GAME", "options": {}, "warnings": []}
    with results_in(tmp_path / "a").replacing(told):
        pass
    result(tmp_path / "b", "b.jpg", ("a dog",), options={"against": "a cat"})
    page, _ = overview(tmp_path)
    assert "logit +7.500, 42 %" in page and "a dog rather than a cat" in page and "difference " in page


def test_the_command(tmp_path: Path, capsys: Told) -> None:
    results(tmp_path, 2)
    for _ in range(2):  # its own page of an earlier run is replaced
        assert cli.main(["report", str(tmp_path)]) == 0
    assert "3 pictures are in" in capsys.readouterr().out
    assert len(cards((tmp_path / "report.html").read_text())) == 3
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert 'href="../p0/' not in (tmp_path / "out" / "report.html").read_text(), "there is nothing that it could lead to"
    (tmp_path / "report.html").write_text("mine")
    assert cli.main(["report", str(tmp_path)]) == 2 and (tmp_path / "report.html").read_text() == "mine"
    assert "report.html" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "none")]) == 2
    assert "folder: there is no folder" in capsys.readouterr().err and not (tmp_path / "none").exists()
