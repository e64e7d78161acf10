"""``gradeclip explain``: which parts of a picture, and which words of some texts, made them match."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .common import Subparsers, about_input, add_command, add_model, add_options, add_picture, console, preparation

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..adapters.loading import Loaded
    from ..explain import Explanation

HELP = "explain a picture and one or more texts, or classes of a classifier"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    parser = add_command(subparsers, "explain", run, HELP)
    add_model(parser)
    add_picture(parser)
    add_grad_eclip(parser)
    parser.add_argument("texts", nargs="*", metavar="text", help="what to look for; quote each text")
    parser.add_argument(
        "--target",
        action="append",
        dest="targets",
        metavar="CLASS",
        help="a class of a classifier, by index or name; may be repeated [the three most probable]",
    )


def run(arguments: argparse.Namespace) -> None:
    """Explains the picture, writes all results and prints a table of the scores."""
    from ..adapters.loading import load
    from ..images import read
    from ..report import save

    image = read(arguments.path)  # before the model, which takes longer to load
    loaded = load(arguments.model, arguments.pretrained, arguments.device)
    found = explain_picture(loaded, image, Path(arguments.path).name, arguments.texts, arguments)
    save(found, arguments.out, about_input(arguments))
    print_scores([found], arguments.out)


def add_grad_eclip(parser: argparse.ArgumentParser) -> None:
    """The layers of both towers, and the options of Grad-ECLIP that its paper compares."""
    from ..attr import GradECLIP

    info = GradECLIP.info
    for flag, tower, default in (
        ("--layers", "image", str(info.layers)),
        ("--text-layers", "text", f"{info.text_layers}, or all of fewer"),
    ):
        parser.add_argument(
            flag, type=int, metavar="N", help=f"how many of the last layers of the {tower} tower are explained [{default}]"
        )
    add_options(parser, GradECLIP, ("heads", "spatial_weight"))


def explain_picture(
    loaded: Loaded, image: Image.Image, name: str, texts: Sequence[str], arguments: argparse.Namespace
) -> Explanation:
    """Explains one picture as the arguments of this command say.

    Args:
        loaded: the model.
        image: the picture.
        name: its name in results.
        texts: what it is compared with; empty for a classifier.
        arguments: those of :func:`add_grad_eclip` and :func:`~captum_gradeclip.cli.common.add_picture`, and ``targets``.
    """
    from ..explain import explain

    found = explain(
        loaded.model,
        image,
        texts or None,
        loaded.tokenizer,
        preprocess=preparation(loaded, arguments),
        targets=arguments.targets,
        layers=arguments.layers,
        text_layers=arguments.text_layers,
        heads=arguments.heads,
        spatial_weight=arguments.spatial_weight,
    )
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    return replace(found, names=[name])


def print_scores(explanations: Sequence[Explanation], out: Path) -> None:
    """Prints a table with a row for each picture and text (or class), and where the files are."""
    from ..maps import shares

    of_texts = explanations[0].targets is None
    headings = ("text", "score", "explained", "words") if of_texts else ("class", "logit", "explained", "probability")
    table = Table("picture", *headings, title="Grad-ECLIP")
    for found in explanations:
        for t, text in enumerate(found.texts):
            row = [found.names[0], text, _number(found.scores, t), _number(found.explained_scores, t)]
            more = _number(found.probabilities, t)
            if found.words is not None:
                more = " ".join(f"{escape(word)} [bold]{weight:.2f}[/]" for word, weight in shares(found.words[0][t]))
            table.add_row(*map(escape, row), more)
    Console().print(table)
    Console().print(f"pictures, maps and numbers are in {out}", soft_wrap=True, markup=False)


def _number(values: Tensor | None, t: int) -> str:
    return "-" if values is None else f"{float(values[0, t]):.3f}"
