"""``gradeclip report``: all results in a folder on one page, which can be searched, sorted and mailed."""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path

from ..progress import track
from .common import Screen, Subparsers, add_command, console

HELP = "put all results of explain in a folder on one page to search, to sort and to mail"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    parser = add_command(subparsers, "report", run, HELP, place="the folder itself")
    parser.add_argument(
        "folder", type=Path, help="a folder that explain has written into, or one that holds several of these"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes ``report.html``, and ``report.json``, by which a later run knows its own file."""
    from ..files import write_text
    from ..overview import overview
    from ..results import Results

    chosen: Path = arguments.out
    out = arguments.folder if chosen is arguments.parser.get_default("out") else chosen
    results = Results(out, "report.json", re.compile(r"report\.html"))
    if arguments.folder.is_dir():
        results.check(["report.html"])
    bar = partial(track, title="making thumbnails", console=console)
    page, count = overview(arguments.folder, out, bar)
    with results.replacing({"folder": str(arguments.folder), "pictures": count}) as part:
        write_text(part / "report.html", page)
    size = len(page.encode()) / 1e6
    Screen().print(f"{count} pictures are in {out / 'report.html'}, {size:.1f} MB", soft_wrap=True, markup=False)
