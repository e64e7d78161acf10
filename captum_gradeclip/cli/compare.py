"""``gradeclip compare``: a picture and texts explained by many methods, side by side."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.table import Table
from rich.text import Text

from ..quoting import line, quoted
from .common import (
    Screen,
    Subparsers,
    UsageError,
    about_input,
    add_command,
    add_drawing,
    add_model,
    add_preparation,
    add_rise_masks,
    check_numbers,
    load_model,
    names_of,
    prepared,
    require_texts,
    require_tokenizer,
    style_of,
    tell_scope,
)

if TYPE_CHECKING:
    from ..attr.registry import Named
    from ..report import Comparison

HELP = "explain a picture and texts by many methods, side by side"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    from ..attr.registry import CAPTUM, METHODS

    parser = add_command(subparsers, "compare", run, HELP)
    add_model(parser)
    parser.add_argument("path", metavar="image", help="a file: PNG, JPEG, WebP, ...")
    add_preparation(parser)
    parser.add_argument("texts", nargs="+", metavar="text", help="what to look for; quote each text")
    names, captums = (", ".join(kind.__name__ for kind in kinds) for kinds in (METHODS, CAPTUM))
    parser.add_argument(
        "--methods",
        default="all",
        metavar="all|NAME,...",
        help=f"all: {names}; also {captums} of Captum, for images [%(default)s]",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="METHOD.name=value",
        help="an option of a method, RISE.subtract_mean=true for instance; may be repeated",
    )
    add_drawing(parser)
    # The spelling of before, when each map had its own scale by default.
    parser.add_argument("--same-scale", action="store_const", const="shared", dest="color_scale", help=argparse.SUPPRESS)
    add_rise_masks(parser)


def run(arguments: argparse.Namespace) -> None:
    """Explains the picture and its texts by each method, writes a figure, and prints a table of the times."""
    import torch

    from ..adapters.base import execution_device
    from ..attr import compare
    from ..images import read
    from ..maps import merge_words, shares
    from ..report import Comparison, comparison_in, save_comparison
    from ..scores import ImageTextScore, TextImageScore, tokenize

    check_numbers(arguments, rise_masks=1)
    style = style_of(arguments)
    comparison_in(arguments.out, [Path(arguments.path)]).check((f"compare.{style.format}", "compare.npz"))
    image = read(arguments.path)  # before the model, which takes longer to load
    tell_scope(arguments, arguments.texts, [Path(arguments.path)])
    loaded = load_model(arguments)
    require_texts(loaded, arguments.model, "texts")
    require_tokenizer(loaded, arguments.model)
    picture, _ = prepared(loaded, image, Path(arguments.path).name, arguments)
    pixels = picture.pixels.to(execution_device(loaded.model))
    tokens = tokenize(loaded.model, arguments.texts, loaded.tokenizer)
    score = ImageTextScore(loaded.model, tokens, loaded.tokenizer)
    methods: list[Named] = [*names_of(arguments.methods)]
    options = method_options(methods, arguments)
    of_images = compare(score, pixels, methods, options=options, show_progress=True)
    of_texts = compare(TextImageScore(loaded.model, pixels), tokens, methods, options=options, show_progress=True)
    if all(one.maps is None for one in (*of_images, *of_texts)):
        raise UsageError(f"methods: none of them is defined for this model; {of_images[0].refused}")
    with torch.no_grad():
        cosines = score(pixels)[0].tolist()
    captions = []
    for one in of_texts:
        merged = None if one.maps is None else merge_words(one.maps[:, 0].cpu(), tokens.cpu(), loaded.tokenizer)
        captions.append(None if merged is None else [shares(words) for words in merged])
    name = Path(arguments.path).name
    found = Comparison(name, picture, arguments.texts, cosines, of_images, of_texts, captions, Path(arguments.path))
    save_comparison(found, arguments.out, about_input(arguments), style)
    print_times(found, arguments.out)


def method_options(methods: list[Named], arguments: argparse.Namespace) -> dict[str, dict[str, object]]:
    """The options of each method, by its id, that ``--rise-masks`` and ``--option`` give.

    Raises:
        UsageError: for an ``--option`` that is not of the form METHOD.name=value.
        ValueError: for an unknown method.
    """
    from ..attr import RISE
    from ..attr.registry import find_method, find_methods

    chosen: dict[str, dict[str, object]] = {}
    if RISE in find_methods(methods):
        chosen[RISE.__name__] = {"n_masks": arguments.rise_masks}
    for given in arguments.option:
        left, equals, value = given.partition("=")
        method, dot, name = left.rpartition(".")
        if not (equals and dot and name.isidentifier()):
            raise UsageError(f"option: expected METHOD.name=value, got {quoted(given)}")
        chosen.setdefault(find_method(method).__name__, {})[name] = _value(value)
    return chosen


def print_times(found: Comparison, out: Path) -> None:
    """Prints a table with the seconds of each method, or why it refused, and where the files are."""
    table = Table("method", "seconds", "words", "refused", title=Text(line(found.name)))
    for image, text in zip(found.of_images, found.of_texts):
        seconds, words = ("-" if one.maps is None else f"{one.seconds:.3f}" for one in (image, text))
        table.add_row(Text(line(image.name)), seconds, words, Text(image.refused or ""))
    screen = Screen()
    screen.print(table)
    screen.print(f"the figure, maps and numbers are in {out}", soft_wrap=True, markup=False)


def _value(given: str) -> object:
    """A number, a boolean or a list as JSON has them, or else the string itself."""
    try:
        value: object = json.loads(given, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return given
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not in JSON")
