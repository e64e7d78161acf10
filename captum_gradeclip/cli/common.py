"""What the commands share: groups of arguments, checks before the work, and flags in place of parameters in messages."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, get_type_hints

from rich.console import Console

if TYPE_CHECKING:
    from PIL import Image

    from ..adapters.loading import Loaded
    from ..attr.registry import Kind
    from ..images import Picture, Resize

Run = Callable[[argparse.Namespace], None]
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
console = Console(stderr=True)


class UsageError(Exception):
    """Something that the user can put right; it is shown without a traceback."""


def add_command(
    subparsers: Subparsers, name: str, run: Run, text: str, aliases: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Adds the parser of a command that writes into a folder, ``--out``.

    Args:
        subparsers: those of ``gradeclip``, or of a command with commands of its own.
        name: what the user types.
        run: what is given the parsed arguments.
        text: one line of help.
        aliases: other names (default none).
    """
    parser = subparsers.add_parser(name, aliases=aliases, help=text, description=text)
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("gradeclip-out"),
        metavar="FOLDER",
        help="where the results are written [%(default)s]",
    )
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--pretrained`` and ``--device``, as :func:`captum_gradeclip.adapters.loading.load` takes them."""
    from ..adapters.loading import NAMES

    parser.add_argument("--model", default="scenes", help=f"{NAMES} [%(default)s]")
    add_pretrained(parser)
    add_device(parser)


def add_pretrained(parser: argparse.ArgumentParser) -> None:
    """``--pretrained``, the weights of a model."""
    parser.add_argument(
        "--pretrained",
        metavar="TAG|FILE",
        help="weights, a tag of open_clip or timm or a file [random weights; scenes: its own]",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, where the model runs."""
    parser.add_argument("--device", default="cpu", help="a device of torch, cuda:0 for instance [%(default)s]")


def add_picture(parser: argparse.ArgumentParser) -> None:
    """The picture, and how it becomes the input of a model."""
    from typing import get_args

    from ..images import Resize

    parser.add_argument("path", metavar="image", help="a file: PNG, JPEG, WebP, ...")
    parser.add_argument(
        "--resize",
        choices=get_args(Resize),
        help="keep size and aspect, squash to the model's size, or crop the center"
        " [keep; squash for scenes, whose model knows one size]",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a factor on the size of the picture before keep [%(default)s]"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=8192, metavar="N", help="the most patches that keep may give [%(default)s]"
    )


def add_rise_masks(parser: argparse.ArgumentParser) -> None:
    """``--rise-masks``, the one option of a method that decides how long many methods together take."""
    parser.add_argument(
        "--rise-masks", type=int, default=500, metavar="N", help="how many masks RISE draws [%(default)s; in its paper 2000]"
    )


def add_options(parser: argparse.ArgumentParser, kind: Kind, names: Sequence[str]) -> None:
    """Adds options of a method that take one of several words, with the choices that the method itself declares.

    Args:
        parser: the parser of a command.
        kind: the method.
        names: names of fields of its ``Options``.
    """
    from ..attr.options import literals

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


def resize_of(arguments: argparse.Namespace) -> Resize:
    """How the picture is resized: as the user says, or as suits the model."""
    given: Resize | None = arguments.resize
    return given or ("squash" if arguments.model == "scenes" else "keep")


def about_input(arguments: argparse.Namespace) -> dict[str, object]:
    """What the user asked for about the model and its input, to be written beside results."""
    names = ("model", "pretrained", "scale", "max_tokens", "device")
    return {**{name: getattr(arguments, name) for name in names}, "resize": resize_of(arguments)}


def preparation(loaded: Loaded, arguments: argparse.Namespace) -> Callable[[Image.Image], Picture]:
    """What makes a picture the input of a model, as ``--resize``, ``--scale`` and ``--max-tokens`` say.

    It normalizes with the statistics of the library's processor, or with those of the model if there is none.
    """
    from .. import adapters
    from ..images import prepare

    tower = adapters.image_tower(loaded.model)
    mean, std = loaded.statistics or (tower.mean, tower.std)
    return partial(
        prepare,
        size=tower.size,
        patch=tower.patch,
        mean=mean,
        std=std,
        resize=resize_of(arguments),
        scale=arguments.scale,
        max_tokens=arguments.max_tokens,
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


def check_writable(folder: Path) -> None:
    """Tells before the work, not after it, that a folder cannot be made or written into.

    Raises:
        UsageError: naming the folder.
    """
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"out: cannot write into {str(folder)!r}: {str(place)!r} is not a folder that can be written")


def in_flags(message: str, parser: argparse.ArgumentParser | None) -> str:
    """A message that begins with the name of a parameter, as one that begins with the option of the command.

    The library names its parameters. An argument of a command has the name of the parameter that it becomes as its
    ``dest``, so that this is the only place that knows both.

    Args:
        message: what the library says, ``"text_layers: expected 1 to 8"`` for instance.
        parser: the parser of the command; ``None`` leaves the message as it is.

    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--target", dest="targets"), parser.add_argument("texts", metavar="text")
    >>> in_flags("targets: expected a class", parser), in_flags("texts: none", parser), in_flags("sizes: odd", parser)
    ('--target: expected a class', 'text: none', 'sizes: odd')
    """
    name, colon, rest = message.partition(": ")
    for action in [] if parser is None or not colon else parser._actions:  # argparse has no public list of them
        if action.dest == name:
            shown = action.option_strings[-1] if action.option_strings else str(action.metavar or name)
            return f"{shown}: {rest}"
    return message


def names_of(given: str) -> list[str]:
    """The names in a list with commas.

    >>> names_of("GAME, grad-eclip")
    ['GAME', 'grad-eclip']
    """
    return [one.strip() for one in given.split(",")]


def save_json(path: Path, content: Mapping[str, object] | Sequence[object]) -> None:
    """Writes a JSON file, whose folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
