"""What the commands share: groups of arguments, checks before the work, and flags in place of parameters in messages."""

from __future__ import annotations

import argparse
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias, get_type_hints

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from ..files import write_json
from ..quoting import MOST_OF_MESSAGE, check_utf8, legible, line, quoted
from ..results import Results

if TYPE_CHECKING:
    from PIL import Image

    from ..adapters.loading import Loaded
    from ..attr.registry import Kind
    from ..images import Picture
    from ..index import ResultsIn
    from ..show import Style

FREE = "%(default)s, or the next such name without results"
"""What the help of ``--out`` says where :func:`place_of` chooses it."""
_TO_MODEL_SIZE = ("model", "crop", "squash")
"""The values of ``--resize`` that bring any picture to the model's own size."""
WORTH_TELLING = 5.0
"""Seconds of work from which on the user is told how long it will take."""
_WIDEST = 10_000
"""More characters than any table is wide."""
Run = Callable[[argparse.Namespace], int | None]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class UsageError(Exception):
    """Something that the user can put right; it is shown without a traceback."""


class Screen(Console):
    """The terminal, to which nothing that is printed can give a command.

    Colors and the movements of progress bars are its own; whatever else is not a printed character becomes visible, see
    :func:`captum_gradeclip.quoting.legible`.
    """

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The same segments, legible."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment("\n".join(map(legible, segment.text.split("\n"))), segment.style)


console = Screen(stderr=True)


class Parser(argparse.ArgumentParser):
    """A parser whose errors show at most a few lines of what was passed, and no control characters of it."""

    def error(self, message: str) -> NoReturn:
        """Prints the usage and a message, and exits with 2."""
        super().error(line(message, MOST_OF_MESSAGE))


def check_arguments(arguments: argparse.Namespace) -> None:
    """Tells before the work that a name or a text on the command line is not UTF-8.

    Raises:
        ValueError: naming the argument.
    """
    for name, value in vars(arguments).items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | os.PathLike):
                check_utf8(name, os.fspath(one))


def add_command(
    subparsers: Subparsers,
    name: str,
    run: Run,
    text: str,
    aliases: Sequence[str] = (),
    place: str = "%(default)s",
) -> argparse.ArgumentParser:
    """Adds the parser of a command that writes into a folder, ``--out``.

    Args:
        subparsers: those of ``gradeclip``, or of a command with commands of its own.
        name: what the user types.
        run: what is given the parsed arguments.
        text: one line of help.
        aliases: other names (default none).
        place: what the help says of the folder that is chosen without ``--out`` (default its name).
    """
    parser = subparsers.add_parser(name, aliases=aliases, help=text, description=text)
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gradeclip-out"),
        metavar="FOLDER",
        help=f"where the results are written [{place}]",
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """``--model``, and what :func:`load_model` reads beside it."""
    from ..adapters.loading import NAMES

    parser.add_argument("--model", default="scenes", help=f"{NAMES} [%(default)s]")
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """``--pretrained``, ``--trust-remote-code`` and ``--device``: the weights, what they may bring, and where they lie."""
    parser.add_argument(
        "--pretrained",
        metavar="TAG|FILE",
        help="weights, a tag of open_clip or timm or a file [random weights; scenes: its own]",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with a folder or a name on a hub, if the model needs it [such a model is refused]",
    )
    add_device(parser)


def load_model(arguments: argparse.Namespace, name: str | None = None) -> Loaded:
    """The model that the arguments of :func:`add_model` or :func:`add_weights` describe.

    Args:
        arguments: those of the command.
        name: its name (default: that of ``--model``).
    """
    from ..adapters.loading import load

    model = arguments.model if name is None else name
    return load(model, arguments.pretrained, arguments.device, arguments.trust_remote_code)


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, where the model runs."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0, or auto for a GPU if there is one [%(default)s]")


def add_preparation(parser: argparse.ArgumentParser) -> None:
    """``--resize``, ``--scale`` and ``--max-tokens``: how a picture becomes the input of a model."""
    from ..images import USUAL_TOKENS

    parser.add_argument(
        "--resize",
        type=_resize,
        metavar="model|keep|crop|squash|N",
        help="model: exactly as the model's own library does it, so that the score is the one that everybody has; for finer"
        " maps N, the longer side in pixels, or keep, the picture's own size; crop the center or squash to the model's size"
        " [model; keep with --scale]",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a factor on the size of the picture before keep [%(default)s]"
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        metavar="N",
        help=f"the most patches that keep or N may give [{USUAL_TOKENS}, to which larger pictures are shrunk]",
    )


