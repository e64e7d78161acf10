"""``gradeclip explain``: which parts of pictures, and which words of some texts, made them match."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..progress import track
from ..quoting import line, quoted
from .common import (
    Screen,
    Subparsers,
    UsageError,
    about_input,
    add_command,
    add_drawing,
    add_full_size,
    add_model,
    add_options,
    add_preparation,
    add_targets,
    console,
    in_flags,
    load_model,
    prepared,
    require_tokenizer,
    resize_of,
    say,
    style_of,
    tell_scope,
    warn,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..adapters.loading import Loaded
    from ..explain import Explanation
    from ..index import Entry

HELP = "explain pictures and one or more texts, or classes of a classifier"
_USAGE = """gradeclip explain [option ...] IMAGE TEXT [TEXT ...]
       gradeclip explain [option ...] --text TEXT [--text TEXT ...] IMAGE|FOLDER|PATTERN [...]"""
_ASKED = ("targets", "layers", "text_layers", "heads", "spatial_weight", "signed")
"""The arguments by which :func:`explain_picture` explains a picture, beside those of its input."""
_MOST_ROWS = 40
"""The most rows of a table of many pictures on the terminal."""
_MOST_TEXT = 2**20
"""The largest file of texts in bytes."""


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    parser = add_command(subparsers, "explain", run, HELP, place="%(default)s, or the next such name without results")
    parser.usage = _USAGE
    parser.add_argument(
        "path",
        nargs="+",
        metavar="image",
        help="a file (PNG, JPEG, WebP, ...), and behind it what to look for, each text in quotes; or, with --text, any"
        " number of files, folders and quoted patterns such as 'shots/*.png'",
    )
    parser.add_argument(
        "--text", action="append", dest="texts", default=[], metavar="TEXT", help="what to look for; may be repeated"
    )
    parser.add_argument("--texts", type=Path, dest="texts_file", metavar="FILE", help="a file with a text in each line")
    add_model(parser)
    add_preparation(parser)
    add_grad_eclip(parser)
    add_drawing(parser)
    add_full_size(parser)
    add_targets(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run [they are kept]")
    parser.add_argument(
        "--resume", action="store_true", help="of several pictures, leave out those that an earlier run has explained"
    )


def run(arguments: argparse.Namespace) -> int:
    """Explains the pictures, writes all results and prints a table of the scores.

    Returns:
        0, or 1 if some of several pictures could not be explained.
    """
    from ..selection import is_several, select

    given, texts = pictures_and_texts(arguments)
    resize_of(arguments)  # which may not fit to the other options
    pictures = select(given)
    if len(given) == 1 and not is_several(given[0]):
        return run_one(pictures[0], texts, arguments)
    return run_many(pictures, texts, arguments)


def run_one(path: Path, texts: Sequence[str], arguments: argparse.Namespace) -> int:
    """Explains one picture into the folder itself."""
    from ..images import read
    from ..index import check_free
    from ..report import file_names, results_in, save

    if arguments.resume:
        raise UsageError("resume: it is for several pictures; one picture is explained at once")
    style = style_of(arguments)
    image = read(path)  # before the model, which takes longer to load
    out = place_of(arguments)
    check_free(out, arguments.overwrite)
    # Of a classifier, the names of the classes are not known yet.
    results_in(out, [path]).check(file_names(texts, words=True, format=style.format) if texts else ())
    tell_scope(arguments, texts, [path])
    loaded = load_model(arguments)
    found = explain_picture(loaded, image, path.name, texts, arguments)
    save(replace(found, paths=[path]), out, about_input(arguments), style=style)
    print_scores([found], out)
    return 0


def run_many(paths: Sequence[Path], texts: Sequence[str], arguments: argparse.Namespace) -> int:
    """Explains each picture into a folder of its own, and writes an index of all."""
    from ..adapters.weights import weights_checksum
    from ..images import read
    from ..index import check_index, explain_files

    out, style = place_of(arguments), style_of(arguments)
    asked = {name: getattr(arguments, name) for name in _ASKED}
    request: dict[str, object] = {**about_input(arguments), **asked, "texts": list(texts), "figures": asdict(style)}
    del request["device"]  # the same figures, but for their last digits
    check_index(out, request, arguments.resume, arguments.overwrite)
    tell_scope(arguments, texts, paths)
    loaded = load_model(arguments)

    def explain_one(path: Path) -> Explanation:
        return explain_picture(loaded, read(path), path.name, texts, arguments)

    entries = explain_files(
        paths,
        explain_one,
        out,
        {**request, "weights": weights_checksum(loaded.model)},
        about_input(arguments),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        style=style,
        track=partial(track, title="explaining pictures", console=console),
    )
    print_entries(entries, out, arguments)
    return int(any(one.error for one in entries))


def pictures_and_texts(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """What stands for pictures on the command line, and what for texts.

    Raises:
        UsageError: where one could be taken for the other.
        OSError, ValueError: for a file of texts that cannot be read.
    """
    from ..selection import looks_like_pictures

    given, texts = list(arguments.path), [*arguments.texts, *read_texts(arguments.texts_file)]
    if texts:
        return given, texts
    first, *others = given
    files = [one for one in others if looks_like_pictures(one)]
    if len(files) == len(others):
        return given, []
    if files:
        raise UsageError(
            f"text: {quoted(files[0])} is taken for a picture; with several pictures, or if it is a text that reads like the"
            " name of a file, give each text by --text"
        )
    for one in others:
        if os.path.isdir(one):
            say(f"note: {quoted(one)} is taken for a text, although there is a folder of that name; --text tells them apart")
    return [first], others


def read_texts(path: Path | None) -> list[str]:
    """The lines of a file of texts, without those that are empty.

    Raises:
        UsageError: if it is no text in UTF-8, is too large, or has no lines.
        OSError: if it cannot be read.
    """
    if path is None:
        return []
    if not path.is_file():
        raise UsageError(f"texts_file: there is no file {quoted(path)}")
    with open(path, "rb") as file:
        content = file.read(_MOST_TEXT + 1)
    try:
        lines = [one.strip() for one in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise UsageError(f"texts_file: {quoted(path)} is not text in UTF-8") from None
    found = [one for one in lines if one]
    if not found or len(content) > _MOST_TEXT:
        raise UsageError(f"texts_file: expected a text in each line of {quoted(path)}, at most a megabyte of them")
    return found


def place_of(arguments: argparse.Namespace) -> Path:
    """Where results are written: the folder that was asked for, and else the first one without results of an earlier run."""
    from ..index import free_folder

    chosen: Path = arguments.out
    if chosen is not arguments.parser.get_default("out") or arguments.resume or arguments.overwrite:
        return chosen
    return free_folder(chosen)


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
    parser.add_argument(
        "--signed",
        action="store_true",
        help="show what counts against a text as well, in blue [only what counts for it, by the ReLU of the paper]",
    )


def explain_picture(
    loaded: Loaded, image: Image.Image, name: str, texts: Sequence[str], arguments: argparse.Namespace
) -> Explanation:
    """Explains one picture as the arguments of this command say.

    Args:
        loaded: the model.
        image: the picture.
        name: its name in results.
        texts: what it is compared with; empty for a classifier.
        arguments: those of :func:`add_grad_eclip` and :func:`~captum_gradeclip.cli.common.add_preparation`, and ``targets``.
    """
    from ..explain import explain, is_classifier

    if texts and not is_classifier(loaded.model):
        require_tokenizer(loaded, arguments.model)
    picture, noticed = prepared(loaded, image, name, arguments)
    found = explain(
        loaded.model,
        picture,
        texts or None,
        loaded.tokenizer,
        targets=arguments.targets,
        layers=arguments.layers,
        text_layers=arguments.text_layers,
        heads=arguments.heads,
        spatial_weight=arguments.spatial_weight,
        relu_attributions=not arguments.signed,
    )
    warn(found.warnings, arguments)
    return replace(found, names=[name], warnings=[*noticed, *found.warnings])


def print_scores(explanations: Sequence[Explanation], out: Path) -> None:
    """Prints a table with a row for each picture and text (or class), and where the files are."""
    from ..maps import shares

    of_texts = explanations[0].targets is None
    headings = ("text", "score", "explained", "words") if of_texts else ("class", "logit", "explained", "probability")
    table = Table("picture", *headings, title="Grad-ECLIP")
    for found in explanations:
        for t, text in enumerate(found.texts):
            row = [line(found.names[0]), line(text), _number(found.scores, t), _number(found.explained_scores, t)]
            more = Text(_number(found.probabilities, t))
            if found.words is not None:
                weighed = (
                    (Text(f"{line(word)} "), Text(f"{weight:.2f}", "bold")) for word, weight in shares(found.words[0][t])
                )
                more = Text(" ").join(Text.assemble(*pair) for pair in weighed)
            table.add_row(*map(Text, row), more)
    screen = Screen()
    screen.print(table)
    screen.print(f"pictures, maps and numbers are in {out}", soft_wrap=True, markup=False)


def print_entries(entries: Sequence[Entry], out: Path, arguments: argparse.Namespace) -> None:
    """Prints a table with a row for each picture and text, the pictures that were not explained, and where the files are."""
    rows = [(one, t, text) for one in entries for t, text in enumerate(one.texts)]
    more = f"{len(rows) - _MOST_ROWS:,} more rows are in index.csv" if len(rows) > _MOST_ROWS else None
    table = Table("picture", "text", "score", title="Grad-ECLIP", caption=more)
    for one, t, text in rows[:_MOST_ROWS]:
        score = text.get("score")
        shown = f"{score:.3f}" if isinstance(score, float) else "-"
        table.add_row(Text(line(one.picture) if t == 0 else ""), Text(line(str(text.get("text")))), shown)
    screen = Screen()
    if rows:
        screen.print(table)
    failed, taken = [one for one in entries if one.error], sum(one.taken for one in entries)
    for one in failed:
        named = one.error.startswith(quoted(one.picture))
        reason = in_flags(one.error, arguments.parser)
        say(f"not explained: {reason if named else f'{quoted(one.picture)}: {reason}'}")
    done = len(entries) - len(failed)
    resumed = f", {taken} of them by an earlier run" if taken else ""
    screen.print(
        f"{done} of {len(entries)} pictures were explained{resumed}; index.html and a folder for each are in {out}",
        soft_wrap=True,
        markup=False,
    )


def _number(values: Tensor | None, t: int) -> str:
    return "-" if values is None else f"{float(values[0, t]):.3f}"
