"""Every example runs as it stands, in an empty folder, without network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(example)], cwd=tmp_path, check=True)
    assert list(tmp_path.rglob("*.png")), "an example leaves a picture"


def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    (code,) = [block.removeprefix("python\n") for block in README.read_text().split("```") if block.startswith("python\n")]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
