"""Explanations as files and pages; nothing is computed here that an explanation does not hold already."""

from __future__ import annotations

import io
import platform
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from . import show
from .attr import Outcome, find_method
from .explain import Explanation
from .files import write_bytes, write_npz, write_text
from .images import Picture
from .maps import Words, shares, to_pixels
from .results import Results
from .show import Format, Style

__all__ = [
    "MOST_PICTURES",
    "MOST_TEXTS",
    "NOTEBOOK",
    "OVERLAY",
    "PAGE",
    "WORDS",
    "Comparison",
    "figure",
    "file_names",
    "html",
    "page",
    "save",
    "save_comparison",
]

OVERLAY = 1600
"""The most pixels along the longer side of an overlay, unless the size of the picture is asked for."""
NOTEBOOK = 480
"""The most pixels along the longer side of a picture in a notebook."""
PAGE = 800
"""The same on a page of its own."""
MOST_PICTURES = 24
"""The most pictures that a widget shows."""
MOST_TEXTS = 40
"""The most texts of a picture that a widget shows."""
WORDS = ", words"
"""What follows the name of a method where the maps of words are named."""
_SLUG = r"[^\s!-,./:-@\[-^`{-~]+"  # letters of all scripts with their marks, digits, hyphens: see slug()
_OF_EXPLANATION = re.compile(
    rf"overlay-\d+-{_SLUG}\.png|(strip|words)\.(png|pdf|svg)|(words|explanation)\.html|maps\.npz|image\.png"
)
_OF_COMPARISON = re.compile(r"compare\.(png|pdf|svg|npz)")


def save(
    explanation: Explanation,
    folder: Path,
    about: Mapping[str, object] | None = None,
    image: bool = False,
    style: Style | None = None,
    html: bool = False,
) -> list[dict[str, object]]:
    """Writes the files of an explanation: of one image into the folder itself, of several into a folder inside for each.

    These are ``overlay-<t>-<text>.png`` for each text, of :data:`OVERLAY` pixels along the longer side at most;
    ``strip.png`` with all of them; ``words.png`` and ``words.html`` if words were explained; ``maps.npz`` (``image`` ``(T,
    h, w)``, with words ``text`` ``(T, L)``, with regions ``regions_<t>`` ``(K, h, w)`` of the K words of each text, and
    ``texts`` or ``classes``); and ``explanation.json`` with all numbers, which also lists the other files with their
    checksums. The strip and the words may be PDF or SVG files instead. The files of an earlier explanation are replaced as a
    whole: those that such a list names and that have not been changed since. No other file is touched, and the images that
    are explained are none of them. Of several images, no file is replaced before all files of all images have been written.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned.
        folder: it is made if it is not there.
        about: further entries for ``options`` in ``explanation.json``, the name of the model for instance.
        image: whether ``image.png``, the image itself, is written as well (default false).
        style: how the pictures look, see :class:`captum_gradeclip.show.Style`.
        html: whether ``explanation.html`` is written as well, see :func:`page` (default false).

    Returns:
        What ``explanation.json`` holds, for each image, but for the list of files.

    Raises:
        FileExistsError: if a file that is not of an earlier explanation lies where one is to be written.
        OSError: if a file cannot be written. What lay there before is then still there, in both cases.

    >>> import tempfile
    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = scenes.SceneDataset(1, "evaluation")[0].image
    >>> found = explain(model, image, "cyan triangle", tokenizer)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     told = save(found, Path(folder))
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['explanation.json', 'maps.npz', 'overlay-0-cyan-triangle.png', 'strip.png', 'words.html', 'words.png']
    >>> told[0]["texts"][0]["text"], [entry["word"] for entry in told[0]["texts"][0]["words"]]
    ('cyan triangle', ['cyan', 'triangle'])
    """
    with saving(explanation, folder, about, image, style, html) as saved:
        return saved


