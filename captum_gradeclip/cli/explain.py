"""``gradeclip explain``: which parts of pictures, and which words of some texts, made them match."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..progress import display, track
from ..quoting import line, quoted
from .common import (
    FREE,
    Screen,
    Subparsers,
    UsageError,
    about_input,
    add_command,
    add_drawing,
    add_full_size,
    add_model,
    add_options,
    add_overwrite,
    add_preparation,
    add_targets,
    console,
    in_flags,
    input_maker,
    load_model,
    place_of,
    require_tokenizer,
    resize_of,
    say,
    style_of,
    tell_input,
    tell_scope,
    tell_time,
    value_of,
    warn,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..adapters.base import Foreign
    from ..adapters.loading import Loaded
    from ..explain import Explanation
    from ..images import Picture
    from ..index import Entry
    from .common import Made

HELP = "explain pictures and one or more texts, or classes of a classifier"
_USAGE = """gradeclip explain [option ...] IMAGE TEXT [TEXT ...]
       gradeclip explain [option ...] --text TEXT [--text TEXT ...] IMAGE|FOLDER|PATTERN [...]"""
_ASKED = (
    *("targets", "against", "method", "option", "layers", "text_layers"),
    *("heads", "spatial_weight", "signed", "no_score"),
)
"""The arguments by which :func:`explain_picture` explains a picture, beside those of its input."""
_AT_ONCE = 8
"""How many pictures are explained together."""
_MOST_ROWS = 40
"""The most rows of a table of many pictures on the terminal."""
_MOST_TEXT = 2**20
"""The largest file of texts in bytes."""


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    parser = add_command(subparsers, "explain", run, HELP, place=FREE)
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
    add_method(parser)
    add_grad_eclip(parser)
    add_drawing(parser)
    add_full_size(parser)
    add_targets(parser)
    parser.add_argument(
        "--against",
        metavar="TEXT",
        help="explain each text rather than this one, or each class rather than this one; '' is the text without words. With"
        " --signed, what speaks for this one is shown as well",
    )
    add_html(parser)
    add_overwrite(parser)
    parser.add_argument(
        "--resume", action="store_true", help="of several pictures, leave out those that an earlier run has explained"
    )
    parser.add_argument(
        "--no-score", action="store_true", help="leave out the score of the unmodified model, and with it a pass of it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Explains the pictures, writes all results and prints a table of the scores.

    Returns:
        0, or 1 if some of several pictures could not be explained.
    """
    from ..attr import find_method
    from ..selection import is_several, select

    find_method(arguments.method)  # which may not be there
    given, texts = pictures_and_texts(arguments)
    resize_of(arguments)  # which may not fit to the other options
    pictures = select(given)
    arguments.several = len(given) > 1 or is_several(given[0])
    if not arguments.several:
        return run_one(pictures[0], texts, arguments)
    return run_many(pictures, texts, arguments)


def run_one(path: Path, texts: Sequence[str], arguments: argparse.Namespace) -> int:
    """Explains one picture into the folder itself."""
    from ..images import read
    from ..index import check_free, index_in
    from ..report import file_names, results_in, save

    if arguments.resume:
        raise UsageError("resume: it is for several pictures; one picture is explained at once")
    style = style_of(arguments)
    image = read(path)  # before the model, which takes longer to load
    out = place_of(arguments, results_in, index_in)
    check_free(out, arguments.overwrite, results_in)
    # Of a classifier, the names of the classes are not known yet.
    names = file_names(texts, words=True, format=style.format, html=arguments.html) if texts else ()
    results_in(out, [path]).check(names)
    tell_scope(arguments, texts, [path])
    loaded = load_model(arguments)
    found = explain_picture(loaded, image, path.name, texts, arguments)
    save(replace(found, paths=[path]), out, about_input(arguments), style=style, html=arguments.html)
    print_scores([found], out)
    return 0


