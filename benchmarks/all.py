"""All benchmarks, or some of them, one after the other: ``python benchmarks/all.py [PART ...] --out runs/benchmarks``.

Each part is a program of this folder in a process of its own, with its results in a folder of its own; ``python
benchmarks/PART.py --help`` tells its further options. A part that fails is named in the end, and the others still run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SHARED = ("device", "dtype", "model", "rounds")
PARTS: dict[str, tuple[str, ...]] = {
    "speed": SHARED,
    "words": SHARED,
    "pairs": SHARED,
    "folders": SHARED,
    "start": (),
    "metrics": ("model",),
    "studies": (),
}
"""The parts, with those of the shared options that each of them has."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} [speed to start]")
    parser.add_argument("--model", help="an open_clip model")
    parser.add_argument("--device", help="cpu or cuda")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--out", type=Path, default=Path("gradeclip-out/benchmarks"), help="folder [%(default)s]")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)[: list(PARTS).index("start") + 1]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"PART: expected some of {', '.join(PARTS)}, got {', '.join(unknown)}")
    failed = []
    for part in parts:
        command = [sys.executable, str(Path(__file__).with_name(f"{part}.py"))]
        for name in PARTS[part]:
            if (value := getattr(options, name)) is not None:
                command += [f"--{name}", str(value)]
        if part not in ("folders", "studies"):  # these only print
            command += ["--out", str(options.out / part)]
        print(f"== {' '.join(command[1:])}", flush=True)
        if subprocess.run(command).returncode:
            failed.append(part)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