def _resize(given: str) -> str | int:
    """The value of ``--resize``."""
    if given in (*_TO_MODEL_SIZE, "keep"):
        return given
    if given.isdecimal() and 0 < len(given) < 7:
        return int(given)
    raise argparse.ArgumentTypeError(f"expected model, keep, crop, squash or the longer side in pixels, got {quoted(given)}")


def add_targets(parser: argparse.ArgumentParser) -> None:
    """``--target``, the classes of a classifier that are explained."""
    parser.add_argument(
        "--target",
        action="append",
        dest="targets",
        metavar="CLASS",
        help="a class of a classifier, by index, name or WordNet id (n02091134, of ImageNet); may be repeated [the three"
        " most probable]",
    )


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """How the pictures look, which :func:`style_of` reads."""
    parser.add_argument(
        "--cmap", metavar="NAME", help="a color map of matplotlib [plasma; RdBu_r, centered on zero, for negative values]"
    )
    parser.add_argument(
        "--color-scale",
        choices=("shared", "each"),
        default="shared",
        help="one scale for all texts of a picture, so that a wrong text looks cold, or one for each map [%(default)s]",
    )
    parser.add_argument("--width", type=float, metavar="MM", help="width of the figures in millimeters [what suits them]")
    parser.add_argument("--dpi", type=int, default=150, metavar="N", help="dots per inch of the figures [%(default)s]")
    parser.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="of the figures [%(default)s]")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """``--overwrite``, for commands whose results :func:`place_of` finds a place for."""
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run [they are kept]")


def place_of(arguments: argparse.Namespace, *kinds: ResultsIn) -> Path:
    """Where results are written: the folder that was asked for, and else the first one without results of an earlier run.

    Args:
        arguments: those of the command.
        kinds: as for :func:`captum_gradeclip.index.free_folder`.
    """
    from ..index import free_folder

    chosen: Path = arguments.out
    if chosen is not arguments.parser.get_default("out") or arguments.overwrite or getattr(arguments, "resume", False):
        return chosen
    return free_folder(chosen, *kinds)


def add_full_size(parser: argparse.ArgumentParser) -> None:
    """``--full-size``, for commands that write overlays."""
    parser.add_argument(
        "--full-size",
        action="store_true",
        help="overlays at the picture's own size [1600 pixels along the longer side at most]",
    )


def style_of(arguments: argparse.Namespace) -> Style:
    """The style that the arguments of :func:`add_drawing` and :func:`add_full_size` describe.

    Raises:
        ValueError: naming the argument that is out of range.
    """
    from ..show import Style

    given = {one.name: getattr(arguments, one.name) for one in fields(Style) if hasattr(arguments, one.name)}
    return Style(**given)


def add_methods(parser: argparse.ArgumentParser, usual: Sequence[Kind]) -> None:
    """``--methods``, and ``--rise-masks``, the one option of a method that decides how long many methods together take.

    ``--methods help`` prints all of them and ends the command, which needs nothing else for it.

    Args:
        parser: the parser of a command.
        usual: the methods that ``all`` stands for; Captum's own have to be named.
    """
    from ..attr.registry import CAPTUM

    kinds = {"all": usual, "also, of Captum": CAPTUM}
    names, others = (", ".join(kind.__name__ for kind in some) for some in kinds.values())

    class Chosen(argparse.Action):
        def __call__(
            self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: str | None = None
        ) -> None:
            if values == "help":
                print_methods(kinds)
                parser.exit()
            setattr(namespace, self.dest, values)

    parser.add_argument(
        "--methods",
        action=Chosen,
        default="all",
        metavar="all|NAME,...|help",
        help=f"all: {names}; also {others} of Captum, for images; help: tell in a line what each of them is [%(default)s]",
    )
    parser.add_argument(
        "--rise-masks", type=int, default=500, metavar="N", help="how many masks RISE draws [500; as released 2000]"
    )


