"""The page: how long it takes to start, and how long a visitor waits for the first map after the click.

    python benchmarks/app.py [--clicks 5]

The command runs as users start it, in a process of its own; headless Chromium clicks. Without Chromium, the time of the
answer in Python alone is measured.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import statistics
import subprocess
import sys
from time import perf_counter

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def start() -> tuple[subprocess.Popen[str], str, float]:
    """The process of the page, its address, and the seconds from the command to the address."""
    started = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "captum_gradeclip", "app"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for told in process.stdout:
        if found := re.search(r"https?://\S+", told):
            return process, found[0], perf_counter() - started
    raise SystemExit(f"the page did not start: {process.wait()}")


def clicks(address: str, count: int) -> list[float]:
    """Seconds from a click to the map on the screen, each for another scene."""
    from playwright.sync_api import sync_playwright

    waited = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(address)
        for seed in range(1, count + 1):
            page.locator("#seed input").fill(str(seed))
            page.wait_for_function(f"document.querySelector('#preview').innerText.includes('scene {seed},')")
            before = page.evaluate("(document.querySelector('#result img.map') || {}).src || ''")
            clicked = perf_counter()
            page.locator("#explain").click()
            page.wait_for_function(
                "before => { const map = document.querySelector('#result img.map');"
                " return map && map.complete && map.src !== before }",
                arg=before,
                polling=20,
            )
            waited.append(perf_counter() - clicked)
            page.wait_for_timeout(500)
        browser.close()
    return waited


def answers(count: int) -> list[float]:
    """Seconds of the answers in Python, without server and browser."""
    from captum_gradeclip.app import Models, Named, Query, views
    from captum_gradeclip.app.desk import Desk
    from captum_gradeclip.app.picture import texts_about

    desk, spent = Desk(Models([Named("scenes")])), []
    desk.models["scenes"]  # loaded before the page opens
    for seed in range(1, count + 1):
        started = perf_counter()
        for _, found in desk.explain(Query(tuple(texts_about(seed)), seed)):
            views.result(found)
        spent.append(perf_counter() - started)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=5)
    count = parser.parse_args().clicks
    process, address, seconds = start()
    try:
        print(f"from the command to the page: {seconds:.1f} s")
        if CHROMIUM is None:
            print("there is no Chromium, so that no click is measured")
        else:
            waited = clicks(address, count)
            print(f"from the click to the map: first {waited[0]:.2f} s, median {statistics.median(waited):.2f} s")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    spent = answers(count)
    print(f"of that, in Python: first {spent[0]:.2f} s, median {statistics.median(spent):.2f} s")


if __name__ == "__main__":
    main()
