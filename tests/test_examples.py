"""Every example runs as it stands, in an empty folder, without network."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
QUICKLY = {"rivals": ["0.02"]}  # by their own arguments: the share of the random masks and steps


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within this process, which has loaded the libraries already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), *QUICKLY.get(example.stem, ())])
    runpy.run_path(str(example), run_name="__main__")
    assert list(tmp_path.rglob("*.png")), "an example leaves a picture"


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_as_it_is_meant(example: Path, tmp_path: Path) -> None:
    """In a process of its own, without arguments."""
    subprocess.run([sys.executable, str(example)], cwd=tmp_path, check=True)
    assert list(tmp_path.rglob("*.png")), "an example leaves a picture"


def code_of_the_readme() -> str:
    blocks = (ROOT / "README.md").read_text().split("```")
    (code,) = [block.removeprefix("python\n") for block in blocks if block.startswith("python\n")]
    return code


def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(code_of_the_readme())
    runpy.run_path(str(tmp_path / "code.py"), run_name="__main__")


@pytest.mark.slow
def test_the_code_of_the_readme_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", code_of_the_readme()], cwd=tmp_path, check=True)