def print_methods(kinds: Mapping[str, Sequence[Kind]]) -> None:
    """Prints a line for each method: its id, what it explains, and what it is.

    Args:
        kinds: the methods, by a heading for each group of them.
    """
    longest = max(len(kind.__name__) for some in kinds.values() for kind in some)
    screen = Screen()
    for heading, some in kinds.items():
        screen.print(f"{heading}:", style="bold", highlight=False)
        for kind in some:
            explains = "images, texts" if kind.info.text else "images"
            told = (kind.__doc__ or kind.info.name).strip().partition("\n")[0]
            text = f"  {kind.__name__:{longest}}  {explains:13}  {told}"
            screen.print(text, markup=False, highlight=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Prints a table within the width of the terminal.

    Headings of several words are broken to the width of what stands below them. Columns that do not fit side by side then
    follow in further blocks, each of which begins with the first column. Title and caption stand above and below all of it.

    Args:
        table: a table of short cells, of which none has to be broken.
    """
    screen = Screen()
    first, *others = [_narrowed(screen, column) for column in table.columns]
    left = screen.width - (_width(screen, _block(others)) if others else 0) - 3  # beside a gap
    first.max_width = max(screen.width // 3, 12, left)
    parts: list[list[Column]] = [[]]
    for column in others:
        if parts[-1] and _width(screen, _block([first, *parts[-1], column])) > screen.width:
            parts.append([])
        parts[-1].append(column)
    if table.title:
        screen.print(table.title, style="italic", highlight=False)
    for number, part in enumerate(parts):
        screen.print(*([""] if number else []), _block([first, *part]), sep="\n")
    if table.caption:
        screen.print(table.caption, style="dim italic", highlight=False)


def _narrowed(screen: Screen, column: Column) -> Column:
    """A column whose heading is broken into lines that are no longer than its cells or its longest word."""
    heading = str(column.header)
    widest = max([_width(screen, cell) for cell in column.cells] + [len(word) for word in heading.split()])
    return replace(column, header=textwrap.fill(heading, max(widest, 1), break_long_words=False), _cells=[*column.cells])


def _block(columns: Sequence[Column]) -> Table:
    """A table of some columns of another one."""
    block = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        block.add_column(Text(str(column.header)), justify=column.justify, overflow="fold", max_width=column.max_width)
    for row in zip(*(column.cells for column in columns)):
        block.add_row(*row)
    return block


def _width(screen: Screen, shown: RenderableType) -> int:
    return Measurement.get(screen, screen.options.update(max_width=_WIDEST), shown).maximum


def add_options(parser: argparse.ArgumentParser, kind: Kind, names: Sequence[str]) -> None:
    """Adds options of a method that take one of several words, with the choices that the method itself declares.

    Args:
        parser: the parser of a command.
        kind: the method.
        names: names of fields of its ``Options``.
    """
    from ..options import literals

    hints = get_type_hints(kind.Options)
    for one in fields(kind.Options):
        if one.name in names:
            # A map for each head is more than a picture with one overlay for each text can show.
            choices = [value for value in literals(hints[one.name]) if value != "each"]
            flag = f"--{one.name.replace('_', '-')}"
            parser.add_argument(flag, choices=choices, default=one.default, help=f"{_OPTIONS[one.name]} [%(default)s]")


_OPTIONS = {
    "heads": "single: one head over all channels, as in the paper; model: the model's own heads",
    "spatial_weight": "how much each patch or word counts by its similarity to what is read out; none: all alike",
}


def resize_of(arguments: argparse.Namespace) -> str | int:
    """How the picture is resized: as the user says, and else by the model's own preprocessing.

    Raises:
        UsageError: for a factor on the size of a picture that is brought to a size in any case.
    """
    given: str | int | None = arguments.resize
    scaled = arguments.scale != 1
    if scaled and given in _TO_MODEL_SIZE:
        raise UsageError(f"scale: --resize {given} brings pictures to the model's size in any case; leave one of them out")
    return ("keep" if scaled else "model") if given is None else given


def about_input(arguments: argparse.Namespace) -> dict[str, object]:
    """What the user asked for about the model and its input, to be written beside results."""
    names = ("model", "pretrained", "scale", "max_tokens", "device")
    return {**{name: getattr(arguments, name) for name in names}, "resize": resize_of(arguments)}


Made: TypeAlias = "tuple[Picture, list[str]]"
"""A picture with its input, and what was noticed when that was made."""


def input_maker(loaded: Loaded, arguments: argparse.Namespace) -> Callable[[Image.Image], Made]:
    """What makes a picture the input of a model, as ``--resize``, ``--scale`` and ``--max-tokens`` say.

    All ways follow the processor beside the weights, or the model's library if there is none.

    Args:
        loaded: the model.
        arguments: those of the command.

    Returns:
        A function that tells nothing by itself, so that threads may call it; :func:`tell_input` tells what is to be said.
    """
    from ..inputs import preparation
    from ..notices import kept_notices

    make = preparation(loaded.model, resize_of(arguments), loaded.processor, arguments.scale, arguments.max_tokens)

    def made(image: Image.Image) -> Made:
        with kept_notices() as noticed:
            return make(image), noticed

    return made


def tell_input(loaded: Loaded, name: str, made: Made, arguments: argparse.Namespace) -> None:
    """Prints what was noticed of an input and, if it is not of the model's own size, what it will cost.

    Args:
        loaded: the model.
        name: the name of the picture.
        made: the picture with its input.
        arguments: those of the command.
    """
    from ..adapters import image_tower
    from ..estimate import estimate

    picture, noticed = made
    warn(noticed, arguments)
    height, width = picture.pixels.shape[-2:]
    usual = resize_of(arguments) in _TO_MODEL_SIZE or (height, width) == image_tower(loaded.model).size
    if not usual and "told" not in arguments:  # of several pictures, it is told of the first
        arguments.told = True
        say(f"{line(name)}: {width} x {height} pixels make {estimate(loaded.model, (height, width))}")


def warn(messages: Sequence[str], arguments: argparse.Namespace) -> None:
    """Prints warnings, in terms of the command."""
    for one in messages:
        say(f"warning: {in_flags(one, arguments.parser)}")


def say(message: str) -> None:
    """Prints a line on the error output, where it does not mix with tables; of a long one, without its middle."""
    console.print(line(message, MOST_OF_MESSAGE), markup=False, highlight=False, soft_wrap=True)


def tell_scope(arguments: argparse.Namespace, texts: Sequence[str], paths: Sequence[Path]) -> None:
    """Says of the embedded model what it cannot know: photos, and words that it never saw.

    Args:
        arguments: those of the command.
        texts: what pictures are compared with.
        paths: the pictures.
    """
    if arguments.model != "scenes":
        return
    from ..report import results_in
    from ..scenes.vocabulary import scope, unknown_words

    unknown = unknown_words(texts)
    # Of files, those that a demo has written are scenes; what others show is not known.
    if unknown or not all(results_in(one.parent).is_whole() and one.name == "image.png" for one in paths):
        say(
            f"note: the {scope(unknown)}; for photos choose another one by --model, for instance --model ViT-B-16"
            " --pretrained openai"
        )


def require_texts(loaded: Loaded, name: str, argument: str) -> None:
    """Refuses a classifier where a model of images and texts is needed.

    Args:
        loaded: the model.
        name: its name, as the user gave it.
        argument: the argument that the message begins with.

    Raises:
        UsageError: for a model without a text encoder.
    """
    from ..explain import is_classifier

    if is_classifier(loaded.model):
        raise UsageError(f"{argument}: {name} is a classifier; this command needs a model of images and texts")


def require_tokenizer(loaded: Loaded, name: str) -> None:
    """Refuses texts where no tokenizer lies beside the model.

    Args:
        loaded: the model.
        name: its name, as the user gave it.

    Raises:
        UsageError: for a model without a tokenizer.
    """
    if loaded.tokenizer is None:
        raise UsageError(
            f"model: there is no tokenizer of {quoted(name)} here, and no text can be read without one; its files lie beside"
            " the weights of a folder, and some names need a network the first time"
        )


def check_numbers(arguments: argparse.Namespace, **least: int) -> None:
    """Tells before the work that a number is too small.

    Args:
        arguments: those of the command.
        least: the least that each of them may be; of several numbers, each of these.

    Raises:
        ValueError: naming the argument.
    """
    from ..arguments import check_number

    for name, minimum in least.items():
        given = getattr(arguments, name)
        for number in given if isinstance(given, list) else [given]:
            check_number(name, number, least=minimum)


def check_writable(folder: Path) -> None:
    """Tells before the work, not after it, that a folder cannot be made or written into.

    Raises:
        UsageError: naming the folder.
    """
    if len(folder.parts) > 200:  # Python makes each folder inside a call of the one above
        raise UsageError(f"out: cannot write into {quoted(folder)}: {len(folder.parts)} folders inside each other")
    # For a name that the system takes for none, since it is too long for instance, os.path.exists is false.
    place = next(one for one in (folder, *folder.absolute().parents) if os.path.exists(one))
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"out: cannot write into {quoted(folder)}: {quoted(place)} is not a folder that can be written")
    for name in (folder, *(place / part for part in folder.parts)):  # each part by itself, and all of them together
        try:
            os.lstat(name)
        except FileNotFoundError:
            continue  # it can be made
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(f"out: cannot write into {quoted(folder)}: {said}") from None


def in_flags(message: str, parser: argparse.ArgumentParser | None) -> str:
    """A message that begins with the name of a parameter, as one that begins with the option of the command.

    The library names its parameters. An argument of a command has the name of the parameter that it becomes as its
    ``dest``, so that this is the only place that knows both. What a message advises, ``scale=0.5`` for instance, becomes
    what can be typed.

    Args:
        message: what the library says, ``"text_layers: expected 1 to 8"`` for instance.
        parser: the parser of the command; ``None`` leaves the message as it is.

    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--target", dest="targets"), parser.add_argument("texts", metavar="text")
    >>> in_flags("targets: expected a class", parser), in_flags("texts: none", parser), in_flags("sizes: odd", parser)
    ('--target: expected a class', 'text: none', 'sizes: odd')
    >>> _ = parser.add_argument("--max-tokens")
    >>> in_flags("image: too large; give max_tokens=99, not 'max_tokens=5.png'", parser)
    "image: too large; give --max-tokens 99, not 'max_tokens=5.png'"
    """
    actions = [] if parser is None else parser._actions  # argparse has no public list of them
    flags = {one.dest: one.option_strings[-1] if one.option_strings else str(one.metavar or one.dest) for one in actions}

    def typed(found: re.Match[str]) -> str:
        flag, value = flags.get(found["name"] or "", ""), (found["value"] or "").strip(_QUOTES)
        return found[0] if not flag.startswith("-") else flag if value == "True" else f"{flag} {value}"

    given, colon, rest = message.partition(": ")
    name = given if given in flags else _ALIASES.get(given, given)
    return f"{flags.get(name, given) if colon else given}{colon}{_ADVICE.sub(typed, rest)}"


_QUOTES = "'\""
_ALIASES = {"folder": "out", "text": "texts", "images": "path", "preprocess": "resize", "methods": "method"}
"""What the library calls some arguments that a command has under another name."""
_ADVICE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\b(?P<name>[a-z_]+)=(?P<value>'[^']*'|[\w.]*\w)")
"""Something in quotes, which is left as it is, or the value of a parameter."""


def names_of(given: str) -> list[str]:
    """The names in a list with commas.

    >>> names_of("GAME, grad-eclip")
    ['GAME', 'grad-eclip']
    """
    return [one.strip() for one in given.split(",")]


def value_of(given: str) -> object:
    """A number, a boolean or a list as JSON has them, or else the string itself.

    >>> value_of("0.5"), value_of("true"), value_of("dot")
    (0.5, True, 'dot')
    """
    try:
        value: object = json.loads(given, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return given
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not in JSON")


def tell_time(seconds: Mapping[str, float], of: str = "") -> None:
    """Says how long the work will take, if it is long enough to be asked.

    Args:
        seconds: the time of each part of the work by its name.
        of: what the line begins with (default: nothing).
    """
    from ..estimate import told

    if sum(seconds.values()) >= WORTH_TELLING:
        say(f"{of}{told(seconds)}")


def json_in(folder: Path, name: str) -> Results:
    """A result that is one JSON file, which replaces only what an earlier run has written.

    Args:
        folder: where it lies.
        name: the name of the file.
    """
    return Results(folder, name, re.compile("(?!)"))


def save_json(path: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes a JSON file, whose folder is made if it is not there; see :func:`json_in` for what it may replace.

    Args:
        path: the file.
        content: what it holds; with a list, the file can say nothing about itself, and is always replaced.
    """
    if isinstance(content, Mapping):
        with json_in(path.parent, path.name).replacing(content):
            pass  # there is nothing beside the manifest
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
