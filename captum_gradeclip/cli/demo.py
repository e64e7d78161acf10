"""``gradeclip demo``: three scenes that the embedded model has not seen, explained without a network."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..progress import track
from .common import (
    FREE,
    Subparsers,
    about_input,
    add_command,
    add_device,
    add_drawing,
    add_full_size,
    add_overwrite,
    console,
    place_of,
    style_of,
)
from .explain import add_grad_eclip, add_html, explain_picture, print_scores

if TYPE_CHECKING:
    from ..scenes import Scene

HELP = "explain three held-out scenes with the embedded model, offline"
SIDE = 448
"""Height and width of the pictures in pixels."""


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command."""
    parser = add_command(subparsers, "demo", run, HELP, place=FREE)
    add_device(parser)
    add_grad_eclip(parser)
    add_drawing(parser)
    add_full_size(parser)
    add_html(parser)
    add_overwrite(parser)
    parser.set_defaults(
        model="scenes", pretrained=None, resize="model", scale=1.0, max_tokens=None, targets=None, against=None
    )
    parser.set_defaults(method="GradECLIP", option=[], several=True, no_score=False)


def run(arguments: argparse.Namespace) -> None:
    """Draws and explains the scenes, writes a folder for each and prints a table of the scores."""
    from .. import scenes
    from ..adapters.loading import load
    from ..index import check_free
    from ..report import file_names, results_in, saving
    from ..results import Results

    chosen, style = choose_scenes(), style_of(arguments)

    def scene_in(folder: Path, number: int) -> Results:
        return results_in(folder / f"scene-{number}")

    kinds = [partial(scene_in, number=number) for number in range(len(chosen))]
    out = place_of(arguments, *kinds)
    check_free(out, arguments.overwrite, *kinds)
    for number, scene in enumerate(chosen):
        names = file_names(texts_about(scene), words=True, image=True, format=style.format, html=arguments.html)
        scene_in(out, number).check(names)
    loaded = load(device=arguments.device)
    explanations = []
    with ExitStack() as stack:  # the scenes are replaced together
        for number, scene in enumerate(track(chosen, "explaining scenes", console=console)):
            image, _ = scenes.draw(scene, SIDE)
            name = f"scene-{number}"
            explanations.append(explain_picture(loaded, image, name, texts_about(scene), arguments))
            about = about_input(arguments)
            writing = saving(explanations[-1], out / name, about, image=True, style=style, html=arguments.html)
            stack.enter_context(writing)
    print_scores(explanations, out)


def choose_scenes() -> list[Scene]:
    """Three held-out scenes of three or four things that all differ in color and in shape."""
    from .. import scenes

    chosen: list[Scene] = []
    index = 0
    while len(chosen) < 3:
        scene = scenes.sample_scene(1, index, "evaluation", counts=(3, 4))
        index += 1
        colors = {thing.colour for thing in scene.things}
        shapes = {thing.shape for thing in scene.things}
        if len(colors) == len(shapes) == len(scene.things):
            chosen.append(scene)
    return chosen


def texts_about(scene: Scene) -> list[str]:
    """Four texts about the first three things of a scene: a name, a name with "the", a color, and two names."""
    from .. import scenes

    first, second, third = (scenes.name(thing).text for thing in scene.things[:3])
    both = f"{scenes.with_article(third)} and {scenes.with_article(first)}"
    return [scenes.with_article(first), f"the {second}", f"something {scene.things[2].colour}", both]
