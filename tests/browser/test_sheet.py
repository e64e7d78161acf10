"""The report of 200 pictures in a browser: searched, sorted, filtered, on a narrow screen, without scripts."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from captum_gradeclip import cli

from ..fabricated import TEXTS, result, results
from ..show.test_widget import HOSTILE
from .conftest import Open

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    folder = tmp_path_factory.mktemp("results")
    scores = results(folder, 200, side=480)
    begun = monotonic()
    assert cli.main(["report", str(folder)]) == 0
    file = folder / "report.html"
    print(f"200 pictures of 3 texts: {file.stat().st_size / 1e6:.1f} MB in {monotonic() - begun:.1f} s")
    return file, scores


def names(page: Any) -> list[str]:
    """The names of the cards that are seen, in their order."""
    found: list[str] = page.eval_on_selector_all(
        ".gs-card", "some => some.filter(one => !one.hidden).map(one => one.dataset.name)"
    )
    return found


def test_it_is_sorted(written: tuple[Path, list[list[float]]], opened: Open) -> None:
    file, scores = written
    page = opened(file)
    assert names(page)[:2] == ["photo 0.jpg", "photo 1.jpg"] and len(names(page)) == 201
    order = page.locator(".gs-order")
    order.select_option("highest")
    best = sorted(range(200), key=lambda n: -max(scores[n]))
    assert names(page) == [*(f"photo {n}.jpg" for n in best), "notes.jpg"]
    page.locator(".gs-text").select_option(label=TEXTS[1])
    order.select_option("lowest")
    assert names(page) == [f"photo {n}.jpg" for n in sorted(range(200), key=lambda n: scores[n][1])]
    assert page.locator(".gs-card").first.locator(".gs-cell:visible").count() == 1
    page.locator(".gs-text").select_option("")
    order.select_option("warnings")
    assert {int(one.removeprefix("photo ").removesuffix(".jpg")) % 21 for one in names(page)[:9]} == {14}
    order.select_option("name")
    assert names(page)[:3] == ["notes.jpg", "photo 0.jpg", "photo 1.jpg"] and names(page)[-1] == "photo 199.jpg"


def test_it_is_searched(written: tuple[Path, list[list[float]]], opened: Open) -> None:
    page = opened(written[0])
    search = page.locator(".gs-search")
    begun = monotonic()
    search.fill("PHOTO 17")
    assert len(names(page)) == 12 and page.locator(".gs-count").inner_text() == "12 of 201 pictures"
    assert monotonic() - begun < 3
    search.fill("no picture")
    assert names(page) == ["notes.jpg"]
    search.fill("odd it")
    assert len(names(page)) == sum(n % 7 == 0 and n % 3 == 2 for n in range(200))
    search.fill("")
    page.locator(".gs-warned").check()
    assert len(names(page)) == 29 + 1 and page.get_by_text("1 warning", exact=True).first.is_visible()
    page.get_by_text("1 warning", exact=True).first.click()
    assert page.get_by_text("it is flat").first.is_visible()


def test_a_narrow_screen_and_one_without_scripts(written: tuple[Path, list[list[float]]], opened: Open) -> None:
    page = opened(written[0], 390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    plain = opened(written[0], java_script_enabled=False)
    assert plain.locator(".gs-card").count() == 201 and plain.locator(".gs-controls").is_hidden()


def test_what_was_passed_is_harmless(tmp_path: Path, opened: Open) -> None:
    result(tmp_path / "a", HOSTILE, (HOSTILE, "b"), warnings=[HOSTILE])
    assert cli.main(["report", str(tmp_path)]) == 0
    page = opened(tmp_path / "report.html")
    page.locator(".gs-text").select_option(index=1)
    page.locator(".gs-search").fill("<SCRIPT>alert(1)")
    assert page.locator(".gs-count").inner_text() == "1 picture" and page.locator("script").count() == 1
