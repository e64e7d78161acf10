"""The page in headless Chromium, as a visitor uses it. Skipped where there is no Chromium; ``.ci/run`` installs it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import captum_gradeclip
from captum_gradeclip.adapters.loading import Loaded, load
from captum_gradeclip.app import Limits, Models, Named, Query
from captum_gradeclip.app.desk import Desk
from captum_gradeclip.app.picture import scene_picture, texts_about
from captum_gradeclip.app.server import Place, serving

from ..conftest import FAMILIES, stir
from ..scores.test_match import blip
from .conftest import words_of
from .test_picture import HOSTILE

pytest.importorskip("gradio", reason="there is no gradio")
api = pytest.importorskip("playwright.sync_api", reason="there is no playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
PATIENCE = 60_000
"""Milliseconds, since other tests may run beside these."""
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOTS = os.environ.get("GRADECLIP_SHOTS")
"""A folder for pictures of the page, to be looked at; none are made without it."""


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk(Models([Named("scenes")]))


@pytest.fixture(scope="module")
def address(desk: Desk) -> Iterator[str]:
    def build() -> Any:
        from captum_gradeclip.app.page import build

        return build(desk)

    with serving(build, Place(), desk.limits) as place:
        yield place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    context = browser.new_context(viewport=WIDE)
    page = opened(context, address)
    yield page
    assert page.outside == [], "the page asked another server"
    context.close()


def opened(context: Any, address: str) -> Any:
    """A tab in which the page is ready; ``outside`` are the requests that it made to other servers."""
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.outside = []

    def see(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            page.outside.append(request.url)

    page.on("request", see)
    page.goto(address)
    page.wait_for_selector("#explain")
    return page


def explain(page: Any) -> None:
    """Presses the button, and waits for the link that comes last."""
    before = page.locator("#link input, #link textarea").input_value()
    page.locator("#explain").click()
    page.wait_for_function(
        "before => { const now = document.querySelector('#link input, #link textarea').value;"
        " return document.querySelector('#result .refusal') || (now && now !== before) }",
        arg=before,
    )


def choose(page: Any, kind: str) -> None:
    page.get_by_label(kind, exact=True).check()


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=Path(SHOTS, f"{name}.png"), full_page=True)


def test_explain_compare_click_a_word_and_take_the_files_home(page: Any, desk: Desk) -> None:
    assert page.locator("#texts textarea").input_value().splitlines() == texts_about(0)
    explain(page)
    assert page.locator("#result figure").count() == len(texts_about(0))
    *_, (_, found) = desk.explain(Query(tuple(texts_about(0)), 0))
    shown = page.locator("#result figcaption").first.inner_text()
    assert f"model: cosine {float(found.explanations[0].scores[0, 0]):+.3f}" in shown  # type: ignore[index]
    shot(page, "explained-wide")

    page.locator("#opacity input[type=range]").fill("0.25")
    page.wait_for_function("getComputedStyle(document.querySelector('#result img.map')).opacity === '0.25'")
    page.locator("#opacity input[type=range]").fill("1")
    before = page.locator("#result img.map").last.get_attribute("src")
    page.locator("#shared input").uncheck()
    page.wait_for_function("before => [...document.querySelectorAll('#result img.map')].pop().src !== before", arg=before)

    words = page.locator("#result button.word")
    words.nth(2).focus()
    page.keyboard.press("Enter")  # as a keyboard reaches it
    page.wait_for_selector("#region figure")
    assert words.nth(2).inner_text() in page.locator("#region strong").inner_text()
    shot(page, "word-wide")

    page.locator("#make").click()
    page.wait_for_selector("#files a")
    names = page.locator("#files a").all_inner_texts()
    assert {"GradECLIP-strip.png", "GradECLIP-strip.pdf", "GradECLIP-maps.npz", "explain.py"} <= set(names)
    with page.expect_download() as download:
        page.locator("#files a", has_text="strip.png").first.click()
    assert Image.open(download.value.path()).width > 300


def test_methods_stand_side_by_side(page: Any) -> None:
    page.locator("#methods input").click()
    for name in ("GAME", "MaskCLIP"):
        page.get_by_role("option", name=name, exact=True).click()
    page.keyboard.press("Escape")
    explain(page)
    assert page.locator("#result section h3").all_inner_texts()[:3] == [
        one for one in page.locator("#result section h3").all_inner_texts() if re.search(r"\d s$", one)
    ]
    assert page.locator("#result figure").count() == 3 * len(texts_about(0))
    shot(page, "compare-wide")


def test_why_one_text_rather_than_another(page: Any) -> None:
    page.locator("#texts textarea").fill(texts_about(0)[0])
    page.locator("#contrast input").check()
    page.locator("#against textarea, #against input").fill("something blue")
    explain(page)
    assert "rather than something blue" in page.locator("#result figcaption").inner_text()
    assert "against=something" in page.url


def test_errors_are_told_and_the_page_lives_on(page: Any) -> None:
    page.locator("#texts textarea").fill("")
    explain(page)
    assert "expected at least one text" in page.locator("#result [role=alert]").inner_text()
    page.locator("#texts textarea").fill("x" * 10_000)
    page.locator("#explain").click()
    page.wait_for_function("document.querySelector('#result [role=alert]').innerText.includes('10,000')")
    shot(page, "error-wide")
    page.locator("#texts textarea").fill("<img src=x>\n${1+1}\n{{a}}")
    page.on("dialog", lambda dialog: pytest.fail("text was run as a script"))
    page.locator("#explain").click()
    page.wait_for_selector("#result figure")
    assert page.locator("#result figcaption strong").all_inner_texts() == [
        "<img src=x>",
        "${1+1}",
        "{{a}}",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_uploads(page: Any, tmp_path: Path, name: str) -> None:
    content, said = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    choose(page, "a picture of mine")
    page.on("dialog", lambda dialog: pytest.fail("a file was run as a script"))
    page.locator("#file input[type=file]").set_input_files(tmp_path / name)
    page.wait_for_selector("#preview [role=alert], [data-testid=toast-body]")
    told = page.locator("#preview [role=alert], [data-testid=toast-body]").first.inner_text()
    assert said in told or "empty" in told.lower(), told
    assert "/tmp" not in told
    explain(page)
    assert "upload a picture" in page.locator("#result [role=alert]").inner_text()


def test_a_file_over_the_limit_is_refused_and_the_next_one_taken(page: Any, tmp_path: Path) -> None:
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(300_000_000)
    choose(page, "a picture of mine")
    page.locator("#file input[type=file]").set_input_files(tmp_path / "large.jpg")
    page.wait_for_selector("[data-testid=toast-body]")
    assert "size" in page.locator("[data-testid=toast-body]").inner_text().lower()
    shot(page, "large-wide")
    scene_picture(7).save(tmp_path / "small.png")
    page.reload()
    page.wait_for_selector("#explain")
    choose(page, "a picture of mine")
    page.locator("#file input[type=file]").set_input_files(tmp_path / "small.png")
    page.wait_for_selector("#preview img")
    assert "small.png, 448 x 448 pixels" in page.locator("#preview").inner_text()
    page.locator("#texts textarea").fill(texts_about(7)[0])
    explain(page)
    assert page.locator("#result figure").count() == 1 and "scene=" not in page.url


def test_a_link_brings_everything_back(page: Any, browser: Any, address: str) -> None:
    page.locator("#seed input").fill("5")
    page.wait_for_function("document.querySelector('#preview').innerText.includes('scene 5')")
    page.locator("#texts textarea").fill("something blue\nä <b> & ?")
    explain(page)
    link, captions = page.url, page.locator("#result figcaption").all_inner_texts()
    assert "scene=5" in link
    other = browser.new_context(viewport=NARROW)
    restored = opened(other, link)
    restored.wait_for_selector("#result figure")
    assert restored.locator("#result figcaption").all_inner_texts() == captions
    assert restored.locator("#texts textarea").input_value() == "something blue\nä <b> & ?"
    assert restored.locator("#seed input").input_value() == "5"
    restored.goto(f"{address}?scene=6")
    restored.wait_for_selector("#result figure")
    assert restored.locator("#texts textarea").input_value().splitlines() == texts_about(6)
    other.close()


def test_a_narrow_screen_needs_no_scrolling_to_the_side(browser: Any, address: str) -> None:
    context = browser.new_context(viewport=NARROW, has_touch=True)
    page = opened(context, address)
    explain(page)
    page.locator("#result button.word").first.tap()
    page.wait_for_selector("#region figure")
    page.wait_for_function("document.querySelector('#region figure').getBoundingClientRect().top < window.innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    shot(page, "explained-narrow")
    context.close()


def test_no_file_of_the_server_and_no_function_is_open_to_programs(browser: Any, address: str) -> None:
    context = browser.new_context()
    for path in ("gradio_api/file=/etc/passwd", "file=/etc/passwd", "gradio_api/file=../../../../etc/passwd"):
        assert context.request.get(f"{address}{path}").status in (403, 404)
    told = context.request.get(f"{address}gradio_api/info").json()
    assert not told["named_endpoints"] and not told["unnamed_endpoints"]
    context.close()


def test_a_closed_tab_leaves_the_page_alive(browser: Any, address: str) -> None:
    context = browser.new_context(viewport=WIDE)
    page = opened(context, address)
    page.locator("#explain").click()
    context.close()
    context = browser.new_context(viewport=WIDE)
    page = opened(context, address)
    explain(page)
    assert page.locator("#result figure").count() == len(texts_about(0))
    context.close()


def test_twenty_visitors_at_once(browser: Any, address: str, desk: Desk) -> None:
    """Each has a scene of its own, and gets its own maps."""
    # A browser keeps at most six connections to a server, of which each tab holds one or two.
    contexts = [browser.new_context(viewport=NARROW) for _ in range(10)]
    pages = [opened(contexts[seed // 2], f"{address}?{Query((texts_about(seed)[0],), seed).link()}") for seed in range(20)]
    for seed, page in enumerate(pages):
        page.wait_for_selector("#result figure")
        *_, (_, found) = desk.explain(Query((texts_about(seed)[0],), seed))
        caption = page.locator("#result figcaption").inner_text()
        assert texts_about(seed)[0] in caption
        assert f"{float(found.explanations[0].scores[0, 0]):+.3f}" in caption  # type: ignore[index]
    for context in contexts:
        context.close()


def test_a_password_is_asked_for_and_files_stay_in_a_temporary_folder(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    desk = Desk(Models([Named("scenes")]), Limits())

    def build() -> Any:
        from captum_gradeclip.app.page import build

        return build(desk)

    threads = threading.active_count()
    with serving(build, Place(password="secret"), desk.limits) as address:
        context = browser.new_context(viewport=NARROW)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        assert context.request.get(f"{address}config").status == 401
        page.goto(address)
        page.wait_for_selector("input[type=password]")
        page.locator("input").first.fill("anybody")
        page.locator("input[type=password]").fill("secret")
        page.locator("button").first.click()
        page.wait_for_selector("#explain")
        explain(page)
        context.close()
    assert list((tmp_path / "here").iterdir()) == []
    assert threading.active_count() <= threads + 5


def test_one_of_several_models_is_chosen(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of two encoders, one with a matching head, and a classifier."""
    kept = {"scenes": load("scenes"), "head": Loaded(stir(blip(), amount=0.2), words_of("a", "red", "circle"))}
    kept["classes"] = Loaded(stir(FAMILIES["torchvision ViT"].build()))  # type: ignore[operator]
    monkeypatch.setattr("captum_gradeclip.app.models.load", lambda name, *_: kept[name])
    desk = Desk(Models([Named(name) for name in kept]))

    def build() -> Any:
        from captum_gradeclip.app.page import build

        return build(desk)

    with serving(build, Place(), desk.limits) as address:
        context = browser.new_context(viewport=WIDE)
        page = opened(context, address)

        def choose_model(name: str) -> None:
            page.locator("#model input").click()
            page.get_by_role("option", name=name, exact=True).click()

        choose_model("head")
        page.get_by_label("of the matching head (logit)").check()
        page.locator("#texts textarea").fill("a red circle")
        explain(page)
        assert "model: logit" in page.locator("#result figcaption").inner_text()
        page.locator("#result button.word").nth(1).click()
        page.wait_for_selector("#region figure")
        assert page.locator("#region strong").inner_text() == "red"
        shot(page, "match-wide")
        link = page.url
        choose_model("classes")
        page.wait_for_function("document.querySelector('#texts textarea').value === ''")
        explain(page)
        page.wait_for_function("document.querySelector('#result').innerText.includes('probability')")
        assert page.locator("#result figure").count() == 3
        page.goto(link)
        page.wait_for_selector("#result figcaption:has-text('model: logit')")
        assert page.get_by_label("of the matching head (logit)").is_checked()
        with (
            pytest.raises(OSError, match="port"),
            serving(build, Place(port=int(address.split(":")[-1].strip("/"))), Limits()),
        ):
            pass
        context.close()


