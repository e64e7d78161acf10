"""One picture explained with all that belongs to it, and written as files: pictures, maps, numbers."""

from __future__ import annotations

import json
import platform
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import adapters, images, show
from .attention import Interception, model_heads, single_head
from .attr import GradECLIP, compare
from .attr.grad_eclip import Heads, SpatialWeight
from .loading import Loaded
from .maps import Frame, merge_words, to_pixels
from .scores import ClassScore, ImageTextScore, TextImageScore, tokenize


@dataclass(frozen=True)
class Options:
    """What decides an explanation; written beside it."""

    model: str = "scenes"
    pretrained: str | None = None
    layers: int = 1
    text_layers: int | None = None
    """The last eight, as in the paper, or all of a smaller tower."""
    heads: Heads = "single"
    spatial_weight: SpatialWeight = "loosened"
    resize: images.Resize = "keep"
    scale: float = 1.0
    max_tokens: int = 8192
    device: str = "cpu"


def explain(
    loaded: Loaded, image: Image.Image, texts: Sequence[str], options: Options, out: Path, name: str
) -> dict[str, Any]:
    """Explains one picture with several texts, both ways, and writes every result under ``out``.

    Returns:
        What ``explanation.json`` holds.

    Raises:
        ValueError, TypeError: for anything that was given and does not fit.
        OSError: if the results cannot be written.
    """
    picture, pixels = _prepare(loaded, image, options)
    tokens = tokenize(loaded.model, list(texts), loaded.tokenizer)
    image_score = ImageTextScore(loaded.model, tokens)
    text_score = TextImageScore(loaded.model, pixels)
    image_layers = _last(image_score.layers, options.layers, "--layers")
    count = min(8, len(text_score.layers)) if options.text_layers is None else options.text_layers
    text_layers = _last(text_score.layers, count, "--text-layers")
    choice: dict[str, Any] = {"heads": options.heads, "spatial_weight": options.spatial_weight}
    maps = GradECLIP(image_score, image_layers).attribute_targets(pixels, **choice)[0].cpu()
    weights = GradECLIP(text_score, text_layers).attribute(tokens, target=0, **choice).cpu()
    with torch.no_grad():
        cosines = text_score(tokens)[:, 0].tolist()
    image_pass = _scores(image_score, pixels, image_layers, options)[0].tolist()
    text_pass = _scores(text_score, tokens, text_layers, options)[:, 0].tolist()
    captions = [_shares(words) for words in merge_words(weights, tokens.cpu(), loaded.tokenizer)]
    entries = [
        {
            "text": text,
            "score": score,
            "explained_score": by_image,
            "explained_text_score": by_text,
            "words": [{"word": word, "weight": weight} for word, weight in caption],
        }
        for text, score, by_image, by_text, caption in zip(texts, cosines, image_pass, text_pass, captions)
    ]
    arrays = {"image": maps.numpy(), "text": weights.numpy(), "texts": np.array(texts)}
    return _write(out, picture, maps, entries, arrays, options, name, captions)


def explain_classes(
    loaded: Loaded, image: Image.Image, classes: Sequence[str], options: Options, out: Path, name: str
) -> dict[str, Any]:
    """Explains some classes of a classifier for one picture; with none given, the three that it finds most likely.

    Args:
        loaded: a classifier.
        image: of any mode.
        classes: indices, or names (or a part that only one name has).
        options: as for texts.
        out: folder for the results.
        name: of the picture.

    Returns:
        What ``explanation.json`` holds.

    Raises:
        ValueError, TypeError: for anything that was given and does not fit.
        OSError: if the results cannot be written.
    """
    picture, pixels = _prepare(loaded, image, options)
    score = ClassScore(loaded.model)
    layers = _last(score.layers, options.layers, "--layers")
    with torch.no_grad():
        logits = score(pixels)[0]
    labels = score.labels
    targets = [find_class(one, len(logits), labels) for one in classes] or logits.topk(min(3, len(logits))).indices.tolist()
    choice: dict[str, Any] = {"heads": options.heads, "spatial_weight": options.spatial_weight}
    maps = GradECLIP(score, layers).attribute_targets(pixels, targets, **choice)[0].cpu()
    explained = _scores(score, pixels, layers, options)[0]
    entries = [
        {
            "text": labels[target] if labels else f"class {target}",
            "class": target,
            "score": float(logits[target]),
            "probability": float(logits.softmax(dim=0)[target]),
            "explained_score": float(explained[target]),
        }
        for target in targets
    ]
    return _write(out, picture, maps, entries, {"image": maps.numpy(), "classes": np.array(targets)}, options, name)


