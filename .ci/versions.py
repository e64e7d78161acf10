#!/usr/bin/env python3
"""Runs the tests of the families with the oldest and with the newest versions of the libraries: `python .ci/versions.py`.

Each time a virtual environment is made outside the tree (or the one in `--folder` used again), with the lowest versions that
setup.cfg allows, or with the newest ones that there are. What was found is written to `docs/versions.json`: the versions,
how many families they have, what the others need, and how many tests passed, were skipped (by name) and failed. Exits with 1
if a test fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "versions.json"
RESOLUTIONS = {"oldest": "lowest-direct", "newest": "highest"}
TESTS = ("tests/adapters", "tests/attr/test_grad_eclip_of_families.py", "tests/scores/test_match.py", "tests/test_check.py")
# Wrappers of models, which have tests of their own and need no lowest version.
WRAPPERS = ("peft", "torchao", "optimum-quanto", "bitsandbytes")
TOLD = """
import json
from captum_gradeclip import adapters
from captum_gradeclip.report import versions
missing = {family.name: family.missing for family in adapters.families(missing=True).values()}
print(json.dumps({"versions": versions(), "families": len(adapters.families()), "missing": missing}))
"""


def environment(folder: Path, which: str) -> Path:
    """The Python of an environment with the versions that are asked for, made if it is not there."""
    python = folder / which / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / which)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "uv"], check=True)
    wrappers = WRAPPERS if which == "newest" else ()
    install = ["-m", "uv", "pip", "install", "-q", "--upgrade", "--python", str(python), "--resolution", RESOLUTIONS[which]]
    subprocess.run([str(python), *install, ".[test]", *wrappers], check=True, cwd=ROOT)
    return python


def counted(report: Path) -> dict[str, int]:
    """How many tests passed, were skipped and failed, from the report of pytest."""
    found = ET.parse(report).getroot().iter("testsuite")
    sums = dict.fromkeys(("tests", "skipped", "failures", "errors"), 0)
    for suite in found:
        for name in sums:
            sums[name] += int(suite.get(name, 0))
    failed = sums["failures"] + sums["errors"]
    return {"passed": sums["tests"] - sums["skipped"] - failed, "skipped": sums["skipped"], "failed": failed}


def checked(python: Path) -> dict[str, object]:
    """What the tests say in an environment, and what it consists of."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    offline = {**alone, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    told = subprocess.run([str(python), "-c", TOLD], check=True, cwd=ROOT, env=offline, stdout=subprocess.PIPE)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([str(python), *options, *TESTS], cwd=ROOT, env=offline)  # the report says what failed
        return {**json.loads(told.stdout), "tests": counted(report)}


def main() -> int:
    """Returns 1 if a test failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", choices=list(RESOLUTIONS), help="which versions (default both)")
    parser.add_argument("--folder", type=Path, help="where the environments are kept (default a temporary folder)")
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for which in arguments.which or list(RESOLUTIONS):
            results[which] = checked(environment(arguments.folder or Path(temporary), which))
            RESULTS.write_text(json.dumps({name: results[name] for name in RESOLUTIONS if name in results}, indent=1) + "\n")
            print(which, results[which]["tests"])
    return int(any(results[which]["tests"]["failed"] for which in arguments.which or RESOLUTIONS))


if __name__ == "__main__":
    sys.exit(main())
