"""``gradeclip study``: what a model looks at, by studies of which each is a command of its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from .common import (
    Screen,
    Subparsers,
    UsageError,
    add_command,
    add_methods,
    add_model,
    check_numbers,
    load_model,
    names_of,
    require_texts,
    require_tokenizer,
)
from .interrupt import told_to_end

if TYPE_CHECKING:
    from ..experiments import Study

HELP = "study what a model looks at: whether maps add up, which attributes are seen, which words weigh, which heads point"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command, with one of its own for each study."""
    parser = subparsers.add_parser("study", help=HELP, description=HELP)
    studies = parser.add_subparsers(dest="study", required=True, metavar="WHAT")
    from ..experiments import STUDIES

    for kind in STUDIES.values():
        add_study(studies, kind)


def add_study(studies: Subparsers, kind: type[Study]) -> None:
    """Adds ``gradeclip study`` with the name of a study."""
    from ..attr.registry import BASELINES, METHODS
    from ..experiments import StudySettings
    from ..experiments.data.row_data import RowData
    from ..images import Resize
    from ..metrics.transport import Cost

    default = StudySettings()
    parser = add_command(studies, kind.name, run_study, kind.summary)
    add_model(parser)
    add_methods(parser, [*METHODS, *BASELINES])
    parser.set_defaults(methods=default.methods)
    data = "; ".join(f"{name}: {one.summary}" for name, one in kind.datasets.items())
    parser.add_argument(
        "--data", choices=tuple(kind.datasets), default=next(iter(kind.datasets)), help=f"{data} [%(default)s]"
    )
    rows = kind.datasets["csv"]
    assert issubclass(rows, RowData)
    known = {"clevr": "CLEVR's scenes.json", "coco": "Karpathy's dataset_coco.json"}
    files = [
        f"a CSV file with the columns {', '.join(rows.columns)}",
        *(known[one] for one in kind.datasets if one in known),
    ]
    parser.add_argument("--annotations", type=Path, metavar="FILE", help=f"of data csv and others: {'; or '.join(files)}")
    holds = "with the folders images and masks, for clevr" if "clevr" in kind.datasets else "[that of the CSV file]"
    parser.add_argument("--root", type=Path, metavar="FOLDER", help=f"the folder of the pictures {holds}")
    parser.add_argument("--samples", type=int, metavar="N", help="use only the first so many samples [all; of 500 scenes]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the scenes [%(default)s]")
    parser.add_argument(
        "--resize", choices=get_args(Resize), default=default.resize, help="how pictures become inputs [%(default)s]"
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave out samples that cannot be used, and count them")
    if kind.name == "attributes":
        parser.add_argument(
            "--grid", type=int, default=default.grid, metavar="N", help="rows and columns of optimal transport [%(default)s]"
        )
        parser.add_argument(
            "--cost", choices=get_args(Cost), default=default.cost, help="of optimal transport [%(default)s]"
        )
    if kind.of_texts:
        parser.add_argument(
            "--ratings",
            type=Path,
            metavar="FILE",
            help="a CSV file or a spreadsheet with the columns Word and Conc.M, as of Brysbaert et al. 2014 [our own"
            " marks of the words of scenes]",
        )
        parser.add_argument(
            "--frequency",
            default="captions",
            metavar="captions|wordfreq|FILE",
            help="how often words are used: in the captions themselves, by the package wordfreq, or a file with a word"
            " and its count in each line [%(default)s]",
        )
        parser.add_argument(
            "--words", type=int, default=1000, metavar="N", help="how many of the most frequent words [%(default)s]"
        )
    else:
        parser.add_argument(
            "--examples", type=int, nargs="+", metavar="N", help="numbers of the samples that are drawn, from 0 [the first]"
        )


def run_study(arguments: argparse.Namespace) -> None:
    """Measures a study, prints what follows and writes tables, figures and records."""
    from ..experiments import STUDIES, DataArguments, Reading, StudySettings, conclude, make_dataset, run
    from ..experiments.studies import frequency, ratings

    kind = STUDIES[arguments.study]
    check_numbers(arguments, seed=0)
    methods = arguments.methods if arguments.methods == "all" else names_of(arguments.methods)
    shared = ("resize", "rise_masks", "skip_broken", *(name for name in ("grid", "cost") if name in arguments))
    settings = StudySettings(methods=methods, **{name: getattr(arguments, name) for name in shared})
    reading = Reading(**{name: getattr(arguments, name) for name in Reading.__dataclass_fields__ if name in arguments})
    # What is only read at the end is tried before the work.
    if reading.ratings is not None:
        ratings.read(reading.ratings)
    frequency.look_up(reading.frequency, ["a"], {"a": 1})
    given = {name: getattr(arguments, name) for name in ("annotations", "root", "samples", "seed")}
    data = make_dataset(arguments.data, DataArguments(counts=kind.things, **given), kind.datasets)
    loaded = load_model(arguments)
    require_texts(loaded, arguments.model, "model")
    require_tokenizer(loaded, arguments.model)
    out = arguments.out / f"{kind.name}-{data.name}"
    about = {name: getattr(arguments, name) for name in ("model", "pretrained")}
    with told_to_end(out):
        records = run(kind, loaded, data, settings, out, about=about)
    if records is None:
        return
    reports = conclude(kind, loaded, data, settings, records, reading)
    if not reports:
        raise UsageError("data: no sample could be measured; they are broken, or there is nothing to ask for in them")
    screen = Screen()
    for report in reports:
        for name, table in report.tables.items():
            if name not in ("raw", "words"):  # what is for a second look is in the files
                Screen(width=max(120, screen.width)).print(table.screen())
        for one in report.findings:
            screen.print(f"- {one}", soft_wrap=True, markup=False, highlight=False)
        report.write(out)
    screen.print(f"tables, figures and records are in {out}", soft_wrap=True, markup=False)