@contextmanager
def saving(
    explanation: Explanation,
    folder: Path,
    about: Mapping[str, object] | None = None,
    image: bool = False,
    style: Style | None = None,
    html: bool = False,
) -> Iterator[list[dict[str, object]]]:
    """Context that writes the files of :func:`save` into hidden folders, and at its end moves them to their places.

    It is for explanations that belong together: none of their files is replaced before all of them have been written.

    Args:
        explanation: as for :func:`save`, like all arguments.
        folder: where the files are to lie.
        about: further entries for ``options``.
        image: whether the image itself is written as well.
        style: how the pictures look.
        html: whether the page is written as well.

    Yields:
        What :func:`save` returns.
    """
    names = [f"{number}-{slug(Path(name).stem)}" for number, name in enumerate(explanation.names)]
    folders = [folder] if len(explanation) == 1 else [folder / name for name in names]
    look = style or Style()
    files = file_names(explanation.texts, explanation.words is not None, image, look.format, html)
    for one in folders:
        results_in(one, explanation.paths).check(files)
    with ExitStack() as stack:
        yield [
            stack.enter_context(_saving(explanation, i, one, about or {}, look, image=image, html=html))
            for i, one in enumerate(folders)
        ]


def results_in(folder: Path, pictures: Sequence[Path] = ()) -> Results:
    """The files of the explanation of one image in a folder.

    Args:
        folder: it need not be there.
        pictures: files of the images that are explained, which are never replaced (default none).
    """
    return Results(folder, "explanation.json", _OF_EXPLANATION, pictures)


def comparison_in(folder: Path, pictures: Sequence[Path] = ()) -> Results:
    """The files of a comparison in a folder; arguments as for :func:`results_in`."""
    return Results(folder, "compare.json", _OF_COMPARISON, pictures)


def file_names(
    texts: Sequence[str], words: bool, image: bool = False, format: Format = "png", html: bool = False
) -> list[str]:
    """The names of the files that :func:`save` writes for an image, beside ``explanation.json``.

    Args:
        texts: the T texts, or names of classes.
        words: whether words were explained.
        image: as for :func:`save`.
        format: format of the figures (default ``"png"``).
        html: as for :func:`save`.

    Returns:
        The names, in the order in which the files are written.

    >>> file_names(["a <red> circle"], words=False)
    ['overlay-0-a-red-circle.png', 'strip.png', 'maps.npz']
    """
    overlays = [f"overlay-{t}-{slug(text)}.png" for t, text in enumerate(texts)]
    return [
        *overlays,
        f"strip.{format}",
        *((f"words.{format}", "words.html") if words else ()),
        "maps.npz",
        *(["image.png"] if image else []),
        *(["explanation.html"] if html else []),
    ]


@dataclass(frozen=True)
class Comparison:
    """What several methods found out about one picture and its texts, or classes of a classifier.

    Attributes:
        name: the name of the picture.
        picture: the picture and the input that was explained.
        texts: the T texts, or names of classes.
        scores: the cosine of each text with the picture, or the logit of each class.
        of_images: what each method found out about the picture.
        of_texts: what each method found out about the texts, in the same order of methods; ``None`` for a classifier.
        captions: the words of each text with weights that add up to 1, for each method; ``None`` where it does not explain
            texts.
        path: the file of the picture, which is never replaced by results; ``None`` (default) if it has none.
        targets: the T indices of the classes; ``None`` (default) for texts.
        probabilities: the share of each class in the softmax over all classes; ``None`` (default) for texts.
        missing: names of the methods, as they are printed, that an interrupt has left to be run, and of those whose words
            are left, ``"M2IB, words"`` for instance (default none).

    >>> from torch import rand
    >>> from captum_gradeclip.images import prepare
    >>> picture = prepare(Image.new("RGB", (64, 64)), size=(64, 64), patch=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> maps = Outcome("GradECLIP", "Grad-ECLIP", rand(1, 1, 8, 8)), Outcome("GAME", "GAME", refused="it has no text")
    >>> both = Comparison("dog.jpg", picture, ["a dog"], [0.31], maps, of_texts=None, captions=[None, None])
    >>> [one.refused or tuple(one.maps.shape) for one in both.of_images]
    [(1, 1, 8, 8), 'it has no text']
    """

    name: str
    picture: Picture
    texts: Sequence[str]
    scores: Sequence[float]
    of_images: Sequence[Outcome]
    of_texts: Sequence[Outcome] | None
    captions: Sequence[Sequence[Words] | None]
    path: Path | None = None
    targets: Sequence[int] | None = None
    probabilities: Sequence[float] | None = None
    missing: Sequence[str] = ()


