"""The overview: what a folder of results says, as one page; nothing is explained again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from .ahead import MOST_WORKERS, ahead, usual_workers
from .images import read
from .index import index_in
from .quoting import quoted
from .report import file_names, results_in, score_lines, slug
from .show.sheet import THUMBNAIL, Card, Cell, sheet

__all__ = ["find_results", "overview"]

MOST_TEXTS = 6
"""The most texts of a picture that have a thumbnail, those of the highest scores."""
_DEPTH = 4
"""How many folders inside each other are looked into."""


def find_results(folder: Path) -> list[Path]:
    """The folders with results of ``explain``, in a folder and in those inside it, in the order of their index.

    Args:
        folder: a folder that ``gradeclip explain`` or ``Explanation.save`` has written into, or one that holds several.

    Returns:
        Folders in which an ``explanation.json`` lies. Folders that are links are not looked into.

    >>> find_results(Path("no such folder"))
    []
    """
    found: list[Path] = []

    def look(place: Path, depth: int) -> None:
        if (place / "explanation.json").is_file():
            found.append(place)
        inside: list[str] = []
        if depth and place.is_dir():
            with os.scandir(place) as entries:
                inside = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False) and one.name[0] != ".")
        told = [str(one.get("folder")) for one in _pictures(place)]
        places = {name: number for number, name in enumerate(told)}
        for name in sorted(inside, key=lambda name: places.get(name, len(told))):
            look(place / name, depth - 1)

    look(folder, _DEPTH)
    return found


def overview(
    folder: Path, out: Path | None = None, track: Callable[[Sequence[Path]], Iterable[Path]] = iter
) -> tuple[str, int]:
    """Writes a page with a card for each picture whose results lie in a folder: thumbnails, scores and warnings.

    The thumbnails are the overlays that lie there, made small. Each name is a link to ``explanation.html``, or to the
    figure, for whoever has the folder as well.

    Args:
        folder: as for :func:`find_results`.
        out: where the page will lie, from which its links lead to the results; ``None`` (default) for ``folder``.
        track: what the folders go through, a progress bar for instance (default: nothing).

    Returns:
        The page, and the number of its pictures, those included that were not explained.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if no results lie in it.

    >>> import tempfile
    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> found = explain(model, scenes.SceneDataset(1, "evaluation")[0].image, "a red circle", tokenizer, words=False)
    >>> with tempfile.TemporaryDirectory() as name:
    ...     found.save(name)
    ...     page, count = overview(Path(name))
    >>> "a red circle" in page, count
    (True, 1)
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: there is no folder {quoted(folder)}")
    places = find_results(folder)
    failed = [
        Card(str(one.get("picture", "")), error=str(one["error"]))
        for place in dict.fromkeys([folder, *(one.parent for one in places)])
        for one in _pictures(place)
        if one.get("error")
    ]
    if not places and not failed:
        raise ValueError(
            f"folder: no results of gradeclip explain lie in {quoted(folder)}; name the folder that it wrote into"
        )
    base = folder if out is None else out

    def made(place: Path) -> tuple[Card | None, str]:
        return _card(place, folder, base)

    cards, kinds, broken = [], dict[str, None](), 0
    for card, kind in ahead(made, track(places), usual_workers(MOST_WORKERS)):
        if card is None:
            broken += 1
        else:
            cards.append(card)
            kinds[kind] = None
    notes = [", ".join(kinds)] if kinds else []
    if broken:
        notes.append(f"left out, since they are not as they were written: {broken} results")
    name = folder.resolve().name
    return sheet(f"Explained pictures: {name}", [*cards, *failed], notes), len(cards) + len(failed)


def _card(place: Path, folder: Path, base: Path) -> tuple[Card | None, str]:
    """The card of one picture, and by what it was explained; no card where the results are not as they were written."""
    told = results_in(place).content()
    texts = [one for one in _list(told, "texts") if isinstance(one, dict)]
    if told is None:
        return None, ""
    options = told.get("options")
    options = options if isinstance(options, dict) else {}
    titles = [str(one.get("text", "")) for one in texts]
    numbers = [_number(one.get("score")) for one in texts]
    shares = [_number(one.get("probability")) for one in texts]
    of_classes, against = any("class" in one for one in texts), options.get("against")
    known = [-float("inf") if number is None else number for number in numbers]
    order = sorted(range(len(texts)), key=lambda t: -known[t])[:MOST_TEXTS]
    names, cells = file_names(titles, words=False), []
    for t in sorted(order):
        number, share = numbers[t], shares[t]
        note = "" if number is None else score_lines([number], None if share is None else [share], of_classes)[0]
        title = titles[t] if against is None else f"{titles[t]} rather than {str(against).strip() or 'no words'}"
        cells.append(Cell(title, note.replace("score", "difference") if against else note, number, _small(place / names[t])))
    left = len(texts) - len(cells)
    name = str(told.get("image", ""))
    where = "" if place == folder or place.name == slug(Path(name).stem) else os.path.relpath(place, folder)
    about = " · ".join(filter(None, [where, f"and {left} texts of lower scores" if left else ""]))
    more = next((one for one in ("explanation.html", "strip.png", "strip.svg", "strip.pdf") if (place / one).is_file()), "")
    link = quote(Path(os.path.relpath(place, base), more).as_posix()) if more else ""
    # A colon before the first slash would make the name of a folder the name of a protocol; quote writes it as %3A.
    warnings = [str(one) for one in _list(told, "warnings")]
    model = options.get("model")
    kind = str(told.get("method", "")) + (f" on {model}" if model else "")
    return Card(name, link, about, cells, warnings), kind


def _small(path: Path) -> Image.Image | None:
    """An overlay as a thumbnail; nothing where there is none that can be read."""
    try:
        image = read(path)
    except (OSError, ValueError):
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def _pictures(folder: Path) -> list[Mapping[str, object]]:
    """What an index says of its pictures; nothing where there is no index."""
    return [one for one in _list(index_in(folder).content(), "pictures") if isinstance(one, dict)]


def _list(told: Mapping[str, object] | None, name: str) -> list[object]:
    found = (told or {}).get(name)
    return found if isinstance(found, list) else []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
