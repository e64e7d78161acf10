"""``gradeclip models``: what is supported, and whether it works with the installed versions."""

from __future__ import annotations

import argparse

from rich.table import Table

from ..progress import track
from .common import Screen, Subparsers, UsageError, add_command, console, json_in, save_json

HELP = "list what is supported, and check it with the installed versions"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    add_command(subparsers, "models", run, HELP)


def run(arguments: argparse.Namespace) -> None:
    """Checks a tiny random model of each family, prints a table and writes ``models.json``."""
    import torch

    from .. import adapters
    from ..adapters.loading import NAMES, first_line
    from ..check import TOLERANCE, faults_of, self_check
    from ..report import versions

    json_in(arguments.out, "models.json").check(())
    installed = versions()
    table = Table("family", "classes", "text", "sizes", "checked", "note")
    notes: list[str] = []
    rows: list[dict[str, object]] = []
    for family in track(
        adapters.families().values(), "checking tiny models", name=lambda family: family.name, console=console
    ):
        torch.manual_seed(0)
        try:
            checks = self_check(family.build().eval())
            checked = "yes" if all(check.passed for check in checks) else f"FAILED: {faults_of(checks)}"
        except Exception as error:  # another version of a library may have moved something; the others still count
            checks, checked = [], f"FAILED: {first_line(error)}"
        sizes = "one" if family.oblong is None else "squares" if family.oblong[0] == family.oblong[1] else "any"
        if family.note and family.note not in notes:
            notes.append(family.note)
        mark = str(notes.index(family.note) + 1) if family.note else ""
        table.add_row(family.name, family.models, "yes" if family.text else "-", sizes, checked, mark)
        told = {"name": family.name, "models": family.models, "text": family.text, "note": family.note, "sizes": sizes}
        rows.append({**told, "checked": checked, "errors": [check.error for check in checks]})
    screen = Screen(width=max(110, console.width))
    screen.print(table)
    for number, note in enumerate(notes, start=1):
        screen.print(f"{number}  {note}", markup=False, highlight=False)
    screen.print(
        "\nchecked: a tiny random model of the family gives the same output while its attention is intercepted, to"
        f" {TOLERANCE:.0e},\nkeeps what its adapter says of read-out, patches and padding, and gives a map that varies, with"
        f" {', '.join(f'{name} {number}' for name, number in installed.items())}.\nmodels are named as {NAMES}.",
        markup=False,
        highlight=False,
    )
    save_json(arguments.out / "models.json", {"families": rows, "versions": installed})
    if any(row["checked"] != "yes" for row in rows):
        raise UsageError("some families failed their check with the installed versions")