def save_comparison(
    comparison: Comparison, folder: Path, about: Mapping[str, object] | None = None, style: Style | None = None
) -> None:
    """Writes ``compare.png``, ``compare.npz`` (maps by the printed name of the method) and ``compare.json``.

    The figure may be PDF or SVG instead.

    Args:
        comparison: what is written.
        folder: it is made if it is not there.
        about: what ``compare.json`` holds as ``options``, the name of the model for instance.
        style: how the figure looks, see :class:`captum_gradeclip.show.Style`; a scale is shared by the texts of a method.

    Raises:
        FileExistsError: if a file that is not of an earlier comparison lies where one is to be written.
        OSError: if a file cannot be written. What lay there before is then still there, in both cases.

    >>> import tempfile
    >>> from torch import rand
    >>> from captum_gradeclip.images import prepare
    >>> picture = prepare(Image.new("RGB", (64, 64)), size=(64, 64), patch=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> maps = Outcome("GradECLIP", "Grad-ECLIP", rand(1, 1, 8, 8)), Outcome("GAME", "GAME", refused="it has no text")
    >>> both = Comparison("dog.jpg", picture, ["a dog"], [0.31], maps, of_texts=None, captions=[None, None])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_comparison(both, Path(folder))
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['compare.json', 'compare.npz', 'compare.png']
    """
    look, texts, picture = style or Style(), comparison.texts, comparison.picture
    small = _shrunk(picture.image, round(3 * look.dpi))
    classes, unit = comparison.targets, "cosine" if comparison.targets is None else "logit"
    arrays: dict[str, object] = {"texts": np.array(texts)} if classes is None else {"classes": np.array(classes)}
    rows: list[show.Row] = []
    entries: list[dict[str, object]] = []
    of_texts: Sequence[Outcome | None] = comparison.of_texts or [None] * len(comparison.of_images)
    for image, text, captions in zip(comparison.of_images, of_texts, comparison.captions):
        entry: dict[str, object] = {"method": image.name, "seconds": image.seconds, "refused": image.refused}
        entry |= {"options": dict(image.options), "needs_text": image.class_discriminative}
        heading, fine = image.name, None
        if image.maps is not None:
            arrays[image.name] = image.maps[0].cpu().numpy()
            fine = to_pixels(image.maps[0].cpu(), picture.frame_of(image.maps).resized(small.size))
            heading += f"\n{_duration(image.seconds)}"
        if text is not None and text.maps is not None:
            arrays[f"{text.name}{WORDS}"] = text.maps[:, 0].cpu().numpy()
            entry["seconds_words"] = text.seconds
        if captions is not None:
            entry["words"] = [[list(pair) for pair in caption] for caption in captions]
        entries.append(entry)
        heading += "" if image.class_discriminative else "\nfor any text" if classes is None else "\nfor any class"
        rows.append(show.Row(heading, fine, captions, unit_of(image.method, unit)))
    rows += [show.Row(name, None, absent="not run") for name in comparison.missing if not name.endswith(WORDS)]
    legend = show.legend_of(texts, [caption for row in rows for caption in row.words or ()])
    told: list[dict[str, object]] = [{"text": text, "score": score} for text, score in zip(texts, comparison.scores)]
    for name, values in (("class", classes), ("probability", comparison.probabilities)):
        for entry, value in zip(told, values or ()):
            entry[name] = value
    result = {
        "image": comparison.name,
        "texts": told,
        "methods": entries,
        **({"missing": list(comparison.missing)} if comparison.missing else {}),
        "options": dict(about or {}),
        "figures": asdict(look),
        **({"numbers": legend.numbers} if legend.numbers else {}),
        "versions": versions(),
    }
    notes = score_lines(comparison.scores, comparison.probabilities, of_classes=classes is not None)
    with comparison_in(folder, [comparison.path] if comparison.path else ()).replacing(result) as part:
        show.save(show.matrix(small, rows, texts, notes=notes, style=look), part / f"compare.{look.format}", look.dpi)
        write_npz(part / "compare.npz", arrays)


