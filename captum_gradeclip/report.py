"""Explanations as files and pages; nothing is computed here that an explanation does not hold already."""

from __future__ import annotations

import base64
import io
import json
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from . import show
from .attr import Outcome
from .explain import Explanation, on_picture
from .images import Picture
from .maps import Words, shares

_DPI = 130  # pixels per inch of figures that are drawn into another one


def save(explanation: Explanation, folder: Path, about: Mapping[str, object] | None = None) -> list[dict[str, object]]:
    """Writes the files of an explanation: of one image into the folder itself, of several into a folder inside for each.

    These are ``overlay-<t>-<text>.png`` for each text at the size of the image, ``strip.png`` with all of them,
    ``words.png`` and ``words.html`` if words were explained, ``maps.npz`` (``image`` ``(T, h, w)``, with words ``text``
    ``(T, L)``, and ``texts`` or ``classes``), and ``explanation.json`` with all numbers. The files of an earlier
    explanation are replaced.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned.
        folder: it is made if it is not there.
        about: further entries for ``options`` in ``explanation.json``, the name of the model for instance.

    Returns:
        What ``explanation.json`` holds, for each image.

    Raises:
        OSError: if a file cannot be written; what lay there before is then still there.
    """
    if len(explanation) == 1:
        return [_save(explanation, 0, folder, about or {})]
    names = [f"{number}-{_slug(Path(name).stem)}" for number, name in enumerate(explanation.names)]
    return [_save(explanation, number, folder / name, about or {}) for number, name in enumerate(names)]


@dataclass(frozen=True)
class Comparison:
    """What several methods found out about one picture and its texts.

    Attributes:
        name: the name of the picture.
        picture: the picture and the input that was explained.
        texts: the T texts.
        scores: the cosine of each text with the picture.
        of_images: what each method found out about the picture.
        of_texts: what each method found out about the texts, in the same order of methods.
        captions: the words of each text with weights that add up to 1, for each method; ``None`` where it does not explain
            texts.
    """

    name: str
    picture: Picture
    texts: Sequence[str]
    scores: Sequence[float]
    of_images: Sequence[Outcome]
    of_texts: Sequence[Outcome]
    captions: Sequence[Sequence[Words] | None]


def save_comparison(
    comparison: Comparison, folder: Path, about: Mapping[str, object] | None = None, same_scale: bool = False
) -> None:
    """Writes ``compare.png``, ``compare.npz`` (maps by the printed name of the method) and ``compare.json``.

    Args:
        comparison: what is written.
        folder: it is made if it is not there.
        about: what ``compare.json`` holds as ``options``, the name of the model for instance.
        same_scale: whether the maps of a row share one color scale (default: each map has its own).

    Raises:
        OSError: if a file cannot be written; what lay there before is then still there.
    """
    texts, picture = comparison.texts, comparison.picture
    small = _shrunk(picture.image, 320)
    frame = picture.frame.resized(small.size)
    arrays: dict[str, object] = {"texts": np.array(texts)}
    rows: list[show.Row] = []
    entries: list[dict[str, object]] = []
    for image, text, captions in zip(comparison.of_images, comparison.of_texts, comparison.captions):
        entry: dict[str, object] = {"method": image.name, "seconds": image.seconds, "refused": image.refused}
        entry |= {"options": dict(image.options), "needs_text": image.class_discriminative}
        heading, fine = image.name, None
        if image.maps is not None:
            arrays[image.name] = image.maps[0].cpu().numpy()
            fine = on_picture(image.maps[0].cpu(), frame)
            heading += f"\n{_duration(image.seconds)}"
        if text.maps is not None:
            arrays[f"{text.name}, words"] = text.maps[:, 0].cpu().numpy()
            entry["seconds_words"] = text.seconds
        if captions is not None:
            entry["words"] = [[list(pair) for pair in caption] for caption in captions]
        entries.append(entry)
        rows.append(show.Row(heading + ("" if image.class_discriminative else "\nfor any text"), fine, captions))
    result = {
        "image": comparison.name,
        "texts": [{"text": text, "score": score} for text, score in zip(texts, comparison.scores)],
        "methods": entries,
        "options": dict(about or {}),
        "same_scale": same_scale,
        "versions": versions(),
    }
    titles = [f"{text} ({score:.3f})" for text, score in zip(texts, comparison.scores)]
    with _aside(folder) as part:
        show.save(show.matrix(small, rows, titles, same_scale=same_scale), part / "compare.png")
        _write_npz(part / "compare.npz", arrays)
        _write_json(part / "compare.json", result)


def figure(explanation: Explanation, i: int | None = None) -> Figure:
    """The overlays of an explanation in a row, with the words of each text below.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned.
        i: the number of the image, from 0 to N - 1; ``None`` (default) for one row for each image.

    Returns:
        A figure that belongs to no window.
    """
    if i is None and len(explanation) > 1:
        return _stacked([figure(explanation, n) for n in range(len(explanation))])
    i = i or 0
    small = _shrunk(explanation.pictures[i].image, 640)
    size = (small.height, small.width)
    fine = torch.nn.functional.interpolate(explanation.pixels(i)[None], size=size, mode="area")[0]
    return show.strip(small, fine, _titles(explanation, i), words=_captions(explanation, i))