def run_many(paths: Sequence[Path], texts: Sequence[str], arguments: argparse.Namespace) -> int:
    """Explains each picture into a folder of its own, and writes an index of all."""
    from ..adapters.weights import weights_checksum
    from ..index import check_index, explain_files, index_in
    from ..report import results_in

    out, style = place_of(arguments, results_in, index_in), style_of(arguments)
    asked = {name: getattr(arguments, name) for name in _ASKED}
    request: dict[str, object] = {**about_input(arguments), **asked, "texts": list(texts), "figures": asdict(style)}
    request |= {"html": True} if arguments.html else {}
    del request["device"]  # the same figures, but for their last digits
    check_index(out, request, arguments.resume, arguments.overwrite)
    tell_scope(arguments, texts, paths)
    loaded = load_model(arguments)

    try:
        with display(console):
            entries = explain_files(
                paths,
                partial(explain_pictures, loaded, texts, arguments),
                out,
                {**request, "weights": weights_checksum(loaded.model)},
                about_input(arguments),
                resume=arguments.resume,
                overwrite=arguments.overwrite,
                style=style,
                html=arguments.html,
                track=partial(track, title="explaining pictures"),
            )
    except KeyboardInterrupt:
        if index_in(out).content() is None:
            raise
        raise KeyboardInterrupt(
            f"the pictures that were finished are in {quoted(out)}; the same command with --out {quoted(out)} --resume goes"
            " on with the others"
        ) from None
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


def add_method(parser: argparse.ArgumentParser) -> None:
    """``--method``, and ``--option`` for what it can be told."""
    from ..attr.registry import CAPTUM, METHODS

    names = ", ".join(kind.__name__ for kind in (*METHODS, *CAPTUM))
    parser.add_argument("--method", default="GradECLIP", metavar="NAME", help=f"one of {names} [%(default)s]")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="name=value",
        help="an option of the method, n_masks=500 of RISE for instance; may be repeated",
    )


def add_html(parser: argparse.ArgumentParser) -> None:
    """``--html``, for commands that write explanations."""
    parser.add_argument(
        "--html",
        action="store_true",
        help="write explanation.html as well, one file to open or to mail: a word shows its region when it is clicked, and a"
        " patch its value when it is pointed at. Regions take another pass of the texts and two of the pictures",
    )


def options_of(arguments: argparse.Namespace) -> dict[str, Foreign]:
    """The options of the method that the command line gives; of other methods than Grad-ECLIP, no defaults of its flags.

    Raises:
        UsageError: for an ``--option`` that is not of the form name=value.
    """
    from ..attr import GradECLIP, find_method

    flags = {name: getattr(arguments, name) for name in ("heads", "spatial_weight")}
    flags["relu_attributions"] = not arguments.signed
    if find_method(arguments.method) is not GradECLIP:
        usual = GradECLIP.Options()
        flags = {name: value for name, value in flags.items() if value != getattr(usual, name)}
    for given in arguments.option:
        name, equals, value = given.partition("=")
        if not (equals and name.isidentifier()):
            raise UsageError(f"option: expected name=value, got {quoted(given)}")
        flags[name] = value_of(value)
    return flags


def tell_duration(
    loaded: Loaded, picture: Picture, texts: Sequence[str], options: Mapping[str, object], arguments: argparse.Namespace
) -> None:
    """Says how long a picture will take, where a method asks the model again and again; of several, it is said of the first.

    Args:
        loaded: the model.
        picture: the picture with its input.
        texts: what it is compared with; empty for a classifier.
        options: options of the method.
        arguments: those of the command.
    """
    from ..adapters.base import execution_device
    from ..attr import find_method
    from ..estimate import expect
    from ..scores import ClassScore, ImageTextScore, TextImageScore, tokenize

    kind = find_method(arguments.method)
    if "foretold" in arguments or "passes" not in kind.__dict__:
        return
    arguments.foretold, of = True, "each picture, " if arguments.several else ""
    pixels, given = picture.pixels.to(execution_device(loaded.model)), {kind.__name__: options}
    if not texts:
        tell_time(expect(ClassScore(loaded.model), pixels, kind, len(arguments.targets or range(3)), given), of)
        return
    tokens = tokenize(loaded.model, texts, loaded.tokenizer)
    seconds = expect(ImageTextScore(loaded.model, tokens, loaded.tokenizer), pixels, kind, len(texts), given)
    words = expect(TextImageScore(loaded.model, pixels), tokens, kind, 1, given)
    tell_time({**seconds, **{f"{name}, words": one for name, one in words.items()}}, of)


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
    made = input_maker(loaded, arguments)(image)
    return with_notices(explain_inputs(loaded, [(name, made)], texts, arguments), made)