def test_the_space_runs() -> None:
    """As a Space runs it: a program of its own, which others reach."""
    import socket
    import urllib.request
    from time import monotonic, sleep

    place = Path(captum_gradeclip.__file__).parent / "app" / "space"
    header = (place / "README.md").read_text().split("---")[1]
    assert {"sdk: gradio", "app_file: app.py"} <= set(header.splitlines())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(captum_gradeclip.__file__).parents[1])
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": root}
    process = subprocess.Popen([sys.executable, str(place / "app.py")], env=environment, cwd=place)
    try:
        until = monotonic() + 2 * PATIENCE / 1000
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as reply:
                    assert b"gradio" in reply.read()
                    break
            except OSError:
                assert process.poll() is None and monotonic() < until
                sleep(1)
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_when_it_is_told_to(tmp_path: Path, end: signal.Signals) -> None:
    root = str(Path(captum_gradeclip.__file__).parents[1])
    (tmp_path / "here").mkdir()
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "captum_gradeclip", "app", "--study", "--pictures", "4", "--answers", "a.csv"]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path / "here", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    told = process.stdout.readline()
    assert re.search(r"the page is at http://127\.0\.0\.1:\d+/ until you press Ctrl-C", told), told
    process.send_signal(end)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "0 participants" in said
    assert not list((tmp_path / "here").iterdir()) and not list((tmp_path / "temporary").glob("gradeclip-*"))


