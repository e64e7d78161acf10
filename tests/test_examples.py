"""Every example runs as it stands, in an empty folder, without network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
QUICKLY = {"rivals": ["0.02"]}  # by their own arguments: the share of the random masks and steps
SLOW = [path for path in EXAMPLES if path.stem in QUICKLY]


def run(example: Path, folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, str(example), *arguments], cwd=folder, check=True)
    assert list(folder.rglob("*.png")), "an example leaves a picture"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    run(example, tmp_path, *QUICKLY.get(example.stem, ()))


@pytest.mark.slow
@pytest.mark.parametrize("example", SLOW, ids=lambda path: path.stem)
def test_example_as_it_is_meant(example: Path, tmp_path: Path) -> None:
    run(example, tmp_path)


def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = (ROOT / "README.md").read_text().split("```")
    (code,) = [block.removeprefix("python\n") for block in blocks if block.startswith("python\n")]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
