"""The same road from the shell: ``gradeclip demo`` and ``gradeclip explain IMAGE TEXT ...``."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from . import adapters, images, scenes, show
from .attention import Interception, model_heads, single_head
from .attr import GradECLIP
from .attr.grad_eclip import Heads, SpatialWeight
from .maps import merge_words, to_pixels
from .scenes.world import Split
from .scores import ImageTextScore, TextImageScore, tokenize

console = Console(stderr=True)


class UsageError(Exception):
    """Something the user can put right; shown without a traceback."""


@dataclass(frozen=True)
class Options:
    """What decides an explanation; written beside it."""

    model: str = "scenes"
    pretrained: str | None = None
    layers: int = 1
    text_layers: int = 8
    heads: Heads = "single"
    spatial_weight: SpatialWeight = "loosened"
    resize: images.Resize = "keep"
    scale: float = 1.0
    max_tokens: int = 8192
    device: str = "cpu"


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer, on its device."""

    model: nn.Module
    tokenizer: Any


def load(options: Options) -> Loaded:
    """The embedded model, or any of open_clip's.

    Raises:
        UsageError: for an unknown name (close matches are listed), or weights that do not fit or cannot be had.
    """
    try:
        device = torch.device(options.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device: cannot use {options.device!r}: {_first_line(error)}") from None
    if options.model == "scenes":
        try:
            model, _, tokenizer = scenes.load(options.pretrained) if options.pretrained else scenes.load()
        except Exception as error:
            raise UsageError(
                f"--pretrained: {options.pretrained!r} does not fit the scenes model: {_first_line(error)}"
            ) from error
        return Loaded(model.to(device), tokenizer)

    import open_clip

    known, name = open_clip.list_models(), options.model.replace("/", "-")
    elsewhere = options.model.partition(":")[0] in ("hf-hub", "local-dir")
    if elsewhere:
        name = options.model
    elif name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        hint = f"did you mean {', '.join(close)}?" if close else "open_clip.list_models() lists all of them"
        raise UsageError(f"--model: open_clip has no model {name!r}; {hint} ('scenes' is the embedded one)")
    settings: dict[str, Any] = {}
    if options.pretrained is None and not elsewhere:
        console.print(f"[yellow]--pretrained is not given: {name} is explained with random weights[/]")
    elif options.pretrained is not None and not Path(options.pretrained).exists():
        tags = open_clip.list_pretrained_tags_by_model(name)
        if options.pretrained not in tags:
            raise UsageError(
                f"--pretrained: {options.pretrained!r} is neither a file nor a tag of {name};"
                f" its tags: {', '.join(tags) or 'none'}"
            )
        # OpenAI's weights, and some others, were trained with another activation than the architecture's name says.
        settings["force_quick_gelu"] = bool(open_clip.get_pretrained_cfg(name, options.pretrained).get("quick_gelu"))
    try:
        model = open_clip.create_model(name, pretrained=options.pretrained, device=device, **settings)
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        raise UsageError(
            f"--pretrained: the weights {options.pretrained!r} of {name} could not be loaded: {_first_line(error)}"
        ) from error
    return Loaded(model.eval(), tokenizer)


def explain(
    loaded: Loaded, image: Image.Image, texts: Sequence[str], options: Options, out: Path, name: str
) -> dict[str, Any]:
    """Explains one picture with several texts, both ways, and writes every result under ``out``.

    Returns:
        What ``explanation.json`` holds.

    Raises:
        UsageError: for anything that the user gave and that does not fit.
    """
    try:
        tower = adapters.image_tower(loaded.model)
        picture = images.prepare(
            image,
            size=tower.size,
            patch=tower.patch,
            mean=tower.mean,
            std=tower.std,
            resize=options.resize,
            scale=options.scale,
            max_tokens=options.max_tokens,
        )
        pixels = picture.pixels.to(options.device)
        tokens = tokenize(loaded.model, list(texts), loaded.tokenizer)
        image_score = ImageTextScore(loaded.model, tokens)
        text_score = TextImageScore(loaded.model, pixels)
        image_layers = _last(image_score.layers, options.layers, "--layers")
        text_layers = _last(text_score.layers, options.text_layers, "--text-layers")
        choice: dict[str, Any] = {"heads": options.heads, "spatial_weight": options.spatial_weight}
        maps = GradECLIP(image_score, image_layers).attribute_targets(pixels, **choice)[0].cpu()
        weights = GradECLIP(text_score, text_layers).attribute(tokens, target=0, **choice).cpu()
        with torch.no_grad():
            cosines = text_score(tokens)[:, 0].tolist()
        image_pass = _scores(image_score, pixels, image_layers, options)[0].tolist()
        text_pass = _scores(text_score, tokens, text_layers, options)[:, 0].tolist()
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error

    captions = [_shares(words) for words in merge_words(weights, tokens.cpu(), loaded.tokenizer)]
    result = {
        "image": name,
        "size": list(picture.image.size),
        "input": {"height": pixels.shape[-2], "width": pixels.shape[-1], "grid": list(maps.shape[-2:])},
        "texts": [
            {
                "text": text,
                "score": score,
                "explained_score": by_image,
                "explained_text_score": by_text,
                "words": [{"word": word, "weight": weight} for word, weight in caption],
            }
            for text, score, by_image, by_text, caption in zip(texts, cosines, image_pass, text_pass, captions)
        ],
        "options": asdict(options),
        "versions": _versions(),
    }
    _write(out, picture, maps, weights, texts, captions, result)
    return result


def _scores(score: nn.Module, inputs: Tensor, layers: list[nn.Module], options: Options) -> Tensor:
    """The scores of a pass like the one that was explained, whose chosen layers may have had a single head."""
    rule = single_head if options.heads == "single" else model_heads
    with torch.no_grad(), Interception(layers, rule):
        scores: Tensor = score(inputs)
    return scores.detach()


def _shares(words: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Word weights that add up to 1 where any is positive, as the paper shows them."""
    total = sum(weight for _, weight in words)
    return [(word, weight / total if total > 0 else 0.0) for word, weight in words]


def _write(
    out: Path,
    picture: images.Picture,
    maps: Tensor,
    weights: Tensor,
    texts: Sequence[str],
    captions: list[list[tuple[str, float]]],
    result: dict[str, Any],
) -> None:
    full = to_pixels(maps, picture.frame)
    titles = [f"{text} ({entry['score']:.3f})" for text, entry in zip(texts, result["texts"])]
    small = _shrunk(picture.image, 640)
    fine = torch.nn.functional.interpolate(full[None], size=(small.height, small.width), mode="area")[0]
    try:
        out.mkdir(parents=True, exist_ok=True)
        # All files are made aside and moved at the end: an interrupted run leaves what was there before.
        with tempfile.TemporaryDirectory(dir=out, prefix=".part-") as folder:
            part = Path(folder)
            for number, (text, one) in enumerate(zip(texts, full)):
                show.overlay(picture.image, one).save(part / f"overlay-{number}-{_slug(text)}.png")
            show.save(show.strip(small, fine, titles, words=captions), part / "strip.png")
            show.save(show.words_figure(captions, titles), part / "words.png")
            (part / "words.html").write_text(show.words_html(captions, titles), encoding="utf-8")
            np.savez_compressed(part / "maps.npz", image=maps.numpy(), text=weights.numpy(), texts=np.array(texts))
            (part / "explanation.json").write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
            for stale in out.glob("overlay-*.png"):
                stale.unlink()
            for file in part.iterdir():
                file.replace(out / file.name)
    except OSError as error:
        raise UsageError(f"--out: cannot write into {str(out)!r}: {error.strerror or error}") from None


def _check_writable(out: Path) -> None:
    """Before the work, not after it."""
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UsageError(f"--out: cannot write into {str(out)!r}: {str(place)!r} is not a folder that can be written")


def _last(layers: list[nn.Module], count: int, option: str) -> list[nn.Module]:
    if not 1 <= count <= len(layers):
        raise UsageError(f"{option}: expected 1 to {len(layers)}, the number of attention layers of this tower, got {count}")
    return layers[-count:]


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    image = image.copy()
    image.thumbnail((longest, longest))
    return image


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "text"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[1].strip()} ..."


def _versions() -> dict[str, str]:
    packages = ("captum_gradeclip", "torch", "captum", "open_clip_torch")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _report(results: Sequence[dict[str, Any]], out: Path) -> None:
    table = Table("picture", "text", "score", "explained", "words", title="Grad-ECLIP")
    for result in results:
        for entry in result["texts"]:
            words = " ".join(f"{escape(w['word'])} [bold]{w['weight']:.2f}[/]" for w in entry["words"])
            scores = f"{entry['score']:.3f}", f"{entry['explained_score']:.3f}"
            table.add_row(escape(result["image"]), escape(entry["text"]), *scores, words)
    Console().print(table)
    Console().print(f"pictures, maps and numbers are in {out}", soft_wrap=True, markup=False)


def _demo(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    loaded = load(options)
    results = []
    for index, scene in enumerate(track(_demo_scenes(), "explaining scenes", console=console, transient=True)):
        image, _ = scenes.draw(scene, 448)
        name = f"scene-{index}"
        texts = _demo_texts(scene)
        result = explain(loaded, image, texts, options, arguments.out / name, name)
        image.save(arguments.out / name / "image.png")
        results.append(result)
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
    try:
        image = images.read(arguments.image)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    result = explain(load(options), image, arguments.text, options, arguments.out, Path(arguments.image).name)
    _report([result], arguments.out)


def _benchmark(arguments: argparse.Namespace) -> None:
    from .benchmark import evaluate_scenes

    model = load(Options(pretrained=arguments.pretrained)).model
    rows = evaluate_scenes(model, arguments.scenes, arguments.split, arguments.seed)
    table = Table(
        "figure", "value", "cases", title=f"{arguments.scenes} scenes, split {arguments.split}, seed {arguments.seed}"
    )
    for row in rows:
        table.add_row(row.what, f"{row.value:.3f}", str(row.cases))
    Console().print(table)
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "scenes.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))
    except OSError as error:
        raise UsageError(f"--out: cannot write into {str(arguments.out)!r}: {error.strerror or error}") from None


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
    common.add_argument(
        "--text-layers", type=int, default=default.text_layers, help="last layers of the text tower [%(default)s]"
    )
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

    one = commands.add_parser("explain", parents=[common], help="explain a picture and one or more texts")
    one.add_argument("image", help="PNG, JPEG, WebP, ...")
    one.add_argument("text", nargs="+", help="what to look for; quote each text")
    one.add_argument("--model", default=default.model, help="an open_clip name, or scenes, the embedded one [%(default)s]")
    one.add_argument("--pretrained", default=None, metavar="TAG|FILE", help="weights, as open_clip names them")
    one.add_argument(
        "--resize",
        choices=get_args(images.Resize),
        default=None,
        help="keep size and aspect, squash to the native square, or crop its centre"
        " [keep; squash for scenes, whose model knows one size]",
    )
    one.add_argument("--scale", type=float, default=default.scale, help="factor on the size before keep [%(default)s]")
    one.add_argument(
        "--max-tokens", type=int, default=default.max_tokens, help="most patches that keep may give [%(default)s]"
    )
    one.set_defaults(run=_explain)

    benchmark = commands.add_parser("benchmark", help="figures over many images")
    kinds = benchmark.add_subparsers(dest="benchmark", required=True, metavar="WHAT")
    on_scenes = kinds.add_parser("scenes", help="what the embedded model sees, and whether its maps point at it")
    on_scenes.add_argument("--scenes", type=int, default=500, help="scenes per figure [%(default)s]")
    on_scenes.add_argument("--split", choices=get_args(Split), default="evaluation", help="[%(default)s]")
    on_scenes.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    on_scenes.add_argument("--pretrained", default=None, metavar="FILE", help="other weights of the scenes model")
    on_scenes.add_argument("--out", type=Path, default=Path("gradeclip-out"), help="[%(default)s]")
    on_scenes.set_defaults(run=_benchmark)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``gradeclip``; returns 0, or 2 for something that the user can put right."""
    parsed = _parser().parse_args(arguments)
    if getattr(parsed, "resize", "") is None:
        parsed.resize = "squash" if parsed.model == "scenes" else "keep"
    run: Callable[[argparse.Namespace], None] = parsed.run
    try:
        _check_writable(parsed.out)
        run(parsed)
    except UsageError as error:
        print(f"gradeclip: {error}", file=sys.stderr)
        return 2
    return 0