def figure(explanation: Explanation, i: int | None = None, style: Style | None = None) -> show.Drawing:
    """The overlays of an explanation in a row, with the score and the words of each text below.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned.
        i: the number of the image, from 0 to N - 1; ``None`` (default) for one row for each image.
        style: how the figure looks, see :class:`captum_gradeclip.show.Style`.

    Returns:
        A figure that belongs to no window, and that a notebook shows.

    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = scenes.SceneDataset(1, "evaluation")[0].image
    >>> found = explain(model, image, "cyan triangle", tokenizer, words=False)
    >>> [axis.get_title() for axis in figure(found, 0).axes if axis.get_title()]
    ['image 0', 'cyan triangle']
    """
    look = style or Style()
    parts = []
    for n in range(len(explanation)) if i is None else [i]:
        small, fine = _view(explanation, n, round(5 * look.dpi))
        captions, notes = _captions(explanation, n), _notes(explanation, n)
        parts.append(show.Strip(small, fine, _titles(explanation), captions, notes, explanation.names[n]))
    return show.strips(parts, unit=unit_of(explanation.method, _score_of(explanation)), style=look)


def unit_of(method: str, score: str) -> str:
    """What the values of a method's maps are measured in.

    Args:
        method: name of the method's class.
        score: what the score is, ``"cosine"`` for example, for methods that measure in units of it.

    >>> unit_of("GradECLIP", "cosine"), unit_of("RawAttention", "cosine")
    ('cosine', 'attention')
    """
    info = find_method(method).info
    return info.unit or (score if info.class_discriminative else "attention")


def html(explanation: Explanation, longest: int = NOTEBOOK, about: Mapping[str, object] | None = None) -> str:
    r"""The widget of an explanation as a piece of HTML that stands alone, see :func:`captum_gradeclip.show.widget`.

    Its size is bounded: of many pictures the first :data:`MOST_PICTURES` are shown, of many texts the :data:`MOST_TEXTS` of
    the highest scores.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned; words can be clicked if it has regions.
        longest: the most pixels along the longer side of a picture (default :data:`NOTEBOOK`).
        about: further settings that are told, the name of the model for instance (default none).

    Returns:
        The piece, one ``div``.

    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = scenes.SceneDataset(1, "evaluation")[0].image
    >>> piece = html(explain(model, image, "cyan triangle", tokenizer, regions=True))
    >>> piece.count('<button class="gc-word'), "data:image/jpeg;base64," in piece
    (2, True)
    """
    return _widget(explanation, longest, about or {}, Style())


def page(explanation: Explanation, about: Mapping[str, object] | None = None, style: Style | None = None) -> str:
    """A page about an explanation that can be mailed: one file, which fetches nothing, see :func:`html`.

    Args:
        explanation: what :func:`captum_gradeclip.explain` returned.
        about: as for :func:`html`.
        style: the color map and the scale of colors.

    Returns:
        The page, whose pictures have :data:`PAGE` pixels along the longer side at most.

    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> image = scenes.SceneDataset(1, "evaluation")[0].image
    >>> page(explain(model, image, "cyan triangle", tokenizer, words=False))[:15]
    '<!DOCTYPE html>'
    """
    title = f"{', '.join(explanation.names[:3])}: {', '.join(_titles(explanation)[:3])}"
    return show.document(title, _widget(explanation, PAGE, about or {}, style or Style()))