def compare_methods(
    loaded: Loaded,
    image: Image.Image,
    texts: Sequence[str],
    methods: str | Sequence[str],
    options: Options,
    out: Path,
    name: str,
    *,
    method_options: Mapping[str, Mapping[str, Any]] | None = None,
    same_scale: bool = False,
) -> dict[str, Any]:
    """Explains one picture and its texts by many methods and writes ``compare.png``, ``compare.npz`` and ``compare.json``.

    Args:
        loaded: a model of images and texts.
        image: of any mode.
        texts: what to look for.
        methods: ``"all"``, or names, see :func:`captum_gradeclip.attr.compare`.
        options: of the input; each method runs on its own layers.
        out: folder for the results.
        name: of the picture.
        method_options: by method.
        same_scale: one colour scale per row instead of one per map.

    Returns:
        What ``compare.json`` holds.

    Raises:
        ValueError, TypeError: for anything that was given and does not fit.
        OSError: if the results cannot be written.
    """
    picture, pixels = _prepare(loaded, image, options)
    tokens = tokenize(loaded.model, list(texts), loaded.tokenizer)
    image_score = ImageTextScore(loaded.model, tokens, loaded.tokenizer)
    text_score = TextImageScore(loaded.model, pixels)
    given: dict[str, Any] = {"options": method_options, "show_progress": True}
    of_image = compare(image_score, pixels, methods, **given)
    of_text = {one.method: one for one in compare(text_score, tokens, methods, **given)}
    if all(one.maps is None and of_text[one.method].maps is None for one in of_image):
        raise ValueError(f"methods: none of them is defined for this model; {of_image[0].refused}")
    with torch.no_grad():
        cosines = image_score(pixels)[0].tolist()
    small = _shrunk(picture.image, 320)
    frame = picture.frame.resized(small.size)
    rows: list[show.Row] = []
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {"texts": np.array(texts)}
    for one in of_image:
        words = of_text[one.method]
        captions, fine = None, None
        entry: dict[str, Any] = {"method": one.method, "seconds": one.seconds, "refused": one.refused}
        entry |= {"options": one.options, "needs_text": one.needs_text}
        if words.maps is not None:
            arrays[f"{one.method}, words"] = words.maps[:, 0].cpu().numpy()
            captions = [_shares(caption) for caption in merge_words(words.maps[:, 0].cpu(), tokens.cpu(), loaded.tokenizer)]
            entry |= {"seconds_words": words.seconds, "words": [[list(pair) for pair in caption] for caption in captions]}
        entries.append(entry)
        if one.maps is not None:
            maps = one.maps[0].cpu()
            arrays[one.method] = maps.numpy()
            fine = _seen(to_pixels(maps, frame), frame)
        heading = one.method if one.maps is None else f"{one.method}\n{_duration(one.seconds)}"
        rows.append(show.Row(heading + ("" if one.needs_text else "\nfor any text"), fine, captions))
    result = {
        "image": name,
        "texts": [{"text": text, "score": cosine} for text, cosine in zip(texts, cosines)],
        "methods": entries,
        "options": {key: asdict(options)[key] for key in ("model", "pretrained", "resize", "scale", "max_tokens", "device")},
        "same_scale": same_scale,
        "versions": versions(),
    }
    titles = [f"{text} ({cosine:.3f})" for text, cosine in zip(texts, cosines)]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".part-") as folder:
        part = Path(folder)
        show.save(show.matrix(small, rows, titles, same_scale=same_scale), part / "compare.png")
        np.savez_compressed(part / "compare.npz", **arrays)
        (part / "compare.json").write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
        for file in part.iterdir():
            file.replace(out / file.name)
    return result


