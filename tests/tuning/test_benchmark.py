"""The command that fills the paper's tables: its rule of choice, and the whole of it in its smallest form."""

from __future__ import annotations

import doctest
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "tuning.py"


def test_the_rule_of_choice_is_as_its_example_says(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_of_tuning", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    found = doctest.testmod(module)
    assert found.attempted > 0 and not found.failed


@pytest.mark.slow
def test_it_chooses_by_recall_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    small = {"pairs": 16, "scenes": 8, "batch": 8, "steps": 1, "lr": 1e-4, "weights": 1, "seeds": 1, "without-shapes": 1}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), *(f"--{name}={value}" for name, value in small.items())]
    subprocess.run(command, env=environment, check=True, timeout=600, capture_output=True)
    table = json.loads((tmp_path / "table.json").read_text())
    methods = {"ordinary", "Grad-CAM", "MaskCLIP", "Grad-ECLIP", "CLIPSelf"}
    assert set(table["chosen"]) == methods and set(table["figures"]) == {"embedded", "before", *methods}
    # Of the runs that are only tried, no region is looked at.
    tried = [run for run in (tmp_path / "runs").iterdir() if not (run / "evaluation.json").exists()]
    assert len(tried) == 1 and "boxes top1" not in json.loads((tried[0] / "validation.json").read_text())
    before = {record: record.stat().st_mtime_ns for record in (tmp_path / "runs").glob("*/*.json")}
    subprocess.run(command, env=environment, check=True, timeout=600, capture_output=True)
    assert before == {record: record.stat().st_mtime_ns for record in (tmp_path / "runs").glob("*/*.json")}
    assert json.loads((tmp_path / "table.json").read_text()) == table
