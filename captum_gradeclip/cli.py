"""The same road from the shell: ``gradeclip demo``, ``explain``, ``compare``, ``models``, ``check`` and ``benchmark``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from . import adapters, images, scenes
from .attr import METHODS
from .attr.comparison import CAPTUM, find_method, find_methods, name_of
from .attr.grad_eclip import Heads, SpatialWeight
from .check import TOLERANCE, Check, self_check
from .loading import NAMES, LoadingError, first_line, load
from .report import Options, compare_methods, explain, explain_classes, versions
from .scenes.world import Split

console = Console(stderr=True)


class UsageError(Exception):
    """Something the user can put right; shown without a traceback."""


def _check_writable(out: Path) -> None:
    """Before the work, not after it."""
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"--out: cannot write into {str(out)!r}: {str(place)!r} is not a folder that can be written")


def _report(results: Sequence[dict[str, Any]], out: Path) -> None:
    of_texts = any("words" in entry for result in results for entry in result["texts"])
    headings = ("text", "score", "explained", "words") if of_texts else ("class", "logit", "explained", "probability")
    table = Table("picture", *headings, title="Grad-ECLIP")
    for result in results:
        for entry in result["texts"]:
            if of_texts:
                more = " ".join(f"{escape(w['word'])} [bold]{w['weight']:.2f}[/]" for w in entry["words"])
            else:
                more = f"{entry['probability']:.3f}"
            scores = f"{entry['score']:.3f}", f"{entry['explained_score']:.3f}"
            table.add_row(escape(result["image"]), escape(entry["text"]), *scores, more)
    Console().print(table)
    Console().print(f"pictures, maps and numbers are in {out}", soft_wrap=True, markup=False)


def _demo(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    loaded = load(device=options.device)
    results = []
    for index, scene in enumerate(track(_demo_scenes(), "explaining scenes", console=console, transient=True)):
        image, _ = scenes.draw(scene, 448)
        name = f"scene-{index}"
        results.append(explain(loaded, image, _demo_texts(scene), options, arguments.out / name, name))
        image.save(arguments.out / name / "image.png")
    _report(results, arguments.out)


def _demo_scenes() -> list[scenes.Scene]:
    """Three held-out scenes of three or four things, all of different colours and shapes."""
    chosen: list[scenes.Scene] = []
    index = 0
    while len(chosen) < 3:
        scene = scenes.sample_scene(1, index, "evaluation", counts=(3, 4))
        index += 1
        if all(len({getattr(t, a) for t in scene.things}) == len(scene.things) for a in ("colour", "shape")):
            chosen.append(scene)
    return chosen


def _demo_texts(scene: scenes.Scene) -> list[str]:
    first, second, third = (scenes.name(thing).text for thing in scene.things[:3])
    both = f"{scenes.with_article(third)} and {scenes.with_article(first)}"
    return [scenes.with_article(first), f"the {second}", f"something {scene.things[2].colour}", both]


def _explain(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    with _user_errors():
        result = _explained(arguments, options)
    _report([result], arguments.out)


def _explained(arguments: argparse.Namespace, options: Options) -> dict[str, Any]:
    image, name = images.read(arguments.image), Path(arguments.image).name
    loaded = load(options.model, options.pretrained, options.device)
    if _is_classifier(loaded.model):
        if arguments.text:
            raise UsageError(f"text: {options.model} is a classifier without a text encoder; name classes by --target")
        return explain_classes(loaded, image, arguments.target, options, arguments.out, name)
    if arguments.target or not arguments.text:
        raise UsageError(f"text: {options.model} compares images with texts; give at least one text, and no --target")
    return explain(loaded, image, arguments.text, options, arguments.out, name)


def _compare(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    with _user_errors():
        image = images.read(arguments.image)
        loaded = load(options.model, options.pretrained, options.device)
        if _is_classifier(loaded.model):
            raise UsageError(f"text: {options.model} is a classifier; compare needs a model of images and texts")
        methods = [one.strip() for one in arguments.methods.split(",")]
        chosen: dict[str, dict[str, Any]] = {}
        if find_method("RISE") in find_methods(methods):
            chosen["RISE"] = {"n_masks": arguments.rise_masks}
        for given in arguments.option:
            method, option, value = _method_option(given)
            chosen.setdefault(method, {})[option] = value
        result = compare_methods(
            loaded,
            image,
            arguments.text,
            methods,
            options,
            arguments.out,
            Path(arguments.image).name,
            method_options=chosen,
            same_scale=arguments.same_scale,
        )
    table = Table("method", "seconds", "words", "refused", title=escape(result["image"]))
    for entry in result["methods"]:
        words = f"{entry['seconds_words']:.3f}" if "seconds_words" in entry else "-"
        seconds = "-" if entry["refused"] else f"{entry['seconds']:.3f}"
        table.add_row(entry["method"], seconds, words, escape(entry["refused"] or ""))
    Console().print(table)
    Console().print(f"the figure, maps and numbers are in {arguments.out}", soft_wrap=True, markup=False)


def _method_option(given: str) -> tuple[str, str, Any]:
    """``METHOD.name=value``, the value as in JSON or else a string."""
    left, equals, value = given.partition("=")
    method, dot, option = left.rpartition(".")
    if not (equals and dot and option.isidentifier()):
        raise UsageError(f"--option: expected METHOD.name=value, got {given!r}")
    name = name_of(find_method(method))
    try:
        return name, option, json.loads(value)
    except json.JSONDecodeError:
        return name, option, value


@contextmanager
def _user_errors() -> Iterator[None]:
    """What the package says of arguments that do not fit, as something the user can put right."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.strerror or error}: {error.filename!r}" if error.filename else str(error)) from None
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error