def explain_pictures(
    loaded: Loaded, texts: Sequence[str], arguments: argparse.Namespace, paths: Iterable[Path]
) -> Iterator[Explanation | Exception]:
    """Explains pictures, some at once, while threads read and prepare those that come next.

    Args:
        loaded: the model.
        texts: what they are compared with; empty for a classifier.
        arguments: as for :func:`explain_picture`.
        paths: the files.

    Yields:
        For each file its explanation, or the error that says why there is none.
    """
    from ..ahead import MOST_WORKERS, ahead, usual_workers
    from ..attr import find_method
    from ..images import read

    make = input_maker(loaded, arguments)

    def read_and_make(path: Path) -> tuple[Path, Made | Exception]:
        try:
            return path, make(read(path))
        except (OSError, TypeError, ValueError) as error:
            return path, error

    # Of a slow method little is lost when the user stops; the classes of a classifier are those of each picture.
    alone = "passes" in find_method(arguments.method).__dict__ or not (texts or arguments.targets)
    waiting: list[tuple[Path, Made | Exception]] = []
    for one in ahead(read_and_make, paths, usual_workers(MOST_WORKERS)):
        waiting.append(one)
        if len(waiting) == (1 if alone else _AT_ONCE):
            yield from explain_some(loaded, waiting, texts, arguments)
            waiting = []
    yield from explain_some(loaded, waiting, texts, arguments)


def explain_some(
    loaded: Loaded, some: Sequence[tuple[Path, Made | Exception]], texts: Sequence[str], arguments: argparse.Namespace
) -> Iterator[Explanation | Exception]:
    """Explains pictures together, and each alone where that is refused, so that one does not stand for the others."""
    good = [(path.name, made) for path, made in some if not isinstance(made, Exception)]
    try:
        together = explain_inputs(loaded, good, texts, arguments) if good else None
    except (OSError, TypeError, ValueError) as error:
        if len(some) == 1:
            yield error
            return
        for one in some:
            yield from explain_some(loaded, [one], texts, arguments)
        return
    number = 0
    for _, made in some:
        if isinstance(made, Exception):
            yield made
        else:
            assert together is not None
            yield with_notices(together.image(number), made)
            number += 1


def with_notices(found: Explanation, made: Made) -> Explanation:
    """The explanation of one picture with what was noticed when its input was made."""
    return replace(found, warnings=[*made[1], *found.warnings], image_warnings=())


def explain_inputs(
    loaded: Loaded, inputs: Sequence[tuple[str, Made]], texts: Sequence[str], arguments: argparse.Namespace
) -> Explanation:
    """Explains inputs that are made already, each with its name; arguments as for :func:`explain_picture`."""
    from ..explain import explain, is_classifier

    if texts and not is_classifier(loaded.model):
        require_tokenizer(loaded, arguments.model)
    for name, made in inputs:
        tell_input(loaded, name, made, arguments)
    pictures, options = [picture for _, (picture, _) in inputs], options_of(arguments)
    tell_duration(loaded, pictures[0], texts, options, arguments)
    with display(console):
        found = explain(
            loaded.model,
            pictures,
            texts or None,
            loaded.tokenizer,
            method=arguments.method,
            targets=arguments.targets,
            scores=not arguments.no_score,
            against=arguments.against,
            regions=arguments.html,
            layers=arguments.layers,
            text_layers=arguments.text_layers,
            **options,
        )
    warn(found.warnings, arguments)
    return replace(found, names=[name for name, _ in inputs])


def print_scores(explanations: Sequence[Explanation], out: Path) -> None:
    """Prints a table with a row for each picture and text (or class), and where the files are."""
    from ..attr import find_method
    from ..maps import shares

    of_texts = explanations[0].targets is None
    score = "score" if explanations[0].against is None else f"over {line(explanations[0].against) or 'no words'}"
    headings = ("text", score, "explained", "words") if of_texts else ("class", "logit", "explained", "probability")
    table = Table("picture", *headings, title=find_method(explanations[0].method).info.name)
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
    from ..attr import find_method

    rows = [(one, t, text) for one in entries for t, text in enumerate(one.texts)]
    more = f"{len(rows) - _MOST_ROWS:,} more rows are in index.csv" if len(rows) > _MOST_ROWS else None
    table = Table("picture", "text", "score", title=find_method(arguments.method).info.name, caption=more)
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
