#!/usr/bin/env python3
"""Lists the links of the pages to other sites that are dead: ``python docs/links.py``, which needs a network."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "captum_gradeclip", "examples")
LINK = re.compile(r"https?://[^\s\"'`<>)\]}]+")


def links() -> dict[str, str]:
    """Each link with the file that has it."""
    files = [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.[mp][dy]"))]
    found = {}
    for file in sorted(files):
        if not {"_build", "generated", "gallery"} & {*file.relative_to(ROOT).parts}:
            for link in LINK.findall(file.read_text()):
                found.setdefault(link.rstrip(".,;:"), str(file.relative_to(ROOT)))
    return {link: file for link, file in found.items() if "{" not in link}


def main() -> int:
    """Asks for each link; returns 1 if one is dead."""
    dead = 0
    for link, file in links().items():
        try:
            request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0"})
            urllib.request.urlopen(request, timeout=20).close()
        except (urllib.error.URLError, OSError) as error:
            dead += 1
            print(f"{file}: {link}: {error}")
    print(f"{len(links())} links, {dead} dead")
    return int(dead > 0)


if __name__ == "__main__":
    sys.exit(main())
