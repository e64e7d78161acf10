#!/usr/bin/env python3
"""Makes the links of README.md absolute, for the page on PyPI, where links to files of the repository lead nowhere.

``python .ci/absolute_links.py https://github.com/OWNER/NAME v0.2.0`` rewrites the README of the checkout that is built.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")


def absolute(text: str, repository: str, revision: str) -> str:
    """The text with each link to a file of the repository as an address: pictures as such, all else as GitHub shows it.

    >>> absolute("![a map](docs/demo.png) [how](docs/speed.md#words) [out](https://x.org)", "https://github.com/me/it", "v1")
    '![a map](https://github.com/me/it/raw/v1/docs/demo.png) [how](https://github.com/me/it/blob/v1/docs/speed.md#words) [out](https://x.org)'
    """

    def address(found: re.Match[str]) -> str:
        picture, words, path = found.groups()
        return f"{picture}[{words}]({repository}/{'raw' if picture else 'blob'}/{revision}/{path})"

    return LINK.sub(address, text)


def main() -> int:
    """Rewrites README.md in place."""
    if len(sys.argv) != 3:
        print(f"usage: python {sys.argv[0]} REPOSITORY REVISION", file=sys.stderr)
        return 2
    readme = ROOT / "README.md"
    readme.write_text(absolute(readme.read_text(), sys.argv[1].rstrip("/"), sys.argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
