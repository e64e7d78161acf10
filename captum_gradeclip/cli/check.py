"""``gradeclip check``: does a model reproduce itself while its attention is intercepted?"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from ..progress import track
from ..quoting import line
from .common import Screen, Subparsers, UsageError, add_command, add_weights, console, json_in, load_model, save_json

HELP = "check that models reproduce themselves while their attention is intercepted"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    from ..adapters.loading import NAMES

    parser = add_command(subparsers, "check", run, HELP)
    parser.add_argument("model", nargs="+", help=NAMES)
    add_weights(parser)


def run(arguments: argparse.Namespace) -> None:
    """Checks each tower of each model, prints a table and writes ``check.json``."""
    from ..check import self_check
    from ..report import versions

    table = Table("model", "tower", "layers", "tokens", "own heads", "one head", "map", "seconds", "passed")
    table.columns[0].overflow = "fold"
    table.caption = "own heads, one head: the largest change of the output, relative to its largest value"
    results: list[dict[str, object]] = []
    json_in(arguments.out, "check.json").check(())
    for name in track(arguments.model, "checking", console=console):
        for one in self_check(load_model(arguments, name).model):
            shape = " x ".join(map(str, one.map))
            figures = f"{one.error:.1e}", f"{one.change:.1e}", shape, f"{one.seconds:.2f}", "yes" if one.passed else "NO"
            table.add_row(Text(line(name)), one.tower, str(one.layers), str(one.tokens), *figures)
            results.append({"model": name, **asdict(one), "passed": one.passed})
    Screen(width=max(110, console.width)).print(table)
    save_json(arguments.out / "check.json", {"checks": results, "versions": versions()})
    if not all(result["passed"] for result in results):
        raise UsageError("a model does not reproduce itself, so its maps would explain something else")