def _widget(explanation: Explanation, longest: int, about: Mapping[str, object], style: Style) -> str:
    some, texts = range(len(explanation))[:MOST_PICTURES], range(len(explanation.texts))
    notes = []
    if len(some) < len(explanation):
        notes.append(f"these are the first {len(some)} of {len(explanation)} pictures; image(i) has the others")
    if len(texts) > MOST_TEXTS:
        notes.append(f"these are {MOST_TEXTS} of {len(texts)} texts, those of the highest scores where scores are known")
    told = {**explanation.options, **about}
    first = explanation.pictures[0].preprocessing if explanation.pictures else {}
    settings = {"method": explanation.method, **_settings(told), **_settings(first), **versions()}
    return show.widget(
        [_seen(explanation, i, min(longest, 3 * NOTEBOOK // len(some) + 160)) for i in some],
        heading=f"{find_method(explanation.method).info.name}: which parts of the picture speak for the text",
        unit=unit_of(explanation.method, _score_of(explanation)),
        notes=notes,
        settings=settings,
        style=style,
    )


def _seen(explanation: Explanation, i: int, longest: int) -> show.View:
    """What the widget shows of an image."""
    picture, maps = explanation.pictures[i], explanation.maps[i]
    small = _shrunk(picture.image, longest)
    captions, notes = _captions(explanation, i), _notes(explanation, i)
    regions = None if explanation.regions is None else explanation.regions[i]
    order = list(range(len(explanation.texts)))
    if len(order) > MOST_TEXTS:
        if explanation.scores is not None:
            order.sort(key=lambda t: -float(explanation.scores[i, t]))  # type: ignore[index]
        order = order[:MOST_TEXTS]
    titles, entries = _titles(explanation), _entries(explanation, i, None)
    told = []
    for t in order:
        of_words = captions[t] if captions else [(word, 0.0) for word, _ in regions[t]] if regions else []
        known = regions is not None and len(regions[t]) == len(of_words)
        told.append(
            show.Caption(
                titles[t],
                notes[t] if notes else "",
                [(_NUMBERS[name], f"{value:.3f}") for name, value in entries[t].items() if name in _NUMBERS],
                of_words,
                [one for _, one in regions[t]] if regions is not None and known else [],
            )
        )
    frame = picture.frame_of(maps).resized(small.size)
    return show.View(explanation.names[i], small, maps[order], frame, told, explanation.warnings_of(i))


_NUMBERS = {"explained_score": "explained pass", "carried": "carried by patches", "explained_text_score": "text pass"}
"""How the widget calls some of the numbers of a text."""


def _settings(options: Mapping[str, object]) -> dict[str, str]:
    """Options in words, without those that nobody has chosen."""
    return {name.replace("_", " "): str(value) for name, value in options.items() if value is not None}


def versions() -> dict[str, str]:
    """The installed versions of everything that could change a result, by name."""
    found = {"python": platform.python_version()}
    for name in ("captum_gradeclip", "torch", "captum", "open_clip_torch", "timm", "transformers", "torchvision"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def _saving(
    explanation: Explanation, i: int, folder: Path, about: Mapping[str, object], style: Style, *, image: bool, html: bool
) -> Iterator[dict[str, object]]:
    picture, maps, texts = explanation.pictures[i], explanation.maps[i], explanation.texts
    captions, notes = _captions(explanation, i), _notes(explanation, i)
    legend = show.legend_of(_titles(explanation), captions or [])
    result: dict[str, object] = {
        "image": explanation.names[i],
        "size": list(picture.image.size),
        "input": {
            "height": picture.pixels.shape[-2],
            "width": picture.pixels.shape[-1],
            "grid": list(maps.shape[-2:]),
            "box": list(picture.frame.box),
            "preprocessing": dict(picture.preprocessing),
        },
        "texts": _entries(explanation, i, captions),
        "method": explanation.method,
        "options": {**explanation.options, **about},
        "figures": asdict(style),
        **({"numbers": legend.numbers} if legend.numbers else {}),
        "warnings": explanation.warnings_of(i),
        "versions": versions(),
    }
    arrays: dict[str, object] = {"image": maps.numpy()}
    if explanation.token_weights is not None:
        arrays["text"] = explanation.token_weights[i].numpy()
    for t, of_words in enumerate(explanation.regions[i] if explanation.regions else ()):
        if of_words:
            arrays[f"regions_{t}"] = np.stack([one.numpy() for _, one in of_words])
    if explanation.targets is None:
        arrays["texts"] = np.array(texts)
    else:
        arrays["classes"] = np.array(explanation.targets)
    names = iter(file_names(texts, captions is not None, image, style.format, html))
    small, fine = _view(explanation, i, None if style.full_size else OVERLAY)
    scale = show.Scale.of(fine)
    with results_in(folder, explanation.paths).replacing(result) as part:
        for one in fine:
            _write_png(part / next(names), _overlay(small, one, scale, style))
        show.save(figure(explanation, i, style), part / next(names), style.dpi)
        if captions is not None:
            words = show.words_figure(captions, texts, notes=notes, unit="share of the text's weight", style=style)
            show.save(words, part / next(names), style.dpi)
            write_text(part / next(names), show.words_html(captions, texts, notes=notes))
        write_npz(part / next(names), arrays)
        if image:
            _write_png(part / next(names), picture.image)
        if html:
            write_text(part / next(names), page(explanation.image(i), about, style))
        yield result


def _view(explanation: Explanation, i: int, longest: int | None) -> tuple[Image.Image, Tensor]:
    """An image, shrunk to some pixels along its longer side, and its maps at that size."""
    picture, maps = explanation.pictures[i], explanation.maps[i]
    small = picture.image if longest is None else _shrunk(picture.image, longest)
    return small, to_pixels(maps, picture.frame_of(maps).resized(small.size))


def _overlay(image: Image.Image, attribution: Tensor, scale: show.Scale, style: Style) -> Image.Image:
    """An overlay on a scale that other texts share, or on its own; without colors where the map is flat."""
    own = style.color_scale == "each" or show.flat(attribution) is not None
    return show.overlay(image, attribution, cmap=style.cmap, scale=None if own else scale)


def _entries(explanation: Explanation, i: int, captions: Sequence[Words] | None) -> list[dict[str, object]]:
    """The numbers of each text (or class), as far as they are known."""
    columns = {
        "score": explanation.scores,
        "probability": explanation.probabilities,
        "explained_score": explanation.explained_scores,
        "carried": explanation.carried,
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


def _titles(explanation: Explanation) -> list[str]:
    """What each map is of: a text, or a text rather than another one."""
    against = explanation.against
    other = "" if against is None else f" rather than {against}" if against.strip() else " rather than no words"
    return [f"{text}{other}" for text in explanation.texts]


def _notes(explanation: Explanation, i: int) -> list[str] | None:
    """The score of each text with its sign, and the probability of each class, if they are known."""
    if explanation.scores is None:
        return None
    likely = None if explanation.probabilities is None else explanation.probabilities[i].tolist()
    if explanation.against is not None:
        return [f"difference {_signed(score)}" for score in explanation.scores[i].tolist()]
    return score_lines(explanation.scores[i].tolist(), likely, of_classes=explanation.targets is not None)


def score_lines(scores: Sequence[float], probabilities: Sequence[float] | None, of_classes: bool) -> list[str]:
    """Scores in words.

    Args:
        scores: cosines of texts, or logits of classes.
        probabilities: the probability of each class, from 0 to 1; ``None`` for texts.
        of_classes: whether they are logits.

    >>> score_lines([0.312], None, of_classes=False), score_lines([7.5], [0.42], of_classes=True)
    (['score +0.312'], ['logit +7.500, 42 %'])
    """
    lines = [f"{'logit' if of_classes else 'score'} {_signed(score)}" for score in scores]
    if probabilities is None:
        return lines
    return [f"{one}, {100 * share:.3g} %" for one, share in zip(lines, probabilities)]


def _score_of(explanation: Explanation) -> str:
    matched = explanation.options.get("head") == "match"  # a matching head has logits as well
    return "cosine" if explanation.targets is None and not matched else "logit"


def _signed(score: float) -> str:
    """A score with its sign, and with more digits where three would show none."""
    return f"{score:+.3f}" if abs(score) >= 0.0005 or score == 0 else f"{score:+.1e}"


def _captions(explanation: Explanation, i: int) -> list[Words] | None:
    """The words of each text with weights that add up to 1, as the paper shows them."""
    return None if explanation.words is None else [shares(words) for words in explanation.words[i]]


def _write_png(path: Path, image: Image.Image) -> None:
    write_bytes(path, _png_bytes(image))


def _png_bytes(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="png", compress_level=3)  # photos hardly become smaller by more, which takes three times as long
    return file.getvalue()


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _shrunk(image: Image.Image, longest: int) -> Image.Image:
    image = image.copy()
    image.thumbnail((longest, longest))
    return image


def slug(text: str) -> str:
    """A text as a part of the name of a file: its letters, with their marks, and digits, of bounded length.

    >>> slug("a <red> circle!"), slug("एक लाल कुत्ता"), slug("...")
    ('a-red-circle', 'एक-लाल-कुत्ता', 'text')
    """
    kept = ""
    for character in text.lower():  # a mark belongs to a letter: vowels of Hindi are marks, and \w leaves them out
        mark = unicodedata.category(character).startswith("M") and kept[-1:] not in ("", "-")
        kept += character if mark or re.match(r"\w", character) else "-"
    return re.sub("-+", "-", kept).strip("-")[:40] or "text"
