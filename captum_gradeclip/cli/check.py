"""``gradeclip check``: does a model reproduce itself under interception, and keep what its adapter says?"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from ..progress import track
from ..quoting import line, quoted
from .common import (
    Subparsers,
    UsageError,
    add_command,
    add_weights,
    console,
    in_flags,
    json_in,
    load_model,
    print_table,
    save_json,
    say,
)

HELP = "check that models reproduce themselves while their attention is intercepted, and keep what their adapters say"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    from ..adapters.loading import NAMES

    parser = add_command(subparsers, "check", run, HELP)
    parser.add_argument("model", nargs="+", help=NAMES)
    add_weights(parser)


def run(arguments: argparse.Namespace) -> int:
    """Checks each tower of each model, prints a table and writes ``check.json``.

    Returns:
        0, or 1 if some of several models cannot be checked or have faults.

    Raises:
        UsageError: if the only model has faults; what keeps it from being checked is raised as it is.
    """
    from ..adapters.loading import first_line
    from ..check import faults_of, self_check
    from ..report import versions

    table = Table("model", "tower", "layers", "tokens", "own heads", "one head", "map", "seconds", "passed")
    table.caption = "own heads, one head: the largest change of the output, relative to its largest value"
    results: list[dict[str, object]] = []
    failed: dict[str, str] = {}
    alone = len(arguments.model) == 1
    json_in(arguments.out, "check.json").check(())
    missing: list[str] = []
    for name in track(arguments.model, "checking", name=line, console=console):
        try:
            checks = self_check(load_model(arguments, name).model)
        except KeyboardInterrupt:
            if not (results or failed):
                raise
            missing = arguments.model[arguments.model.index(name) :]
            break
        except Exception as error:  # of whatever kind, the others are checked nevertheless
            if alone:
                raise
            failed[name] = in_flags(first_line(error), arguments.parser)
            continue
        for one in checks:
            shape = " x ".join(map(str, one.map[2:] or one.map[1:]))
            figures = f"{one.error:.1e}", f"{one.change:.1e}", shape, f"{one.seconds:.2f}", "yes" if one.passed else "NO"
            table.add_row(Text(line(name)), one.tower, str(one.layers), str(one.tokens), *figures)
            results.append({"model": name, **asdict(one), "passed": one.passed})
        if not all(one.passed for one in checks):
            failed[name] = faults_of(checks)
    if results:
        print_table(table)
    told = {**({"failed": failed} if failed else {}), **({"missing": missing} if missing else {})}
    save_json(arguments.out / "check.json", {"checks": results, **told, "versions": versions()})
    if failed and alone:
        raise UsageError(f"{quoted(arguments.model[0])} fails its check: {failed[arguments.model[0]]}")
    for name, reason in failed.items():
        say(f"failed: {quoted(name)}: {reason}")
    if missing:
        done = len(arguments.model) - len(missing)
        raise KeyboardInterrupt(
            f"{done} of {len(arguments.model)} models were checked; what was found out is in {quoted(arguments.out)}"
        )
    return int(bool(failed))
