"""What starting costs, in seconds of the processor: ``python benchmarks/start.py --out runs/start``.

Each is a fresh process: importing torch and captum, importing this package, the help and the demo of the command line. They
take turns, and the median over the rounds is told with the ratio to importing torch and captum.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

BASE = "import torch, captum"
CALLS = {
    BASE: ["-c", "import torch, captum.attr"],
    "import captum_gradeclip": ["-c", "import captum_gradeclip"],
    "gradeclip --help": ["-m", "captum_gradeclip", "--help"],
    "gradeclip demo": ["-m", "captum_gradeclip", "demo", "--out"],
}


def seconds(arguments: list[str]) -> float:
    """User and system time of a process and what it starts."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    began = spent()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return spent() - began


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/start"), help="folder [%(default)s]")
    options = parser.parse_args()

    times: dict[str, list[float]] = {name: [] for name in CALLS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds + 1):
            for name, arguments in CALLS.items():
                given = [*arguments, f"{folder}/{number}"] if arguments[-1] == "--out" else arguments
                times[name].append(seconds(given))
    found = {name: statistics.median(some[1:]) for name, some in times.items()}  # the first round fills the caches
    table = Table("process", "seconds of the processor", "ratio", title=f"{options.rounds} rounds")
    for name, value in found.items():
        table.add_row(name, f"{value:.2f}", f"{value / found[BASE]:.2f}")
    Console().print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "start.json").write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
