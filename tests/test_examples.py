"""Each example of the gallery is a script with a title that hides nothing; the build of the pages runs all of them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def test_examples_are_found_by_the_gallery() -> None:
    assert len(EXAMPLES) >= 11 and all(path.stem.startswith("plot_") for path in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_has_a_title_and_catches_nothing(example: Path) -> None:
    source = example.read_text()
    tree = ast.parse(source)
    title, rule = (ast.get_docstring(tree) or "").splitlines()[:2]
    assert set(rule) == {"="} and len(rule) == len(title)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    assert "# With real weights" in source or "real weights" in source, "real weights are one commented cell away"
    assert re.search(r"^# (import|from|model|processor)", source, flags=re.MULTILINE)
