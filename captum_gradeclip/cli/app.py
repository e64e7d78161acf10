"""``gradeclip app``: a page in the browser to choose pictures, texts and methods, or to take part in the study."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .common import (
    Screen,
    Subparsers,
    UsageError,
    add_device,
    check_writable,
    require_texts,
    require_tokenizer,
    say,
)

if TYPE_CHECKING:
    from ..adapters.loading import Loaded
    from ..app.models import Named
    from ..app.room import Room

HELP = "open a page in the browser: upload a picture, see maps, click words"
_PASSWORD = "GRADECLIP_PASSWORD"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    from ..adapters.loading import NAMES
    from ..app.limits import Limits
    from ..app.study import EXAMPLES, PICTURES

    usual = Limits()
    parser = subparsers.add_parser("app", help=HELP, description=HELP)
    parser.set_defaults(run=run, parser=parser, out=Path("."))
    parser.add_argument(
        "--model", action="append", metavar="NAME", help=f"{NAMES}; may be repeated, and visitors choose [scenes]"
    )
    parser.add_argument(
        "--pretrained",
        action="append",
        metavar="TAG|FILE",
        help="weights of the model, a tag of open_clip or timm or a file; with several models, one for each, '' for none",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with a folder or a name on a hub, if the model needs it [such a model is refused]",
    )
    add_device(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen to [%(default)s, this machine alone]")
    parser.add_argument("--port", type=int, metavar="N", help="port [the first free one from 7860 on]")
    parser.add_argument("--share", action="store_true", help="make the page reachable from everywhere by Gradio's tunnel")
    parser.add_argument(
        "--password",
        action="store_true",
        help=f"ask visitors for a password, which is taken from the variable {_PASSWORD} or asked for here",
    )
    parser.add_argument(
        "--open-to-all", action="store_true", help="let others come without a password, with --share or --host"
    )
    parser.add_argument("--megabytes", type=float, default=usual.megabytes, metavar="N", help="largest upload [%(default)g]")
    parser.add_argument(
        "--megapixels", type=float, default=usual.megapixels, metavar="N", help="largest picture [%(default)g]"
    )
    parser.add_argument(
        "--at-once", type=int, default=usual.at_once, metavar="N", help="explanations at the same time [%(default)s]"
    )
    study = parser.add_argument_group("study", "which of two captions does the model score higher, without and with maps?")
    study.add_argument("--study", action="store_true", help="show the study in place of the page")
    study.add_argument("--method", default="GradECLIP", metavar="NAME", help="the method of the maps [%(default)s]")
    study.add_argument(
        "--pictures", type=int, default=PICTURES, metavar="N", help="how many pictures are asked about, even [%(default)s]"
    )
    study.add_argument("--examples", type=int, default=EXAMPLES, metavar="N", help="examples before each half [%(default)s]")
    study.add_argument(
        "--data", type=Path, metavar="FILE", help="a CSV file with the columns image and caption [drawn scenes]"
    )
    study.add_argument(
        "--answers", type=Path, metavar="FILE", help="a CSV file for all answers, which a later run goes on with [none]"
    )
    study.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws [%(default)s]")
    parser.add_argument("--browser", action="store_true", help="open the page in a browser as well")


def run(arguments: argparse.Namespace) -> None:
    """Shows the page, or the study, until the user stops it, which is its end and no error."""
    from ..app.limits import Limits
    from ..app.models import Models
    from ..app.server import Place, ending, serving

    limits = Limits(megabytes=arguments.megabytes, megapixels=arguments.megapixels, at_once=arguments.at_once)
    place = Place(arguments.host, arguments.port, arguments.share, password_of(arguments), arguments.open_to_all)
    if place.password is None and place.open_to_all and (place.share or place.host != Place.host):
        say("warning: anybody who can reach this page can use it; --password asks visitors for one")
    models = Models(named_of(arguments), arguments.device, arguments.trust_remote_code)
    loaded = models[models.labels[0]]  # what cannot be loaded is told before the page opens
    room = room_of(loaded, arguments) if arguments.study else None

    def build() -> object:
        from ..app.desk import Desk

        if room is None:
            from ..app.page import build

            return build(Desk(models, limits))
        from ..app.study_page import build as build_study

        return build_study(room)

    with ending() as wait, serving(build, place, limits) as address:
        Screen().print(f"the page is at {address} until you press Ctrl-C", markup=False, soft_wrap=True)
        sys.stdout.flush()
        if arguments.browser:
            import webbrowser

            webbrowser.open(address)
        wait()
    if room is not None:
        say(str(room.outcome))


def room_of(loaded: Loaded, arguments: argparse.Namespace) -> Room:
    """The study, whose pictures are explained before the first participant comes.

    Raises:
        UsageError: if the model cannot be asked about captions.
        OSError, ValueError: naming what does not fit.
    """
    from ..app.room import Room
    from ..app.study import pairs_of, plan, row_material, scene_material

    plan(0, arguments.pictures, arguments.examples, arguments.seed)
    if arguments.answers is not None:
        check_writable(arguments.answers.parent)
    require_texts(loaded, "the model", "model")
    require_tokenizer(loaded, "the model")
    # Some more than are needed, since captions of the same score are left out.
    count = arguments.pictures + arguments.examples + 2
    if arguments.data is None:
        material = scene_material(count, arguments.seed)
    else:
        material = row_material(arguments.data, count, arguments.seed)
    pairs = pairs_of(loaded, material, arguments.method)
    label = named_of(arguments)[0].label
    return Room(pairs, arguments.pictures, arguments.examples, arguments.answers, arguments.seed, label)


def named_of(arguments: argparse.Namespace) -> list[Named]:
    """The models of the page, each with its weights.

    Raises:
        UsageError: if there are weights for some models only.
    """
    from ..app.models import Named

    names, weights = arguments.model or ["scenes"], arguments.pretrained or []
    if len(weights) not in (0, len(names)):
        raise UsageError(f"pretrained: expected one for each of {len(names)} models, '' for none, got {len(weights)}")
    return [Named(name, tag or None) for name, tag in zip(names, weights or [""] * len(names))]


def password_of(arguments: argparse.Namespace) -> str | None:
    """The password that visitors have to give; no argument, since others can see those of a process.

    Raises:
        UsageError: if it is empty.
    """
    if not arguments.password:
        return None
    given = os.environ.get(_PASSWORD) or getpass.getpass("password for visitors: ")
    if not given:
        raise UsageError(f"password: expected one, got none; set {_PASSWORD} or type it")
    return given
