"""``gradeclip trust``: is there a reason not to trust the map of a picture and a text?"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ..quoting import MOST_OF_MESSAGE, line
from .common import (
    Screen,
    Subparsers,
    add_command,
    add_model,
    add_options,
    add_preparation,
    check_numbers,
    input_maker,
    json_in,
    load_model,
    print_table,
    require_tokenizer,
    save_json,
    tell_input,
    tell_scope,
)
from .explain import add_method, options_of

HELP = "hold the map of a picture and a text against all guards"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    from ..attr import GradECLIP

    parser = add_command(subparsers, "trust", run, HELP)
    parser.add_argument("image", type=Path, help="a file (PNG, JPEG, WebP, ...)")
    parser.add_argument("text", help="what to look for, in quotes")
    add_model(parser)
    add_preparation(parser)
    add_method(parser)
    add_options(parser, GradECLIP, ("heads", "spatial_weight"))
    parser.set_defaults(signed=True)  # evidence against a text is a part of what is compared
    parser.add_argument(
        "--randomize",
        action="store_true",
        help="compare with the maps of copies of the model with more and more random layers as well",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of random texts, noise and weights [%(default)s]")


def run(arguments: argparse.Namespace) -> int:
    """Prints a table of the guards and writes ``trust.json``.

    Returns:
        0, whatever the guards found: that is a result, not an error.
    """
    from ..images import read
    from ..trust import trust

    check_numbers(arguments, seed=0)
    json_in(arguments.out, "trust.json").check(())
    image = read(arguments.image)
    tell_scope(arguments, [arguments.text], [arguments.image])
    loaded = load_model(arguments)
    require_tokenizer(loaded, arguments.model)
    options = {name: value for name, value in options_of(arguments).items() if name != "relu_attributions"}
    made = input_maker(loaded, arguments)(image)
    tell_input(loaded, arguments.image.name, made, arguments)
    report = trust(
        loaded.model,
        made[0],
        arguments.text,
        loaded.tokenizer,
        method=arguments.method,
        randomize=arguments.randomize,
        seed=arguments.seed,
        **options,
    )
    table = Table("guard", "value", "limit", "fires", title=f"{line(arguments.image.name)}: {line(report.text)}")
    for one in report.findings:
        table.add_row(one.guard, f"{one.value:.3g}", f"{one.limit:g}", "YES" if one.fired else "-")
    print_table(table)
    screen = Screen()
    for message in report.warnings or ["no guard has found a reason not to trust this map"]:
        screen.print(Text(line(message, MOST_OF_MESSAGE)))
    save_json(arguments.out / "trust.json", report.to_dict())
    return 0
