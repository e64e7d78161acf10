"""A browser without windows, for pages that are opened from disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Open = Callable[..., Any]
"""Opens a file in a page of its own: ``opened(path, width=1280)``."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    """Opens pages, and at the end knows that none asked for anything, had an error, or showed a dialog."""
    contexts, found = [], []

    def open_file(path: Path, width: int = 1280, height: int = 900, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda one: one.url.startswith(("data:", path.as_uri())) or found.append(f"asks for {one.url}"))
        page.on("console", lambda one: found.append(one.text))
        page.on("pageerror", lambda one: found.append(str(one)))
        page.on("dialog", lambda one: (found.append(f"dialog {one.message}"), one.dismiss()))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert not found
