#!/usr/bin/env python3
"""Counts what may not grow: `Any` in the package, and the lines of code of `attr/`.

Comments, docstrings and blank lines are no lines of code. `Any` is counted as a name, wherever it stands but in an import.
Prints the figures and exits with 1 if one is over its limit: `python .ci/budget.py`.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "captum_gradeclip"
ANY_PER_THOUSAND = 15.0
# Lines of code that attr/ may have, by what they are for; its method files alone have a limit of their own.
ATTR = {
    "methods and what they share": 1460,
    "maps of thousands of texts": 25,
    "maps that follow from those of the features, maps in parts, words without padding": 200,
    "what a method costs in passes": 25,
    "ensembles of readings, and the account of a score": 75,
    "contributions of single heads": 25,
    "pairs of words and regions": 245,
    "scores that need a pass for each target": 60,
    "queries and keys behind the output projection": 40,
    "what released code does otherwise": 40,
}
METHODS = 900
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def measure(source: str) -> tuple[int, int]:
    r"""Counts the lines of code of a source text, and the names `Any` in it.

    >>> measure('"A docstring."\nfrom typing import Any\n\nx: Any = 1  # Any\n')
    (2, 1)
    """
    tree = ast.parse(source)
    docstrings: set[int] = set()
    imports: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    names = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            lines |= set(range(token.start[0], token.end[0] + 1))
        names += token.type == tokenize.NAME and token.string == "Any" and token.start[0] not in imports
    return len(lines - docstrings), names


def methods() -> set[Path]:
    """The files that define a method of `METHODS`."""
    sys.path.insert(0, str(PACKAGE.parent))
    from captum_gradeclip.attr import METHODS

    return {Path(sys.modules[kind.__module__].__file__ or "").resolve() for kind in METHODS}


def main() -> int:
    """Prints the figures; returns 1 if one is over its limit, else 0."""
    files = {file: measure(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
    lines, names = (sum(one[which] for one in files.values()) for which in (0, 1))
    rate = 1000 * names / lines
    attr = {file: count for file, (count, _) in files.items() if (PACKAGE / "attr") in file.parents}
    own = sum(attr.get(file, 0) for file in methods())
    print(f"captum_gradeclip: {len(files)} files, {lines} lines of code")
    print(f"Any: {names}, {rate:.1f} per 1,000 lines (limit {ANY_PER_THOUSAND})")
    for file, (count, worst) in sorted(files.items(), key=lambda one: -one[1][1])[:12]:
        if worst:
            print(f"  {worst:4d} in {count:4d} lines  {file.relative_to(PACKAGE)}")
    count, limit = sum(attr.values()), sum(ATTR.values())
    print(f"attr/: {count} lines of code (limit {limit}), its method files {own} (limit {METHODS})")
    return int(rate > ANY_PER_THOUSAND or count > limit or own > METHODS)


if __name__ == "__main__":
    sys.exit(main())