def _is_classifier(model: torch.nn.Module) -> bool:
    adapters.image_tower(model)
    try:
        adapters.text_tower(model)
    except adapters.UnsupportedModelError:
        return True
    return False


def _models(arguments: argparse.Namespace) -> None:
    installed = [f"{name} {number}" for name, number in versions().items()]
    table = Table("family", "classes", "text", "sizes", "checked", "note")
    notes: list[str] = []
    rows: list[dict[str, Any]] = []
    for family in track(adapters.families().values(), "checking tiny models", console=console, transient=True):
        torch.manual_seed(0)
        try:
            checks = self_check(family.build().eval())
            checked = "yes" if all(check.passed for check in checks) else "FAILED"
        except Exception as error:  # another version of a library may have moved something; the others still count
            checks, checked = [], f"FAILED: {first_line(error)}"
        sizes = "one" if family.oblong is None else "squares" if family.oblong[0] == family.oblong[1] else "any"
        if family.note and family.note not in notes:
            notes.append(family.note)
        mark = str(notes.index(family.note) + 1) if family.note else ""
        table.add_row(family.name, family.models, "yes" if family.text else "-", sizes, checked, mark)
        rows.append({**{name: getattr(family, name) for name in ("name", "models", "text", "note")}, "sizes": sizes})
        rows[-1] |= {"checked": checked, "errors": [check.error for check in checks]}
    screen = Console(width=max(110, console.width))
    screen.print(table)
    for number, note in enumerate(notes, start=1):
        screen.print(f"{number}  {note}", markup=False, highlight=False)
    screen.print(
        "\nchecked: a tiny random model of the family gives the same output with its attention intercepted, to"
        f" {TOLERANCE:.0e},\nand a map that is not constant, with {', '.join(installed)}.\nmodels are named as {NAMES}.",
        markup=False,
        highlight=False,
    )
    _save_json(arguments.out / "models.json", {"families": rows, "versions": versions()})
    if any(row["checked"] != "yes" for row in rows):
        raise UsageError("some families failed their check with the installed versions")


def _check(arguments: argparse.Namespace) -> None:
    table = Table("model", "tower", "layers", "tokens", "own heads", "one head", "map", "seconds", "passed")
    table.columns[0].overflow = "fold"
    table.caption = "own heads, one head: change of the output, relative to its largest value"
    results: list[dict[str, Any]] = []
    for name in track(arguments.model, "checking", console=console, transient=True):
        checks: list[Check] = self_check(load(name, arguments.pretrained, arguments.device).model)
        for one in checks:
            shape = " x ".join(map(str, one.map))
            figures = f"{one.error:.1e}", f"{one.change:.1e}", shape, f"{one.seconds:.2f}", "yes" if one.passed else "NO"
            table.add_row(escape(name), one.tower, str(one.layers), str(one.tokens), *figures)
            results.append({"model": name, **asdict(one), "passed": one.passed})
    Console(width=max(110, console.width)).print(table)
    _save_json(arguments.out / "check.json", {"checks": results, "versions": versions()})
    if not all(result["passed"] for result in results):
        raise UsageError("a model does not reproduce itself, so its maps would explain something else")


