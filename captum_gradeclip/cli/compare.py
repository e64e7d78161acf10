"""``gradeclip compare``: a picture and texts, or classes of a classifier, explained by many methods, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.table import Table
from rich.text import Text

from ..progress import display
from ..quoting import MOST_OF_MESSAGE, line, quoted
from .common import (
    FREE,
    Screen,
    Subparsers,
    UsageError,
    about_input,
    add_command,
    add_drawing,
    add_methods,
    add_model,
    add_overwrite,
    add_preparation,
    add_targets,
    check_numbers,
    console,
    input_maker,
    load_model,
    names_of,
    place_of,
    require_tokenizer,
    style_of,
    tell_input,
    tell_scope,
    tell_time,
    value_of,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapters.loading import Loaded
    from ..attr import Outcome
    from ..attr.registry import Named
    from ..images import Picture
    from ..report import Comparison
    from ..scores import ModelScore

Options: TypeAlias = "dict[str, dict[str, object]]"
"""Options of methods, by the id of each."""

_LEFT = "the command was stopped before"
HELP = "explain a picture and texts, or classes of a classifier, by many methods, side by side"


_USAGE = """gradeclip compare [option ...] IMAGE TEXT [TEXT ...]
       gradeclip compare [option ...] IMAGE --target CLASS [--target CLASS ...]
       gradeclip compare --methods help"""


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    from ..attr.registry import METHODS

    parser = add_command(subparsers, "compare", run, HELP, place=FREE)
    add_model(parser)
    parser.usage = _USAGE
    parser.add_argument(
        "path",
        nargs="+",
        metavar="image",
        help="a file (PNG, JPEG, WebP, ...), and behind it what to look for, each text in quotes",
    )
    parser.add_argument(
        "--text", action="append", dest="texts", default=[], metavar="TEXT", help="what to look for; may be repeated"
    )
    add_preparation(parser)
    add_targets(parser)
    add_methods(parser, METHODS)
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="METHOD.name=value",
        help="an option of a method, RISE.subtract_mean=true for instance; may be repeated",
    )
    add_drawing(parser)
    add_overwrite(parser)
    # The spelling of before, when each map had its own scale by default.
    parser.add_argument("--same-scale", action="store_const", const="shared", dest="color_scale", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> None:
    """Explains the picture by each method, writes a figure, and prints a table of the times.

    Raises:
        KeyboardInterrupt: saying what has been written, if the user has stopped it when some methods were finished.
    """
    from ..explain import is_classifier
    from ..images import read
    from ..index import check_free
    from ..report import comparison_in, save_comparison

    check_numbers(arguments, rise_masks=1)
    style = style_of(arguments)
    path, texts = picture_and_texts(arguments)
    out = place_of(arguments, comparison_in)
    check_free(out, arguments.overwrite, comparison_in)
    comparison_in(out, [path]).check((f"compare.{style.format}", "compare.npz"))
    image = read(path)  # before the model, which takes longer to load
    tell_scope(arguments, texts, [path])
    loaded = load_model(arguments)
    classifier = is_classifier(loaded.model)
    check_asked(arguments, texts, classifier)
    made = input_maker(loaded, arguments)(image)
    tell_input(loaded, path.name, made, arguments)
    picture, _ = made
    methods: list[Named] = [*names_of(arguments.methods)]
    options = method_options(methods, arguments)
    if classifier:
        found = compare_classes(loaded, path, picture, arguments.targets, methods, options)
    else:
        require_tokenizer(loaded, arguments.model)
        found = compare_texts(loaded, path, picture, texts, methods, options)
    if not found.missing and all(one.maps is None for one in (*found.of_images, *(found.of_texts or ()))):
        raise UsageError(f"methods: none of them is defined for this model; {found.of_images[0].refused}")
    save_comparison(found, out, about_input(arguments), style)
    print_times(found, out)
    if found.missing:
        raise KeyboardInterrupt(f"what was finished is in {quoted(out)}; missing are {'; '.join(found.missing)}")


def picture_and_texts(arguments: argparse.Namespace) -> tuple[Path, list[str]]:
    """The picture on the command line, and the texts, which stand behind it or are given by ``--text``.

    Raises:
        UsageError: for a second picture.
    """
    from ..selection import looks_like_pictures

    first, *others = arguments.path
    second = [one for one in others if arguments.texts or looks_like_pictures(one)]
    if second:
        raise UsageError(
            f"path: expected one picture, got {quoted(second[0])} beside it; a text that reads like the name of a file is"
            " given by --text, and so are then all others"
        )
    return Path(first), [*others, *arguments.texts]


def check_asked(arguments: argparse.Namespace, texts: Sequence[str], classifier: bool) -> None:
    """Refuses texts for a classifier, and classes for a model of images and texts.

    Args:
        arguments: those of the command.
        texts: the texts of the command.
        classifier: whether the model is one.

    Raises:
        UsageError: saying what can be asked instead.
    """
    if classifier and texts:
        raise UsageError(
            f"texts: {arguments.model} is a classifier without a text encoder; name its classes by --target,"
            f" --target {quoted(texts[0])} for instance"
        )
    if not classifier and arguments.targets:
        raise UsageError(f"targets: {arguments.model} is no classifier; it compares images with texts")
    if not classifier and not texts:
        raise UsageError(f"texts: {arguments.model} compares images with texts; give at least one text behind the picture")


def compare_texts(
    loaded: Loaded, path: Path, picture: Picture, texts: Sequence[str], methods: list[Named], options: Options
) -> Comparison:
    """What the methods find out about a picture and some texts, and about the words of these.

    Args:
        loaded: a model of images and texts with its tokenizer.
        path: the file of the picture.
        picture: the picture with its input.
        texts: the texts, at least one.
        methods: what is compared.
        options: options of the methods by their ids.
    """
    import torch

    from ..adapters.base import execution_device
    from ..attr import Outcome
    from ..estimate import expect
    from ..maps import Words, merge_words, shares
    from ..report import WORDS, Comparison
    from ..scores import ImageTextScore, TextImageScore, tokenize

    pixels = picture.pixels.to(execution_device(loaded.model))
    tokens = tokenize(loaded.model, texts, loaded.tokenizer)
    score = ImageTextScore(loaded.model, tokens, loaded.tokenizer)
    of_words = TextImageScore(loaded.model, pixels)
    seconds = expect(score, pixels, methods, len(texts), options)
    words = expect(of_words, tokens, methods, 1, options)
    tell_time({name: one + words.get(name, 0.0) for name, one in seconds.items()})
    with torch.no_grad():
        cosines = score(pixels)[0].tolist()
    of_images, missing = finished(score, pixels, methods, None, options)
    of_texts = [] if missing else finished(of_words, tokens, methods, None, options)[0]
    explained = {one.name for one in of_texts}
    missing += [f"{one.name}{WORDS}" for one in of_images if one.name in words and one.name not in explained]
    captions: list[list[Words] | None] = [None] * len(of_images)
    for number, one in enumerate(of_texts):
        if one.maps is not None:
            merged = merge_words(one.maps[:, 0].cpu(), tokens.cpu(), loaded.tokenizer)
            captions[number] = [shares(words) for words in merged]
    of_texts += [Outcome(one.method, one.name, refused=_LEFT) for one in of_images[len(of_texts) :]]
    return Comparison(path.name, picture, texts, cosines, of_images, of_texts, captions, path, missing=missing)


def compare_classes(
    loaded: Loaded, path: Path, picture: Picture, targets: Sequence[str] | None, methods: list[Named], options: Options
) -> Comparison:
    """What the methods find out about a picture and some classes.

    Args:
        loaded: a classifier.
        path: the file of the picture.
        picture: the picture with its input.
        targets: the classes by index, name or WordNet id; ``None`` for the most probable ones.
        methods: what is compared.
        options: options of the methods by their ids.
    """
    import torch

    from ..adapters.base import execution_device
    from ..estimate import expect
    from ..explain import most_probable
    from ..report import Comparison
    from ..scores import ClassScore

    score, pixels = ClassScore(loaded.model), picture.pixels.to(execution_device(loaded.model))
    with torch.no_grad():
        logits = score(pixels)
    classes = [score.find(one) for one in targets] if targets else most_probable(logits)
    tell_time(expect(score, pixels, methods, len(classes), options))
    of_images, missing = finished(score, pixels, methods, classes, options)
    names = score.labels
    return Comparison(
        name=path.name,
        picture=picture,
        texts=[names[one] if names else f"class {one}" for one in classes],
        scores=logits[0, classes].tolist(),
        of_images=of_images,
        of_texts=None,
        captions=[None] * len(of_images),
        path=path,
        targets=classes,
        probabilities=logits.softmax(dim=1)[0, classes].tolist(),
        missing=missing,
    )


def finished(
    score: ModelScore, inputs: Tensor, methods: list[Named], targets: Sequence[int] | None, options: Options
) -> tuple[list[Outcome], list[str]]:
    """What the methods find out, those at least that are finished when the user stops the command.

    Args:
        score: as for :func:`captum_gradeclip.attr.compare`, and so are the other arguments.
        inputs: images or token ids.
        methods: what is compared.
        targets: columns of the score; ``None`` for all of them.
        options: options of the methods by their ids.

    Returns:
        The outcomes, and the printed names of the methods that are missing.

    Raises:
        KeyboardInterrupt: if no method is finished.
    """
    from ..attr import compare, find_method, find_methods

    found: list[Outcome] = []
    try:
        with display(console):
            compare(score, inputs, methods, targets, options, show_progress=True, finished=found.append)
    except KeyboardInterrupt:
        if not found and inputs.is_floating_point():
            raise
    return found, [find_method(one).info.name for one in find_methods(methods)[len(found) :]]


def method_options(methods: list[Named], arguments: argparse.Namespace) -> Options:
    """The options of each method, by its id, that ``--rise-masks`` and ``--option`` give.

    Raises:
        UsageError: for an ``--option`` that is not of the form METHOD.name=value.
        ValueError: for an unknown method.
    """
    from ..attr import RISE
    from ..attr.registry import find_method, find_methods

    chosen: Options = {}
    if RISE in find_methods(methods):
        chosen[RISE.__name__] = {"n_masks": arguments.rise_masks}
    for given in arguments.option:
        left, equals, value = given.partition("=")
        method, dot, name = left.rpartition(".")
        if not (equals and dot and name.isidentifier()):
            raise UsageError(f"option: expected METHOD.name=value, got {quoted(given)}")
        chosen.setdefault(find_method(method).__name__, {})[name] = value_of(value)
    return chosen


def print_times(found: Comparison, out: Path) -> None:
    """Prints a table with the seconds of each method, or why it refused, and where the files are."""
    columns = ("method", "seconds") if found.of_texts is None else ("method", "seconds", "words")
    table = Table(*columns, "refused", title=Text(line(found.name)))
    outcomes = (found.of_images,) if found.of_texts is None else (found.of_images, found.of_texts)
    for row in zip(*outcomes):
        seconds = ("-" if one.maps is None else f"{one.seconds:.3f}" for one in row)
        table.add_row(Text(line(row[0].name)), *seconds, Text(line(row[0].refused or "", MOST_OF_MESSAGE)))
    screen = Screen()
    screen.print(table)
    screen.print(f"the figure, maps and numbers are in {out}", soft_wrap=True, markup=False)
