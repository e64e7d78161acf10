"""``gradeclip benchmark``: figures over many images, each of them a command of its own below this one."""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, get_args, get_type_hints

from rich.table import Column, Table

from .common import (
    Screen,
    Subparsers,
    UsageError,
    add_command,
    add_device,
    add_methods,
    add_model,
    check_numbers,
    load_model,
    names_of,
    print_table,
    require_texts,
    save_json,
)
from .interrupt import told_to_end

if TYPE_CHECKING:
    from ..experiments import Task
    from ..experiments.findings import Finding

HELP = "measure methods over many images"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command, with one of its own for each task."""
    parser = subparsers.add_parser("benchmark", help=HELP, description=HELP)
    add_benchmarks(parser.add_subparsers(dest="task", required=True, metavar="WHAT"))


def add_benchmarks(tasks: Subparsers, without: Sequence[str] = ()) -> None:
    """Adds all tasks but some.

    Args:
        tasks: the subparsers of a command.
        without: names of tasks that are left out (default none).
    """
    from ..experiments import TASKS

    add_scenes(tasks)
    for name, kinds in TASKS.items():
        if name not in without:
            add_task(tasks, name, kinds[0])
    add_time(tasks)


def add_scenes(tasks: Subparsers) -> None:
    """Adds ``gradeclip benchmark scenes``."""
    from ..experiments.findings import FIGURES
    from ..scenes.world import Split

    parser = add_command(tasks, "scenes", run_scenes, "what the embedded model sees, and whether its maps tell it")
    parser.add_argument(
        "--scenes", type=int, default=500, dest="count", metavar="N", help="scenes for each figure [%(default)s]"
    )
    parser.add_argument("--split", choices=get_args(Split), default="evaluation", help="part of the scenes [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes [%(default)s]")
    parser.add_argument(
        "--figures", default="all", metavar="all|NAME,...", help=f"what is measured: {', '.join(FIGURES)} [%(default)s]"
    )
    parser.add_argument(
        "--coalitions",
        type=int,
        default=0,
        metavar="N",
        help="most coalitions of words and regions that the Banzhaf baseline of pairs asks for, of each scene, a forward"
        " pass each; takes the extra interactions [0, left out]",
    )
    parser.add_argument("--pretrained", metavar="FILE", help="other weights of the scenes model [its own]")
    add_device(parser)


def add_task(tasks: Subparsers, name: str, kind: type[Task]) -> None:
    """Adds ``gradeclip benchmark`` with the name of a task, of which one kind speaks for all."""
    from ..attr.registry import BASELINES, METHODS
    from ..experiments import DATASETS, SETUPS, DataArguments, Settings
    from ..images import Resize
    from ..metrics.baselines import Baseline
    from ..options import literals

    parser = add_command(tasks, name, run_task, kind.summary)
    words = {"label": "class", "segments": "mask", "captions": "captions"}
    needs = f" Of each picture, this task needs its {' and its '.join(words[one] for one in kind.needs)}."
    trees = [data.layout for data in DATASETS.values() if data.layout]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # trees keep their lines
    parser.epilog = "\n".join([f"Own data lie in one of these layouts.{needs if kind.needs else ''}\n", *trees])
    add_model(parser)
    add_methods(parser, [*METHODS, *BASELINES])
    known = "; ".join(f"{one}: {data.summary}" for one, data in DATASETS.items())
    parser.add_argument("--data", choices=tuple(DATASETS), default="scenes", help=f"{known} [%(default)s]")
    hints = get_type_hints(DataArguments)
    for one in fields(DataArguments):
        word, choices = _kind(hints[one.name]), literals(hints[one.name])
        if word or choices:  # the others are no words of a command: each task and data set has its own
            shown = one.metadata["help"] + ("" if one.default is None else " [%(default)s]")
            flag = f"--{one.name.replace('_', '-')}"
            shape = "PATH" if word is Path else "N" if word is int else None
            parser.add_argument(
                flag, type=word or str, choices=choices or None, metavar=shape, default=one.default, help=shown
            )
    parser.set_defaults(rise_masks=None)
    default = Settings()
    parser.add_argument(
        "--protocol", choices=tuple(SETUPS), default=default.protocol, help="how inputs are shown and changed [%(default)s]"
    )
    parser.add_argument(
        "--resize", choices=get_args(Resize), default=default.resize, help="how pictures become fair inputs [%(default)s]"
    )
    parser.add_argument(
        "--canvas",
        "--baseline",
        dest="baseline",
        choices=get_args(Baseline),
        default=kind.usual_baseline,
        help="what stands in the place of pixels that are taken away [%(default)s]",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=default.batch_size,
        metavar="N",
        help="changed inputs in a forward pass [%(default)s]",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="print the table of what an unfinished run has measured so far, by the same command; nothing is measured or"
        " written, and the run may be going on",
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave out samples that cannot be used, and count them")


def add_time(tasks: Subparsers) -> None:
    """Adds ``gradeclip benchmark time``."""
    from ..attr.registry import BASELINES, METHODS

    parser = add_command(tasks, "time", run_time, "seconds per image of every method (table V)")
    add_model(parser)
    add_methods(parser, [*METHODS, *BASELINES])
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 8], metavar="N", help="images at once, a table each [1 8]"
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="how often each method is timed [%(default)s]")
    parser.add_argument(
        "--labels", type=int, default=60, metavar="N", help="labels that CLIP Surgery compares [%(default)s; of scenes all]"
    )
    parser.add_argument(
        "--templates", type=int, default=4, metavar="N", help="sentences for each label [%(default)s; in the paper 85]"
    )


def run_scenes(arguments: argparse.Namespace) -> None:
    """Measures the embedded model on scenes, prints tables by group of figures and writes ``scenes.json``."""
    from ..adapters.loading import load
    from ..experiments import evaluate_scenes

    check_numbers(arguments, count=1, seed=0, coalitions=0)
    model = load(pretrained=arguments.pretrained, device=arguments.device).model
    found = evaluate_scenes(
        model,
        arguments.count,
        arguments.split,
        arguments.seed,
        names_of(arguments.figures),
        coalitions=arguments.coalitions,
    )
    title = f"{arguments.count} scenes, split {arguments.split}, seed {arguments.seed}"
    for group, some in itertools.groupby(found, key=lambda one: one.group):
        for table in _tables(list(some), f"{group}: {title}"):
            print_table(table)
    save_json(arguments.out / "scenes.json", [asdict(one) for one in found])


def _tables(findings: Sequence[Finding], title: str) -> Iterator[Table]:
    """The figures of a group: those with a line of their own, then those that have a place beside others."""
    alone = [one for one in findings if one.place is None]
    if alone:
        table = Table("figure", "value", "cases", title=title)
        for one in alone:
            table.add_row(one.what, f"{one.value:.3f}", str(one.cases))
        yield table
    placed = {one.place: one for one in findings if one.place is not None}
    if placed:
        rows, columns = (list(dict.fromkeys(place[axis] for place in placed)) for axis in (0, 1))
        tests = sum(one.p_value is not None for one in placed.values())
        caption = None
        if any(one.interval for one in placed.values()):
            caption = "In brackets, the interval of 95 %."
        if tests:
            caption = (
                "In brackets, the interval of 95 %. *: another mean than that of the paper's reading,"
                f" p < 0.05 by {tests} paired t-tests with Bonferroni's correction."
            )
        table = Table(Column("", no_wrap=True), *columns, "cases", title=title, caption=caption)
        for row in rows:
            own = [placed.get((row, column)) for column in columns]
            cases = max(one.cases for one in own if one is not None)
            table.add_row(row, *("-" if one is None else _cell(one, tests) for one in own), str(cases))
        yield table


def _cell(one: Finding, tests: int) -> str:
    """The value of a figure, with its interval and a mark if its mean is another one than that it was compared with."""
    if one.interval is None:
        return f"{one.value:.3f}"
    low, high = one.interval
    differs = one.p_value is not None and one.p_value < 0.05 / tests
    return f"{one.value:.3f}{'*' if differs else ''} [{low:.3f}, {high:.3f}]"


def run_task(arguments: argparse.Namespace) -> None:
    """Runs a task over a data set, prints its tables and writes them with the records of all samples."""
    from ..experiments import TASKS, DataArguments, Settings, make_dataset, partial_table, run, tabulate

    settings = Settings(
        methods=_methods(arguments.methods),
        protocol=arguments.protocol,
        resize=arguments.resize,
        baseline=arguments.baseline,
        batch_size=arguments.batch_size,
        rise_masks=arguments.rise_masks,
        skip_broken=arguments.skip_broken,
    )
    loaded = None if arguments.partial else load_model(arguments)
    if loaded is not None:
        require_texts(loaded, arguments.model, "model")
    names = [one.name for one in fields(DataArguments) if one.name in arguments]
    given = {name: getattr(arguments, name) for name in names}
    about = {name: getattr(arguments, name) for name in ("model", "pretrained")}
    for kind in TASKS[arguments.task]:
        data = make_dataset(arguments.data, DataArguments(counts=kind.things, **given))
        out = arguments.out / f"{kind.name.replace(' ', '-')}-{data.name}"
        if loaded is None:
            unfinished = partial_table(kind, data, settings, out, about=about)
            if unfinished is None:
                Screen().print(f"nothing is finished yet in {out}", soft_wrap=True, markup=False)
            else:
                print_table(unfinished.screen())
            continue
        with told_to_end(out):
            records = run(kind, loaded, data, settings, out, about=about)
        if records is not None:
            table = tabulate(kind, records, data, settings, out)
            print_table(table.screen())
            Screen().print(f"tables, curves and records are in {out}", soft_wrap=True, markup=False)


def run_time(arguments: argparse.Namespace) -> None:
    """Times all methods, prints and writes a table for each batch size."""
    import torch

    from .. import adapters
    from ..adapters.base import execution_device
    from ..experiments import Scenes, time_table
    from ..scores.prompts import imagenet_templates

    check_numbers(arguments, batch=1, rounds=1, labels=1, templates=1, rise_masks=1)
    loaded = load_model(arguments)
    require_texts(loaded, arguments.model, "model")
    tower = adapters.image_tower(loaded.model)
    shape, noise = (tower.channels, *tower.size), torch.Generator()
    most = 2**31 // math.prod(shape)  # values of a batch of 8 GiB
    if max(arguments.batch) > most:
        raise UsageError(f"batch: expected at most {most} images of {shape[1]} x {shape[2]}, got more")
    on_scenes = arguments.model == "scenes"
    names = list(Scenes(1).classes) if on_scenes else [f"thing {number}" for number in range(arguments.labels)]
    for batch in arguments.batch:
        pixels = torch.randn(batch, *shape, generator=noise.manual_seed(0)).to(execution_device(loaded.model))
        table = time_table(
            loaded,
            pixels,
            names,
            ["{}"] if on_scenes else imagenet_templates()[: arguments.templates],
            methods=_methods(arguments.methods),
            rounds=arguments.rounds,
            rise_masks=arguments.rise_masks,
        )
        arguments.out.mkdir(parents=True, exist_ok=True)
        table.write(arguments.out, f"time-batch-{batch}")
        print_table(table.screen())


def _kind(hint: object) -> type[Path] | type[int] | None:
    """What a word of the command becomes for a field of this type: a path, an integer, or neither of them."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return Path if Path in parts else int if int in parts else None


def _methods(given: str) -> str | list[str]:
    return given if given == "all" else names_of(given)
