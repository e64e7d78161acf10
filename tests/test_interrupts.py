"""Ctrl-C at any moment leaves the model as it was; the script of the benchmark, with fewer interrupts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "interrupts.py"


def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("interrupts", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_interrupts_leave_nothing(tmp_path: Path) -> None:
    faults = script().main(["--chosen", "600", "--random", "150", "--out", str(tmp_path / "interrupts.json")])
    assert not any(faults.values()), (tmp_path / "interrupts.json").read_text()