def html(explanation: Explanation) -> str:
    """A page fragment that stands alone: a table with a row for each image and an overlay with its words for each text.

    All text is escaped and all pictures lie inside; it has no scripts and loads nothing.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned.
    """
    rows = []
    for i, (name, picture) in enumerate(zip(explanation.names, explanation.pictures)):
        small = _shrunk(picture.image, 320)
        size = (small.height, small.width)
        fine = torch.nn.functional.interpolate(explanation.pixels(i)[None], size=size, mode="area")[0]
        captions = _captions(explanation, i) or [[] for _ in explanation.texts]
        cells = [f"{_png(small)}<div>{escape(name)}</div>"]
        for one, title, caption in zip(fine, _titles(explanation, i), captions):
            cells.append(f"{_png(show.overlay(small, one))}<div>{escape(title)}</div><div>{_colored(caption)}</div>")
        style = "vertical-align:top;text-align:left;padding:4px;max-width:320px"
        rows.append("<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell in cells) + "</tr>")
    warned = "".join(f"<div><b>warning:</b> {escape(one)}</div>" for one in explanation.warnings)
    return f"<div><div>{escape(explanation.method)}</div>{warned}<table>{''.join(rows)}</table></div>"


def versions() -> dict[str, str]:
    """The installed versions of everything that could change a result, by name."""
    found = {"python": platform.python_version()}
    for name in ("captum_gradeclip", "torch", "captum", "open_clip_torch", "timm", "transformers", "torchvision"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _save(explanation: Explanation, i: int, folder: Path, about: Mapping[str, object]) -> dict[str, object]:
    picture, maps, full = explanation.pictures[i], explanation.maps[i], explanation.pixels(i)
    titles, captions = _titles(explanation, i), _captions(explanation, i)
    result: dict[str, object] = {
        "image": explanation.names[i],
        "size": list(picture.image.size),
        "input": {"height": picture.pixels.shape[-2], "width": picture.pixels.shape[-1], "grid": list(maps.shape[-2:])},
        "texts": _entries(explanation, i, captions),
        "method": explanation.method,
        "options": {**explanation.options, **about},
        "warnings": explanation.warnings,
        "versions": versions(),
    }
    arrays: dict[str, object] = {"image": maps.numpy()}
    if explanation.token_weights is not None:
        arrays["text"] = explanation.token_weights[i].numpy()
    if explanation.targets is None:
        arrays["texts"] = np.array(explanation.texts)
    else:
        arrays["classes"] = np.array(explanation.targets)
    with _aside(folder, "overlay-*.png", "words.png", "words.html") as part:
        for t, (text, one) in enumerate(zip(explanation.texts, full)):
            show.overlay(picture.image, one).save(part / f"overlay-{t}-{_slug(text)}.png")
        show.save(figure(explanation, i), part / "strip.png")
        if captions is not None:
            show.save(show.words_figure(captions, titles), part / "words.png")
            (part / "words.html").write_text(show.words_html(captions, titles), encoding="utf-8")
        _write_npz(part / "maps.npz", arrays)
        _write_json(part / "explanation.json", result)
    return result


def _entries(explanation: Explanation, i: int, captions: Sequence[Words] | None) -> list[dict[str, object]]:
    """The numbers of each text (or class), as far as they are known."""
    columns = {
        "score": explanation.scores,
        "probability": explanation.probabilities,
        "explained_score": explanation.explained_scores,
        "explained_text_score": explanation.explained_word_scores,
    }
    entries: list[dict[str, object]] = []
    for t, text in enumerate(explanation.texts):
        entry: dict[str, object] = {"text": text}
        if explanation.targets is not None:
            entry["class"] = explanation.targets[t]
        entry |= {name: float(values[i, t]) for name, values in columns.items() if values is not None}
        if captions is not None:
            entry["words"] = [{"word": word, "weight": weight} for word, weight in captions[t]]
        entries.append(entry)
    return entries


def _titles(explanation: Explanation, i: int) -> list[str]:
    """The texts, each with its score if that is known."""
    if explanation.scores is None:
        return explanation.texts
    return [f"{text} ({float(score):.3f})" for text, score in zip(explanation.texts, explanation.scores[i])]


def _captions(explanation: Explanation, i: int) -> list[Words] | None:
    """The words of each text with weights that add up to 1, as the paper shows them."""
    return None if explanation.words is None else [shares(words) for words in explanation.words[i]]


@contextmanager
def _aside(folder: Path, *stale: str) -> Iterator[Path]:
    """A folder whose files are moved into another one at the end, so that an interrupted run leaves that as it was.

    Args:
        folder: where the files come to lie; it is made if it is not there.
        stale: patterns of names of files of an earlier run, which are deleted at the end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as name:
        yield Path(name)
        for file in (file for pattern in stale for file in folder.glob(pattern)):
            file.unlink()
        for file in Path(name).iterdir():
            file.replace(folder / file.name)


def _stacked(figures: Sequence[Figure]) -> Figure:
    """Figures below each other in one, drawn at the resolution at which files are written."""
    pictures = []
    for one in figures:
        file = io.BytesIO()
        one.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", pad_inches=0.08)
        pictures.append(Image.open(file))
    width, height = max(picture.width for picture in pictures), sum(picture.height for picture in pictures)
    stacked = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    top = height
    for picture in pictures:
        top -= picture.height
        axis = stacked.add_axes((0, top / height, picture.width / width, picture.height / height))
        axis.imshow(np.asarray(picture))
        axis.set_axis_off()
    return stacked


def _colored(caption: Words) -> str:
    """Words on a red as strong as their weight, the strongest word of a text in full red."""
    largest = max((weight for _, weight in caption), default=0.0)
    return " ".join(
        f'<span style="background:rgba(220,50,40,{max(weight, 0) / largest if largest > 0 else 0:.3f})"'
        f' title="{weight:.4g}">{escape(word)}</span>'
        for word, weight in caption
    )


def _png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="png")
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _write_npz(path: Path, arrays: Mapping[str, object]) -> None:
    write: Callable[..., None] = np.savez_compressed  # numpy's own types take names of arrays for its other arguments
    write(path, **arrays)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    image = image.copy()
    image.thumbnail((longest, longest))
    return image


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:40] or "text"