def _benchmark_scenes(arguments: argparse.Namespace) -> None:
    from .benchmark import evaluate_scenes

    model: Any = load(pretrained=arguments.pretrained).model
    rows = evaluate_scenes(model, arguments.scenes, arguments.split, arguments.seed)
    title = f"{arguments.scenes} scenes, split {arguments.split}, seed {arguments.seed}"
    table = Table("figure", "value", "cases", title=title)
    for row in rows:
        table.add_row(row.what, f"{row.value:.3f}", str(row.cases))
    Console().print(table)
    _save_json(arguments.out / "scenes.json", [asdict(row) for row in rows])


def _benchmark(arguments: argparse.Namespace) -> None:
    from .benchmark import TASKS, RecordError, Settings, run, tabulate

    settings = Settings(
        methods=_methods(arguments.methods),
        protocol=arguments.protocol,
        resize=arguments.resize,
        canvas=arguments.canvas,
        batch_size=arguments.batch_size,
        rise_masks=arguments.rise_masks,
        skip_broken=arguments.skip_broken,
    )
    with _user_errors():
        loaded = load(arguments.model, arguments.pretrained, arguments.device)
        if _is_classifier(loaded.model):
            raise UsageError(f"--model: {arguments.model} is a classifier; the tasks need a model of images and texts")
        data = _data(arguments)
        about = {name: getattr(arguments, name) for name in ("model", "pretrained", "device")} | {"versions": versions()}
        for kind in TASKS[arguments.benchmark]:
            out = arguments.out / f"{kind.name.replace(' ', '-')}-{data.name}"
            try:
                records = run(kind, loaded, data, settings, out, about=about)
            except RecordError as error:
                raise UsageError(str(error)) from None
            if records is not None:
                table = tabulate(kind, records, data, settings, out)
                Console(width=max(120, console.width)).print(table.screen())
                Console().print(f"tables, curves and records are in {out}", soft_wrap=True, markup=False)


def _benchmark_time(arguments: argparse.Namespace) -> None:
    from .benchmark import Scenes, time_table
    from .prompts import imagenet_templates

    with _user_errors():
        loaded = load(arguments.model, arguments.pretrained, arguments.device)
        size = adapters.image_tower(loaded.model).size
        on_scenes = arguments.model == "scenes"
        names = list(Scenes(1).classes) if on_scenes else [f"thing {number}" for number in range(arguments.labels)]
        for batch in arguments.batch:
            pixels = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0)).to(arguments.device)
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
            Console().print(table.screen())


def _methods(given: str) -> str | list[str]:
    return given if given == "all" else [one.strip() for one in given.split(",")]


def _data(arguments: argparse.Namespace) -> Any:
    from . import benchmark
    from .prompts import imagenet_templates

    if arguments.samples is not None and arguments.samples < 1:
        raise UsageError(f"--samples: expected at least 1, got {arguments.samples}")
    if arguments.data == "scenes":
        # Classification asks for the only thing; the other tasks tell several apart.
        counts = (1,) if arguments.benchmark == "faithfulness" else (2, 3, 4)
        return benchmark.Scenes(
            500 if arguments.samples is None else arguments.samples, counts, arguments.split, arguments.seed
        )
    if arguments.root is None:
        raise UsageError(f"--root: the folder of the data set {arguments.data!r} is needed")
    kinds: dict[str, Callable[[], Any]] = {
        "folders": lambda: benchmark.ClassFolders(arguments.root, arguments.class_names, imagenet_templates()),
        "imagenet-s": lambda: benchmark.ImageNetS(arguments.root, arguments.class_names, imagenet_templates()),
        "coco": lambda: benchmark.CocoCaptions(arguments.root, _needed(arguments.annotations, "--annotations")),
        "masks": lambda: benchmark.IndexMasks(
            arguments.root,
            _needed(arguments.class_names, "--class-names"),
            offset=arguments.mask_offset,
            templates=imagenet_templates(),
        ),
    }
    data = kinds[arguments.data]()
    return benchmark.First(data, arguments.samples) if arguments.samples else data


def _needed(path: Path | None, option: str) -> Path:
    if path is None:
        raise UsageError(f"{option}: this data set needs it")
    return path