def _seen(full: Tensor, frame: Frame) -> Tensor:
    """Maps of the picture file with NaN where the model saw nothing of it."""
    seen = to_pixels(torch.ones(1, 1, 1), frame)[0] > 0
    return full.masked_fill(~seen, torch.nan)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def find_class(given: str, count: int, labels: Sequence[str] | None) -> int:
    """The index of a class given by index or by name.

    Raises:
        ValueError: if there is no such class, or several.

    >>> find_class("whippet", 3, ["tabby cat", "whippet", "Italian greyhound"]), find_class("2", 3, None)
    (1, 2)
    """
    if given.lstrip("-").isdigit():
        if not 0 <= int(given) < count:
            raise ValueError(f"--target: expected a class from 0 to {count - 1}, got {given}")
        return int(given)
    if labels is None:
        raise ValueError(f"--target: this model does not name its classes; give an index from 0 to {count - 1}")
    wanted = given.lower()
    exact = [n for n, label in enumerate(labels) if wanted in [part.strip().lower() for part in label.split(",")]]
    found = exact or [n for n, label in enumerate(labels) if wanted in label.lower()]
    if len(found) != 1:
        several = "; ".join(f"{n}: {labels[n]}" for n in found[:8])
        raise ValueError(f"--target: {len(found)} classes are called {given!r}{': ' if found else ''}{several}")
    return found[0]


def _prepare(loaded: Loaded, image: Image.Image, options: Options) -> tuple[images.Picture, Tensor]:
    tower = adapters.image_tower(loaded.model)
    mean, std = loaded.statistics or (tower.mean, tower.std)
    picture = images.prepare(
        image,
        size=tower.size,
        patch=tower.patch,
        mean=mean,
        std=std,
        resize=options.resize,
        scale=options.scale,
        max_tokens=options.max_tokens,
    )
    return picture, picture.pixels.to(options.device)


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
    entries: list[dict[str, Any]],
    arrays: dict[str, Any],
    options: Options,
    name: str,
    captions: list[list[tuple[str, float]]] | None = None,
) -> dict[str, Any]:
    result = {
        "image": name,
        "size": list(picture.image.size),
        "input": {"height": picture.pixels.shape[-2], "width": picture.pixels.shape[-1], "grid": list(maps.shape[-2:])},
        "texts": entries,
        "options": asdict(options),
        "versions": versions(),
    }
    full = _seen(to_pixels(maps, picture.frame), picture.frame)
    titles = [f"{entry['text']} ({entry['score']:.3f})" for entry in entries]
    small = _shrunk(picture.image, 640)
    fine = torch.nn.functional.interpolate(full[None], size=(small.height, small.width), mode="area")[0]
    out.mkdir(parents=True, exist_ok=True)
    # All files are made aside and moved at the end: an interrupted run leaves what was there before.
    with tempfile.TemporaryDirectory(dir=out, prefix=".part-") as folder:
        part = Path(folder)
        for number, (entry, one) in enumerate(zip(entries, full)):
            show.overlay(picture.image, one).save(part / f"overlay-{number}-{_slug(entry['text'])}.png")
        show.save(show.strip(small, fine, titles, words=captions), part / "strip.png")
        if captions is not None:
            show.save(show.words_figure(captions, titles), part / "words.png")
            (part / "words.html").write_text(show.words_html(captions, titles), encoding="utf-8")
        np.savez_compressed(part / "maps.npz", **arrays)
        (part / "explanation.json").write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
        for stale in (*out.glob("overlay-*.png"), out / "words.png", out / "words.html"):
            stale.unlink(missing_ok=True)
        for file in part.iterdir():
            file.replace(out / file.name)
    return result


def _last(layers: list[nn.Module], count: int, option: str) -> list[nn.Module]:
    if not 1 <= count <= len(layers):
        raise ValueError(f"{option}: expected 1 to {len(layers)}, the number of attention layers of this tower, got {count}")
    return layers[-count:]


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    image = image.copy()
    image.thumbnail((longest, longest))
    return image


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "text"


def versions() -> dict[str, str]:
    """Versions of everything that could change a result."""
    found = {"python": platform.python_version()}
    for name in ("captum_gradeclip", "torch", "captum", "open_clip_torch", "timm", "transformers", "torchvision"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