def test_the_study_from_the_first_question_to_the_last(browser: Any, tmp_path: Path) -> None:
    from captum_gradeclip.app.room import Room
    from captum_gradeclip.app.study import pairs_of, scene_material

    file = tmp_path / "answers.csv"
    room = Room(pairs_of(load("scenes"), scene_material(8), "GradECLIP"), pictures=4, examples=1, answers=file)

    def build() -> Any:
        from captum_gradeclip.app.study_page import build

        return build(room)

    with serving(build, Place(), Limits()) as address:
        for viewport in (WIDE, NARROW):
            context = browser.new_context(viewport=viewport)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.goto(address)
            page.locator("#begin").click()
            for place in range(6):
                page.wait_for_selector(f"#question [data-place='{place}']")
                shot(page, f"study-{place}-{viewport['width']}")
                with_maps = page.locator("#question .captions img").count() == 3
                assert with_maps == (place >= 3), "Set I has no maps"
                if place in (0, 3):
                    assert "the higher one" in page.locator("#question").inner_text()
                    page.locator("#onward").click()
                else:
                    assert "score" not in page.locator("#question .captions").inner_text()
                    page.locator("#first" if place % 2 else "#second").click()
            page.wait_for_selector("#question :text('Thank you')")
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            shot(page, f"study-end-{viewport['width']}")
            context.close()
    assert [one.participant for one in room.replies] == [0] * 4 + [1] * 4 and room.outcome.participants == 2
    assert len(file.read_text().splitlines()) == 9