def _save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _options(arguments: argparse.Namespace) -> Options:
    return Options(**{name: getattr(arguments, name) for name in Options.__dataclass_fields__ if hasattr(arguments, name)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradeclip", description="Why do an image and a text match? Grad-ECLIP for CLIP-like models."
    )
    parser.add_argument("--version", action="version", version=version("captum_gradeclip"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = argparse.ArgumentParser(add_help=False)
    default = Options()
    common.add_argument("--layers", type=int, default=default.layers, help="last layers of the image tower [%(default)s]")
    common.add_argument("--text-layers", type=int, default=None, help="last layers of the text tower [8, or all of fewer]")
    common.add_argument(
        "--heads",
        choices=[h for h in get_args(Heads) if h != "each"],
        default=default.heads,
        help="one head over all channels, as in the paper, or the model's own [%(default)s]",
    )
    common.add_argument(
        "--spatial-weight", choices=get_args(SpatialWeight), default=default.spatial_weight, help="[%(default)s]"
    )
    common.add_argument("--device", default=default.device, help="[%(default)s]")
    common.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="folder for the results [%(default)s]")

    demo = commands.add_parser(
        "demo", parents=[common], help="explain three held-out scenes with the embedded model, offline"
    )
    demo.set_defaults(run=_demo, resize="squash")

    picture = argparse.ArgumentParser(add_help=False)
    picture.add_argument("image", help="PNG, JPEG, WebP, ...")
    picture.add_argument("--model", default=default.model, help=f"{NAMES} [%(default)s]")
    picture.add_argument("--pretrained", default=None, metavar="TAG|FILE", help="weights, as open_clip and timm name them")
    picture.add_argument(
        "--resize",
        choices=get_args(images.Resize),
        default=None,
        help="keep size and aspect, squash to the native square, or crop its centre"
        " [keep; squash for scenes, whose model knows one size]",
    )
    picture.add_argument("--scale", type=float, default=default.scale, help="factor on the size before keep [%(default)s]")
    picture.add_argument(
        "--max-tokens", type=int, default=default.max_tokens, help="most patches that keep may give [%(default)s]"
    )

    one = commands.add_parser("explain", parents=[common, picture], help="explain a picture and one or more texts")
    one.add_argument("text", nargs="*", help="what to look for; quote each text")
    one.add_argument(
        "--target", action="append", default=[], metavar="CLASS", help="of a classifier, by index or name; may be repeated"
    )
    one.set_defaults(run=_explain)

    many = commands.add_parser(
        "compare", parents=[picture], help="explain a picture and texts by many methods, side by side"
    )
    many.add_argument("text", nargs="+", help="what to look for; quote each text")
    many.add_argument(
        "--methods",
        default="all",
        metavar="all|NAME,...",
        help=f"all: {', '.join(kind.__name__ for kind in METHODS)}; also Captum's {', '.join(CAPTUM)} [%(default)s]",
    )
    many.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="METHOD.name=value",
        help="of a method's attribute_targets, RISE.subtract_mean=true, say; may be repeated",
    )
    many.add_argument("--same-scale", action="store_true", help="one colour scale per row instead of one per map")
    many.add_argument("--rise-masks", type=int, default=500, metavar="N", help="masks of RISE [%(default)s; the paper 2000]")
    many.add_argument("--device", default=default.device, help="[%(default)s]")
    many.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="folder for the results [%(default)s]")
    many.set_defaults(run=_compare)

    models = commands.add_parser("models", help="what is supported, and whether it works with the installed versions")
    models.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="[%(default)s]")
    models.set_defaults(run=_models)

    check = commands.add_parser("check", help="does a model reproduce itself when its attention is intercepted?")
    check.add_argument("model", nargs="+", help=NAMES)
    check.add_argument("--pretrained", default=None, metavar="TAG|FILE")
    check.add_argument("--device", default=default.device, help="[%(default)s]")
    check.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="[%(default)s]")
    check.set_defaults(run=_check)

    benchmark = commands.add_parser("benchmark", help="figures over many images")
    kinds = benchmark.add_subparsers(dest="benchmark", required=True, metavar="WHAT")
    on_scenes = kinds.add_parser("scenes", help="what the embedded model sees, and whether its maps point at it")
    on_scenes.add_argument("--scenes", type=int, default=500, help="scenes per figure [%(default)s]")
    on_scenes.add_argument("--split", choices=get_args(Split), default="evaluation", help="[%(default)s]")
    on_scenes.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    on_scenes.add_argument("--pretrained", default=None, metavar="FILE", help="other weights of the scenes model")
    on_scenes.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="[%(default)s]")
    on_scenes.set_defaults(run=_benchmark_scenes)

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--model", default=default.model, help=f"{NAMES} [%(default)s]")
    shared.add_argument("--pretrained", default=None, metavar="TAG|FILE", help="weights, as open_clip and timm name them")
    shared.add_argument("--methods", default="all", metavar="all|NAME,...", help="also w/o weight, random, centre, oracle")
    shared.add_argument("--rise-masks", type=int, default=500, metavar="N", help="[%(default)s; the paper 2000]")
    shared.add_argument("--device", default=default.device, help="[%(default)s]")
    shared.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="[%(default)s]")
    tasks = {
        "faithfulness": "deletion and insertion of pixels, accuracy of zero-shot classification (table I)",
        "retrieval": "deletion and insertion of pixels, recall of retrieval (table II)",
        "words": "deletion and insertion of words, recall of retrieval (table III)",
        "localization": "maps against masks (table IV)",
        "layers": "how many layers to explain, of images and of texts (tables VI and VII)",
        "openvocab": "segmentation, recognition and points from the maps of all classes",
        "axioms": "Captum's infidelity and sensitivity",
    }
    for name, what in tasks.items():
        task = kinds.add_parser(name, parents=[shared], help=what)
        task.add_argument(
            "--data",
            choices=("scenes", "folders", "imagenet-s", "coco", "masks"),
            default="scenes",
            help="scenes, folders of classes (ImageNet), ImageNet-S, COCO captions, folders with index masks [%(default)s]",
        )
        task.add_argument("--root", type=Path, default=None, help="folder of the data set")
        task.add_argument("--annotations", type=Path, default=None, help="Karpathy's dataset_coco.json")
        task.add_argument("--class-names", type=Path, default=None, help="a name per line, or a JSON list")
        task.add_argument("--mask-offset", type=int, default=0, help="1 where 0 in a mask means no class [%(default)s]")
        task.add_argument("--samples", type=int, default=None, help="the first so many [all; 500 scenes]")
        task.add_argument("--split", choices=get_args(Split), default="evaluation", help="of scenes [%(default)s]")
        task.add_argument("--seed", type=int, default=0, help="of scenes [%(default)s]")
        task.add_argument("--protocol", choices=("fair", "release"), default="fair", help="of the inputs [%(default)s]")
        task.add_argument("--resize", choices=get_args(images.Resize), default="squash", help="fair input [%(default)s]")
        task.add_argument("--canvas", choices=("random", "black", "blur", "mean"), default="random", help="[%(default)s]")
        task.add_argument("--batch-size", type=int, default=64, help="of forward passes on changed inputs [%(default)s]")
        task.add_argument("--skip-broken", action="store_true", help="leave broken samples out, and count them")
        task.set_defaults(run=_benchmark)
    timing = kinds.add_parser("time", parents=[shared], help="seconds per image of every method (table V)")
    timing.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    timing.add_argument("--rounds", type=int, default=15)
    timing.add_argument("--labels", type=int, default=60, help="that CLIP Surgery compares [%(default)s]")
    timing.add_argument("--templates", type=int, default=4, help="sentences per label [%(default)s; the paper 85]")
    timing.set_defaults(run=_benchmark_time)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``gradeclip``; returns 0, or 2 for something that the user can put right."""
    parsed = _parser().parse_args(arguments)
    if getattr(parsed, "resize", "") is None:
        parsed.resize = "squash" if parsed.model == "scenes" else "keep"
    run: Callable[[argparse.Namespace], None] = parsed.run
    logger = logging.getLogger(__package__)
    logger.handlers, logger.propagate = [RichHandler(console=console, show_time=False, show_path=False)], False
    try:
        _check_writable(parsed.out)
        run(parsed)
    except ModuleNotFoundError as error:
        if error.name not in ("torchmetrics", "scipy", "sklearn", "accelerate"):
            raise
        print(f"gradeclip: {error}; pip install 'captum_gradeclip[bench]'", file=sys.stderr)
        return 2
    except (UsageError, LoadingError, adapters.UnsupportedModelError) as error:
        print(f"gradeclip: {error}", file=sys.stderr)
        return 2
    return 0
