"""The program that tests the oldest and the newest versions, and what the pages say about these."""

from __future__ import annotations

import configparser
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "models.md"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("versions", ROOT / ".ci" / "versions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lowest() -> dict[str, str]:
    """The lower bounds of setup.cfg."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].splitlines()
    return dict(line.split(">=") for line in lines if ">=" in line and not line.startswith("#"))


def test_the_page_on_models_tells_the_lower_bounds() -> None:
    bounds = lowest()
    told = re.search(r"\(torch ([\d.]+), open_clip ([\d.]+), timm\s+([\d.]+), transformers ([\d.]+)\)", PAGE.read_text())
    assert told is not None
    assert list(told.groups()) == [bounds[name] for name in ("torch", "open_clip_torch", "timm", "transformers")]


def test_what_a_report_of_pytest_says(program: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testsuite tests="9" skipped="2" failures="1" errors="1"/></testsuites>')
    assert program.counted(report) == {"passed": 5, "skipped": 2, "failed": 2}
