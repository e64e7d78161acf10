"""``gradeclip evaluate``: what a model knows of regions, and what it finds; and the tasks of ``gradeclip benchmark``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from rich.table import Table

from .benchmark import add_benchmarks
from .common import (
    Screen,
    Subparsers,
    UsageError,
    add_command,
    add_model,
    check_numbers,
    load_model,
    print_table,
    require_texts,
    require_tokenizer,
    save_json,
)

HELP = "measure a model: classification of regions, retrieval; also all that benchmark measures but its own retrieval"


def add(subparsers: Subparsers) -> None:
    """Adds the parser of the command, with one of its own for each figure."""
    parser = subparsers.add_parser("evaluate", help=HELP, description=HELP)
    kinds = parser.add_subparsers(dest="task", required=True, metavar="WHAT")
    add_regions(kinds)
    add_retrieval(kinds)
    # What was a second name of benchmark goes on.
    add_benchmarks(kinds, without=("retrieval",))


def add_regions(kinds: Subparsers) -> None:
    """Adds ``gradeclip evaluate regions``."""
    text = "zero-shot classification of boxes and masks by dense features, mean class accuracy"
    parser = add_command(kinds, "regions", run_regions, text)
    add_model(parser)
    parser.add_argument(
        "--data",
        choices=("scenes", "coco-panoptic"),
        default="scenes",
        help="scenes of the embedded model, or pictures with panoptic segmentations in COCO's format [%(default)s]",
    )
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="the folder of the pictures, val2017 for instance")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="panoptic_val2017.json for instance")
    parser.add_argument(
        "--segments", type=Path, metavar="FOLDER", help="the folder of the segments' PNG files [beside the annotations]"
    )
    parser.add_argument("--samples", type=int, metavar="N", help="only the first so many pictures [all; 500 scenes]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the scenes [%(default)s]")
    parser.add_argument(
        "--size", type=int, metavar="N", help="longer side of pictures in pixels; CLIPSelf has 1024 or 896 [the model's own]"
    )
    parser.add_argument(
        "--templates",
        type=Path,
        metavar="FILE",
        help="sentences with {} in the place of a class name, one per line [scenes: the name alone; else OpenAI's eighty]",
    )
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="pictures in a pass [%(default)s]")


def add_retrieval(kinds: Subparsers) -> None:
    """Adds ``gradeclip evaluate retrieval``."""
    text = "recall among the best 1, 5 and 10, of captions by pictures and of pictures by captions"
    parser = add_command(kinds, "retrieval", run_retrieval, text)
    add_model(parser)
    parser.add_argument(
        "--data",
        choices=("scenes", "coco", "flickr30k"),
        default="scenes",
        help="scenes of the embedded model, or pictures with captions in Karpathy's format [%(default)s]",
    )
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="the folder of the pictures")
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="Karpathy's dataset_coco.json or dataset_flickr30k.json"
    )
    parser.add_argument("--split", default="test", help="of Karpathy's: test, val or train [%(default)s]")
    parser.add_argument("--samples", type=int, metavar="N", help="only the first so many pictures [all; 500 scenes]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the scenes [%(default)s]")
    parser.add_argument("--captions", type=int, metavar="N", help="captions of each picture [all; of scenes 1]")
    parser.add_argument("--batch", type=int, default=64, metavar="N", help="pictures in a pass [%(default)s]")


def run_regions(arguments: argparse.Namespace) -> None:
    """Measures a model on regions, prints a table and writes ``regions.json``."""
    from ..experiments.data.readers import read_text
    from ..scores.prompts import imagenet_templates
    from ..tuning import CocoPanoptic, SceneRegionData, classify_regions

    check_numbers(arguments, seed=0, batch=1)
    on_scenes = arguments.data == "scenes"
    data: SceneRegionData | CocoPanoptic
    if on_scenes:
        data = SceneRegionData(arguments.samples or 500, seed=arguments.seed)
        templates: tuple[str, ...] = ("{}",)
    else:
        for name in ("root", "annotations"):
            if getattr(arguments, name) is None:
                raise UsageError(f"{name}: data coco-panoptic needs it, got nothing")
        data = CocoPanoptic(arguments.root, arguments.annotations, arguments.segments, arguments.samples)
        templates = imagenet_templates()
    if arguments.templates is not None:
        templates = tuple(one for one in read_text(arguments.templates).splitlines() if one.strip())
    loaded = load_model(arguments)
    require_texts(loaded, arguments.model, "model")
    require_tokenizer(loaded, arguments.model)
    assert loaded.tokenizer is not None
    found = classify_regions(
        loaded.model, data, loaded.tokenizer, templates=templates, size=arguments.size, batch=arguments.batch
    )
    table = Table("regions", "top 1", "top 5", "number", title=f"mean class accuracy in %, {arguments.data}")
    for kind in ("boxes", "thing masks", "stuff masks"):
        if found[f"{kind} count"]:
            cells = (f"{100 * found[f'{kind} top{k}']:.1f}" for k in (1, 5))
            table.add_row(kind, *cells, f"{found[f'{kind} count']:.0f}")
    print_table(table)
    _save(arguments, "regions.json", found, dict(data.about))


def run_retrieval(arguments: argparse.Namespace) -> None:
    """Measures the recall of a model, prints a table and writes ``retrieval.json``."""
    from ..experiments import CocoCaptions, Scenes, Subset
    from ..experiments.data.base import Dataset
    from ..tuning import retrieve

    check_numbers(arguments, seed=0, batch=1)
    captions: int | None = arguments.captions
    data: Dataset
    if arguments.data == "scenes":
        data = Scenes(arguments.samples or 500, seed=arguments.seed)
        captions = captions or 1
    else:
        for name in ("root", "annotations"):
            if getattr(arguments, name) is None:
                raise UsageError(f"{name}: data {arguments.data} needs it, got nothing")
        data = CocoCaptions(arguments.root, arguments.annotations, arguments.split)
        data = data if arguments.samples is None else Subset(data, arguments.samples)
    loaded = load_model(arguments)
    require_texts(loaded, arguments.model, "model")
    require_tokenizer(loaded, arguments.model)
    assert loaded.tokenizer is not None
    found = retrieve(loaded.model, data, loaded.tokenizer, captions=captions, batch=arguments.batch)
    title = f"recall in %, {arguments.data}, {found['images']:.0f} pictures, {found['texts']:.0f} captions"
    table = Table("query", "R@1", "R@5", "R@10", title=title)
    for direction in ("image to text", "text to image"):
        table.add_row(direction, *(f"{100 * found[f'{direction} R@{k}']:.1f}" for k in (1, 5, 10)))
    print_table(table)
    _save(arguments, "retrieval.json", found, dict(data.about))


def _save(arguments: argparse.Namespace, name: str, found: dict[str, float], about: dict[str, object]) -> None:
    known = {one: None if math.isnan(value) else value for one, value in found.items()}
    content = {"model": arguments.model, "pretrained": arguments.pretrained, "data": about, "figures": known}
    save_json(arguments.out / name, content)
    Screen().print(f"the figures are in {arguments.out / name}", soft_wrap=True, markup=False)
