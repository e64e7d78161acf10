"""``gradeclip tune``: fine-tunes a model with the regions that maps find for the phrases of captions."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, get_args, get_type_hints

from .common import (
    Screen,
    Subparsers,
    UsageError,
    add_command,
    add_model,
    check_numbers,
    load_model,
    names_of,
    require_texts,
    require_tokenizer,
)
from .interrupt import told_to_end

if TYPE_CHECKING:
    from ..tuning.pairs import Pairs

HELP = "fine-tune a model with the regions that maps find for the phrases of captions"
_SETTINGS = {
    "local": "the loss of regions: with the maps of a method, the rival CLIPSelf, or none for ordinary fine-tuning",
    "steps": "number of steps",
    "batch": "pairs per step, over all processes",
    "accumulation": "micro-batches that a batch is cut into",
    "lr": "highest learning rate",
    "weight_decay": "weight decay of AdamW",
    "warmup": "steps over which the learning rate rises [a tenth of the steps, 1000 at most]",
    "clip": "largest norm of the gradient",
    "precision": "what the passes compute in; no: single precision",
    "text": "whether the text tower is trained",
    "global_weight": "factor on the contrastive loss of pictures and captions",
    "local_weight": "factor on the loss of regions",
    "phrases": "most phrases of a caption",
    "boxes": "most boxes of a picture, of CLIPSelf",
    "comparison": "how regions and phrases are compared",
    "gamma": "exponent of the focal loss",
    "alpha": "weight of positive pairs, with sigmoid",
    "seed": "seed of the order of the data",
    "patience": "steps without a finite loss after which the run ends",
}
"""The help of the settings that are words of the command."""


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command; its options are the fields of :class:`captum_gradeclip.tuning.TuneSettings`."""
    from ..options import literals
    from ..tuning import TuneSettings

    parser = add_command(subparsers, "tune", run, HELP)
    add_model(parser)
    parser.add_argument("--data", choices=("scenes", "table", "shards"), default="scenes", help=_DATA)
    parser.add_argument("--pairs", metavar="FILE", help="of data table and shards: the CSV or TSV file; the tar files")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="of data table: where paths begin [that of the file]")
    parser.add_argument("--columns", default="path,caption", metavar="PATH,CAPTION", help="of data table [%(default)s]")
    parser.add_argument("--samples", type=int, default=8192, metavar="N", help="of data scenes: how many [%(default)s]")
    hints, default = get_type_hints(TuneSettings), TuneSettings()
    for one in fields(TuneSettings):
        if one.name not in _SETTINGS:
            continue
        choices = literals(hints[one.name])
        value = getattr(default, one.name)
        kind = next((part for part in _parts(hints[one.name]) if part in (int, float)), str)
        shown = "" if value is None else " [%(default)s]"
        parser.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=kind,
            choices=choices or None,
            metavar=None if choices else "N",
            default=value,
            help=f"{_SETTINGS[one.name]}{shown}",
        )
    parser.add_argument(
        "--own-phrase-only", action="store_true", help="equal phrases of a batch are negatives for each other [positives]"
    )
    parser.add_argument(
        "--tagger", choices=("textblob", "nltk"), default="textblob", help="what tags the words of captions [%(default)s]"
    )
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read pictures [%(default)s]")
    parser.add_argument("--save-every", type=int, default=500, metavar="N", help="steps between checkpoints [%(default)s]")
    parser.add_argument("--track", metavar="NAME,...", help="trackers of accelerate that get the log, such as tensorboard")


_DATA = (
    "scenes: of the embedded model; table: a file with a path and a caption in each row; shards: tar files of webdataset,"
    " {00..31} stands for numbers [%(default)s]"
)


def run(arguments: argparse.Namespace) -> None:
    """Fine-tunes, or goes on with the run in the folder, and says where the weights are."""
    from ..tuning import TuneSettings, tune

    check_numbers(arguments, samples=1, workers=0, save_every=1)
    names = [one.name for one in fields(TuneSettings) if one.name in _SETTINGS]
    given = {name: getattr(arguments, name) for name in names}
    settings = TuneSettings(**given, same_phrase=not arguments.own_phrase_only)
    pairs = _pairs(arguments)
    loaded = load_model(arguments)
    require_texts(loaded, arguments.model, "model")
    require_tokenizer(loaded, arguments.model)
    metadata: dict[str, str] = {}
    if arguments.model == "scenes":
        from ..scenes.model import architecture

        metadata = {"architecture": architecture(loaded.model)}
    with told_to_end(arguments.out):
        tuned = tune(
            loaded.model,
            pairs,
            loaded.tokenizer,
            settings,
            out=arguments.out,
            inplace=True,
            device="cpu" if arguments.device == "cpu" else None,
            tagger=arguments.tagger,
            workers=arguments.workers,
            save_every=arguments.save_every,
            trackers=names_of(arguments.track) if arguments.track else (),
            metadata=metadata,
        )
    screen, row = Screen(), tuned.log[-1]
    screen.print(
        f"loss {row['loss']:.3f} (pictures and captions {row['global']:.3f}, regions {row['local']:.3f}) at step"
        f" {row['step']:.0f}; {len(tuned.broken)} pairs could not be read",
        highlight=False,
    )
    screen.print(f"weights, log and checkpoint are in {arguments.out}", soft_wrap=True, markup=False)


def _pairs(arguments: argparse.Namespace) -> Pairs:
    from ..tuning import ScenePairs, ShardPairs, TablePairs

    if arguments.data == "scenes":
        return ScenePairs(arguments.samples)
    if arguments.pairs is None:
        raise UsageError(f"pairs: data {arguments.data} needs it, got nothing")
    if arguments.data == "shards":
        return ShardPairs(arguments.pairs)
    columns = names_of(arguments.columns)
    if len(columns) != 2:
        raise UsageError(f"columns: expected the names of two columns, path and caption, got {len(columns)}")
    return TablePairs(Path(arguments.pairs), arguments.root, *columns)


def _parts(kind: object) -> tuple[object, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)
