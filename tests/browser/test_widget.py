"""The widget in a browser: its colors are those of the figures; clicks, keys, the pointer and the slider are answered."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import explain, report, scenes
from captum_gradeclip.explain import Explanation
from captum_gradeclip.maps import to_pixels
from captum_gradeclip.show import Scale, document, overlay

from .conftest import Open

pytestmark = pytest.mark.slow

TEXTS = ["a red circle", "a red circle and a blue square", "something green"]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture(scope="module")
def found() -> Explanation:
    model, _, tokenizer = scenes.load()
    picture = scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 300)[0].resize((300, 200))
    return explain(model, picture, TEXTS, tokenizer, regions=True)


@pytest.fixture
def file(found: Explanation, tmp_path: Path) -> Path:
    path = tmp_path / "explanation.html"
    path.write_text(report.page(found))
    return path


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB")


def drawn(page: Any) -> np.ndarray:
    return np.asarray(decoded(page.locator(".gc-map").evaluate("one => one.toDataURL()"))).astype(int)


def ready(page: Any) -> Any:
    page.locator(".gc-view[data-drawn]").first.wait_for()
    return page


def test_colors_are_those_of_the_overlay(found: Explanation, file: Path, opened: Open) -> None:
    page = ready(opened(file))
    base = decoded(page.locator(".gc-stage img").get_attribute("src"))
    frame = found.pictures[0].frame_of(found.maps[0]).resized(base.size)
    fine, shared = to_pixels(found.maps[0], frame), Scale.of(to_pixels(found.maps[0], frame))
    assert found.regions is not None
    words = torch.stack([one for _, one in found.regions[0][1]])

    def differs(expected: Image.Image) -> float:
        return float(np.abs(drawn(page) - np.asarray(expected)).mean())

    for t in (0, 1):
        page.locator(".gc-choose").nth(t).click()
        assert differs(overlay(base, fine[t], scale=shared)) < 1.0, "decoders of JPEG differ by a step"
        assert differs(overlay(base, fine[1 - t], scale=shared)) > 2.0
    page.locator(".gc-text").nth(1).get_by_role("button", name="blue", exact=True).click()
    region = to_pixels(words[5], frame)
    own, common = (overlay(base, region, scale=Scale.of(some)) for some in ([words[5]], words))
    assert differs(own) < 1.0 and differs(overlay(base, fine[1], scale=shared)) > 2.0
    page.locator(".gc-each").uncheck()
    assert differs(common) < 1.0


def test_a_word_is_clicked_and_taken_back(file: Path, opened: Open) -> None:
    page = ready(opened(file))
    before = drawn(page)
    card, below = page.locator(".gc-text").nth(0), page.locator(".gc-shown")
    red = card.get_by_role("button", name="red", exact=True)
    red.click()
    assert red.get_attribute("aria-pressed") == "true" and np.abs(drawn(page) - before).mean() > 1
    twin = below.get_by_role("button", name="red", exact=True)
    assert twin.get_attribute("aria-pressed") == "true" and page.locator(".gc-low").inner_text().startswith("-")
    twin.click()
    assert red.get_attribute("aria-pressed") == "false" and np.array_equal(drawn(page), before)
    page.locator(".gc-choose").nth(2).click()
    assert below.inner_text().split() == ["something", "green"]
    assert page.locator(".gc-chosen .gc-title").inner_text() == "something green"


def test_a_patch_is_pointed_at(found: Explanation, file: Path, opened: Open) -> None:
    page = ready(opened(file))
    page.locator(".gc-choose").nth(1).click()
    assert found.regions is not None and isinstance(found.maps, torch.Tensor)
    words = torch.stack([one for _, one in found.regions[0][1]])
    row, column = divmod(int(words[1].argmax()), 12)  # where the first "red" goes
    frame = page.locator(".gc-stage").bounding_box()
    left, top, right, bottom = found.pictures[0].frame_of(found.maps[0]).box
    x, y = (left + (column + 0.5) / 12 * (right - left)) / 300, (top + (row + 0.5) / 12 * (bottom - top)) / 200
    page.mouse.move(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])
    value, told = page.locator(".gc-reading span").all_inner_texts()
    assert value.startswith(f"patch in row {row + 1}, column {column + 1}: ") and value.endswith(" cosine")
    assert abs(float(value.split()[-2]) - float(found.maps[0, 1, row, column])) < 1e-3
    best = words[:, row, column]
    goes = [TEXTS[1].split()[k] for k in best.argsort(descending=True) if best[k] >= best.max() / 2]
    assert told.removeprefix("goes with: ").split(", ")[0].split()[0] == goes[0]
    assert page.locator(".gc-text").nth(1).locator(".gc-goes").count() == len(goes)
    page.mouse.move(frame["x"] + 2, frame["y"] + 2)  # which the crop of the center leaves out
    assert page.locator(".gc-patch").is_hidden() and page.locator(".gc-goes").count() == 0


def test_keys_are_enough(file: Path, opened: Open) -> None:
    page = ready(opened(file))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "gc-stage"
    page.keyboard.press("ArrowRight")
    first = page.locator(".gc-reading span").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert first != page.locator(".gc-reading span").first.inner_text() and page.locator(".gc-patch").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".gc-patch").is_hidden()
    page.locator(".gc-opacity").focus()
    page.keyboard.press("Home")
    assert page.locator(".gc-map").evaluate("one => getComputedStyle(one).opacity") == "0"
    page.keyboard.press("End")
    assert page.locator(".gc-map").evaluate("one => getComputedStyle(one).opacity") == "1"
    page.locator(".gc-text .gc-word").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator(".gc-text .gc-word").nth(1).get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_scrolling_aside(file: Path, opened: Open, scheme: str) -> None:
    page = ready(opened(file, 390, 844, color_scheme=scheme, has_touch=True))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".gc-shown .gc-word").nth(1).tap()
    assert page.locator(".gc-shown .gc-word").nth(1).get_attribute("aria-pressed") == "true"
    page.locator(".gc-stage").tap()
    assert "patch in row" in page.locator(".gc-reading").inner_text()
    page.locator(".gc-text").nth(2).locator(".gc-choose").tap()
    assert page.locator(".gc-stage").evaluate("one => one.getBoundingClientRect().top") >= 0, "the picture is in sight again"
    back, letters = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    light = [sum(map(int, one[4:-1].split(","))) for one in (back, letters)]
    assert (light[0] > 600 and light[1] < 150) if scheme == "light" else (light[0] < 150 and light[1] > 600)


def test_two_widgets_do_not_mix(found: Explanation, tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "two.html"
    path.write_text(document("two", report.html(found) + report.html(found)))
    page = ready(opened(path))
    page.locator(".gradeclip").nth(1).locator(".gc-choose").nth(2).click()
    titles = [one.locator(".gc-chosen .gc-title").inner_text() for one in page.locator(".gradeclip").all()]
    assert titles == [TEXTS[0], TEXTS[2]]


def test_what_was_passed_is_harmless(found: Explanation, tmp_path: Path, opened: Open) -> None:
    assert found.words is not None and found.regions is not None
    words = [[(HOSTILE, weight) for _, weight in text] for text in found.words[0]]
    regions = [[(HOSTILE, one) for _, one in text] for text in found.regions[0]]
    bad = replace(found, texts=[HOSTILE] * 3, names=[HOSTILE], words=[words], regions=[regions], warnings=[HOSTILE])
    path = tmp_path / "bad.html"
    path.write_text(report.page(bad, {HOSTILE: HOSTILE}))
    page = ready(opened(path))
    page.locator(".gc-text .gc-word").nth(1).click()
    page.locator(".gc-stage").hover()
    assert page.locator(".gc-shown .gc-word").first.inner_text() == HOSTILE and page.locator("script").count() == 1


def test_without_scripts_there_are_overlays(file: Path, opened: Open) -> None:
    page = opened(file, java_script_enabled=False)
    assert [one.is_visible() for one in page.locator(".gc-choose img").all()] == [True] * 3
    assert page.locator(".gc-choose img").first.bounding_box()["width"] > 200
    assert page.locator(".gc-controls").is_hidden() and page.locator(".gc-note").first.is_visible()


def test_a_notebook_runs_the_script_of_each_output(found: Explanation, tmp_path: Path, opened: Open) -> None:
    """A notebook sets the HTML of an output, in which scripts do not run, and then runs a copy of each script."""
    path = tmp_path / "notebook.html"
    path.write_text(document("a notebook", "<div id=outputs></div>"))
    page = opened(path)
    for count in (1, 2):
        page.evaluate(
            """html => {
                const output = document.getElementById("outputs").appendChild(document.createElement("div"));
                output.innerHTML = html;
                for (const script of output.querySelectorAll("script")) {
                    const copy = document.createElement("script");
                    copy.textContent = script.textContent;
                    script.replaceWith(copy);
                }
            }""",
            report.html(found),
        )
        page.locator(".gc-view[data-drawn]").nth(count - 1).wait_for()
    page.locator(".gradeclip").nth(0).locator(".gc-text .gc-word").nth(1).click()
    assert [one.locator("[aria-pressed=true].gc-word").count() for one in page.locator(".gradeclip").all()] == [2, 0]
