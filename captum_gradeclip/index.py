"""Results of many pictures: a folder for each of them, and an index of all."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from .explain import Explanation
from .files import to_json, write_text
from .images import checksum
from .quoting import QuotingError, legible, line, quoted
from .report import results_in, save, slug
from .results import Results
from .show import Style

__all__ = ["Entry", "OccupiedError", "explain_files", "one_by_one"]

Explainer: TypeAlias = "Callable[[Iterable[Path]], Iterator[Explanation | Exception]]"
"""Explains pictures in their order; the error in the place of an explanation is about that picture."""
ResultsIn = Callable[[Path], Results]
"""The results of a kind that would lie in a folder."""
_NAMES = re.compile(r"index\.(csv|html)")
_FIGURES = ("strip.png", "strip.svg", "strip.pdf")
_NUMBERS = ("score", "probability", "explained_score", "explained_text_score")
_WAYS = "overwrite=True replaces them, and another folder keeps both"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors of a disk that the next picture would meet as well."""


class OccupiedError(QuotingError):
    """Results of an earlier run lie where new ones are to be written, and nobody has said what becomes of them."""


@dataclass(frozen=True)
class Entry:
    """What became of one picture.

    Attributes:
        picture: its file, as it was named.
        folder: the name of the folder with its results; empty if there are none.
        texts: the numbers of each text or class, as ``explanation.json`` has them.
        error: why there are no results; empty if there are.
        taken: whether the results are those of an earlier run (default false).

    >>> entry = Entry("dog.jpg", folder="dog", texts=[{"text": "a dog", "score": 0.31}])
    >>> [(entry.picture, text["text"], text["score"]) for text in entry.texts]
    [('dog.jpg', 'a dog', 0.31)]
    """

    picture: str
    folder: str = ""
    texts: Sequence[Mapping[str, object]] = ()
    error: str = ""
    taken: bool = False


def explain_files(
    paths: Sequence[Path],
    explain_all: Explainer,
    folder: Path,
    request: Mapping[str, object],
    about: Mapping[str, object] | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    style: Style | None = None,
    html: bool = False,
    track: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> list[Entry]:
    """Explains many pictures, and writes a folder for each as soon as it is explained, and an index of all.

    What is finished is kept, whatever happens later: a picture that cannot be read or explained becomes an entry with the
    reason, and after an interrupt ``resume`` goes on. Only an error that comes before any picture was explained, and is none
    of reading a file, ends the run: the other pictures would meet it as well. So does a full disk.

    Args:
        paths: the pictures.
        explain_all: explains those of them that an earlier run has not explained; it may work ahead and on several at once,
            see :func:`one_by_one` for the plain way.
        folder: where the folders and ``index.json``, ``index.csv`` and ``index.html`` are written.
        request: everything that acts on the results, in values that JSON has: model, texts, options.
        about: further entries for ``options`` in each ``explanation.json``.
        resume: whether results that an earlier run has made of the same picture by the same request are taken as they are
            (default false).
        overwrite: whether results of an earlier run may be replaced (default false).
        style: as for :func:`captum_gradeclip.report.save`.
        html: as for :func:`captum_gradeclip.report.save`.
        track: what the pictures go through, a progress bar for instance (default: nothing).

    Returns:
        An entry for each picture, in the same order.

    Raises:
        OccupiedError: before the work, if results of an earlier run lie in the folder and neither ``resume`` nor
            ``overwrite`` was asked for; or if those that are to be taken up were made by another request.
        OSError, TypeError, ValueError: as said above.

    >>> import tempfile
    >>> from captum_gradeclip import explain, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> def explain_one(path):
    ...     return explain(model, path, "a red circle", tokenizer, words=False)
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     scenes.SceneDataset(1, "evaluation")[0].image.save(folder / "scene.png")
    ...     paths = [folder / "scene.png", folder / "missing.png"]
    ...     found = explain_files(paths, one_by_one(explain_one), folder / "results", {"texts": ["a red circle"]})
    ...     [entry.folder for entry in found], sorted(path.name for path in (folder / "results").iterdir())
    (['scene', ''], ['index.csv', 'index.html', 'index.json', 'scene'])
    >>> found[1].error.startswith("there is no file")
    True
    """
    # As JSON has it, so that it can be compared with what was written.
    request = json.loads(to_json(dict(request)))
    earlier = check_index(folder, request, resume, overwrite)
    run = _Run(folder, request, about or {}, resume and not overwrite, overwrite, style, html)
    entries: list[Entry] = []
    plans, taken = deque[_Plan](), set[str]()

    def to_explain() -> Iterator[Path]:
        """What is left to do, planned when it is asked for, since each file is read for its checksum."""
        for path in paths:
            plans.append(run.plan(path, taken))
            taken.add(plans[-1].entry.folder)
            if plans[-1].source:
                yield path

    explained = explain_all(to_explain())
    waiting: Explanation | Exception | None = None
    try:
        for _ in track(paths):
            if waiting is None and not (plans and not plans[0].source):
                waiting = next(explained, None)  # plans as far as the next picture that is explained
            plan, found = plans.popleft(), None
            if plan.source:
                found, waiting = waiting, None
                assert found is not None, "an explainer gives something for each picture"
            entries.append(run.entry(plan, found, any(one.folder for one in entries)))
    finally:
        if entries:
            now = {one.folder for one in entries if one.folder} | {one.picture for one in entries}
            kept = [one for one in earlier if one.folder not in now and one.picture not in now]
            _write_index(folder, [*entries, *kept], request)
    return entries


def one_by_one(explain_one: Callable[[Path], Explanation]) -> Explainer:
    """What explains pictures one after the other, each when it is asked for.

    Args:
        explain_one: explains one picture; an OSError, TypeError or ValueError is taken to be about that picture.

    Returns:
        The ``explain_all`` of :func:`explain_files`.

    >>> def refuse(path):
    ...     raise ValueError(f"images: {path} is no picture")
    >>> list(one_by_one(refuse)([Path("a.txt")]))
    [ValueError('images: a.txt is no picture')]
    """

    def explain_all(paths: Iterable[Path]) -> Iterator[Explanation | Exception]:
        for path in paths:
            try:
                yield explain_one(path)
            except (OSError, TypeError, ValueError) as error:
                yield error

    return explain_all


def check_index(folder: Path, request: Mapping[str, object], resume: bool = False, overwrite: bool = False) -> list[Entry]:
    """Tells before the work what stands against results in a folder; arguments and errors as for :func:`explain_files`.

    Returns:
        The entries of an earlier run whose results are still there.
    """
    index = index_in(folder)
    index.check(("index.csv", "index.html"))
    told = index.content()
    if told is None:
        return []
    if not (resume or overwrite):
        raise OccupiedError(
            f"folder: {quoted(folder)} holds results of an earlier run; resume=True goes on with them, {_WAYS}"
        )
    if resume and not overwrite:
        _check_request(folder, told.get("request"), request)
    found = told.get("pictures")
    entries = [_entry(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return [one for one in entries if one.folder and results_in(folder / one.folder).content() is not None]


def index_in(folder: Path) -> Results:
    """The files of the index in a folder."""
    return Results(folder, "index.json", _NAMES)


def free_folder(folder: Path, *kinds: ResultsIn) -> Path:
    """The folder itself, or the first of ``folder-2``, ``folder-3`` and so on, in which no such results lie yet.

    Args:
        folder: it need not be there.
        kinds: functions that say which results of a kind would lie in a folder.
    """
    number, place = 1, folder
    while _is_occupied(place, kinds):
        number += 1
        place = folder.with_name(f"{folder.name}-{number}")
    return place


def check_free(folder: Path, overwrite: bool, *kinds: ResultsIn) -> None:
    """Tells before the work that results lie where others are to be written; arguments as for :func:`free_folder`.

    Raises:
        OccupiedError: unless they may be replaced.
    """
    if not overwrite and _is_occupied(folder, kinds):
        raise OccupiedError(f"folder: {quoted(folder)} holds results of an earlier run; {_WAYS}")


def _is_occupied(folder: Path, kinds: Sequence[ResultsIn]) -> bool:
    return any(kind(folder).content() is not None for kind in kinds)


@dataclass(frozen=True)
class _Plan:
    """What is known of a picture before it is explained.

    Attributes:
        path: its file.
        entry: what became of it already, or the folder that its results will have.
        source: the name and the checksum of the file; empty if it is not to be explained.
    """

    path: Path
    entry: Entry
    source: Mapping[str, str]


@dataclass(frozen=True)
class _Run:
    """What is the same for all pictures; attributes as the arguments of :func:`explain_files`."""

    folder: Path
    request: Mapping[str, object]
    about: Mapping[str, object]
    resume: bool
    overwrite: bool
    style: Style | None
    html: bool

    def plan(self, path: Path, taken: set[str]) -> _Plan:
        """Whether a picture is to be explained, or an earlier run has done it, or it cannot be."""
        name = os.fspath(path)
        try:
            source = {"picture": name, "sha256": checksum(path)}
            entry = Entry(name, _place(self.folder, path, source, taken))
            if self.resume and (told := self._earlier(entry.folder, source)) is not None:
                return _Plan(path, replace(entry, texts=_texts(told), taken=True), {})
            if not self.overwrite and results_in(self.folder / entry.folder).content() is not None:
                raise OccupiedError(
                    f"folder: {quoted(entry.folder)} holds results of an earlier run, of another picture or made otherwise;"
                    f" {_WAYS}"
                )
        except (OSError, TypeError, ValueError) as error:
            if not isinstance(error, OSError) and not _is_about_picture(error):
                raise
            return _Plan(path, Entry(name, error=_reason(error)), {})
        return _Plan(path, entry, source)

    def entry(self, plan: _Plan, found: Explanation | Exception | None, any_before: bool) -> Entry:
        """Writes the results of a picture, if it was to be explained and could be."""
        entry = plan.entry
        if found is None:
            return entry
        if isinstance(found, Exception):
            expected = isinstance(found, OSError) or _is_about_picture(found)
            if not (expected or (any_before and isinstance(found, (TypeError, ValueError)))):
                raise found
            return Entry(entry.picture, error=_reason(found))
        about = {**self.about, "source": plan.source, "request": self.request}
        try:
            found, place = replace(found, paths=[plan.path]), self.folder / entry.folder
            (told,) = save(found, place, about, style=self.style, html=self.html)
        except OSError as error:
            if error.errno in _FULL:
                raise
            return Entry(entry.picture, error=_reason(error))
        return replace(entry, texts=_texts(told))

    def _earlier(self, name: str, source: Mapping[str, str]) -> Mapping[str, object] | None:
        """What ``explanation.json`` of an earlier run holds, if it was made of the same picture by the same request."""
        results = results_in(self.folder / name)
        told = results.content() or {}
        options = told.get("options")
        same = isinstance(options, dict) and (options.get("source"), options.get("request")) == (source, self.request)
        return told if same and results.is_whole() else None


def _is_about_picture(error: Exception) -> bool:
    """Whether an error says that the picture itself cannot be used."""
    return isinstance(error, OccupiedError) or str(error).startswith(("path:", "image:", "images:"))


def _place(folder: Path, path: Path, source: Mapping[str, str], taken: set[str]) -> str:
    """The name of the folder for the results of a picture: that of the file, unless a picture of the same name has it."""
    name = slug(path.stem)
    told = None if name in taken else results_in(folder / name).content()
    options = told.get("options") if told else None
    of = options.get("source") if isinstance(options, dict) else None
    if name in taken or (isinstance(of, dict) and of.get("picture") != source["picture"]):
        return f"{name}-{sha256(source['picture'].encode()).hexdigest()[:8]}"
    return name


def _check_request(folder: Path, before: object, now: Mapping[str, object]) -> None:
    before = before if isinstance(before, dict) else {}
    names = sorted(name for name in now if before.get(name) != now[name])
    if names:
        told = "; ".join(f"{name}: there {quoted(before.get(name))}, now {quoted(now.get(name))}" for name in names)
        raise OccupiedError(f"resume: the results in {quoted(folder)} were made otherwise ({told}); {_WAYS}")


def _write_index(folder: Path, entries: Sequence[Entry], request: Mapping[str, object]) -> None:
    pictures = [
        {"picture": one.picture, "folder": one.folder, "texts": list(one.texts), "error": one.error} for one in entries
    ]
    with index_in(folder).replacing({"request": dict(request), "pictures": pictures}) as part:
        write_text(part / "index.csv", _csv(entries))
        write_text(part / "index.html", _html(folder, entries))


def _csv(entries: Sequence[Entry]) -> str:
    """A line for each picture and text."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    numbers = [name for name in _NUMBERS if any(name in text for one in entries for text in one.texts)]
    writer.writerow(["picture", "folder", "text", *numbers, "error"])
    for one in entries:
        for text in one.texts or [{}]:
            values = [text.get(name, "") for name in numbers]
            names = map(legible, (one.picture, one.folder, str(text.get("text", ""))))
            writer.writerow([*names, *values, legible(one.error)])
    return file.getvalue()


def _html(folder: Path, entries: Sequence[Entry]) -> str:
    """A page with the figure and the numbers of each picture; all text is escaped, and nothing is loaded from elsewhere."""
    rows = []
    for one in entries:
        name = escape(legible(one.picture))
        if not one.folder:
            rows.append(f"<tr><td>{name}</td><td>not explained: {escape(legible(one.error))}</td></tr>")
            continue
        place = quote(one.folder)
        figure = next((strip for strip in _FIGURES if (folder / one.folder / strip).is_file()), "")
        # A browser shows no PDF as an image, so the file is linked by its name.
        shown = f'<img src="{place}/{figure}" loading="lazy" alt="maps of {name}">' if figure != "strip.pdf" else figure
        picture = f'<a href="{place}/{figure}">{shown}</a>' if figure else ""
        numbers = "".join(f"<li>{escape(_told(text))}</li>" for text in one.texts)
        more = "explanation.html" if (folder / one.folder / "explanation.html").is_file() else ""
        rows.append(f'<tr><td><a href="{place}/{more}">{name}</a><ul>{numbers}</ul></td><td>{picture}</td></tr>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>explained pictures</title><style>'
        "body{font-family:sans-serif}td{vertical-align:top;padding:6px;border-top:1px solid #ccc}img{max-width:900px}"
        f"</style></head><body><table>{''.join(rows)}</table></body></html>\n"
    )


def _told(text: Mapping[str, object]) -> str:
    score = text.get("score")
    shown = f": {score:.3f}" if isinstance(score, float) else ""
    return f"{line(str(text.get('text', '')))}{shown}"


def _texts(told: Mapping[str, object]) -> list[dict[str, object]]:
    """The numbers of each text in what ``explanation.json`` holds, without its words."""
    texts = told.get("texts")
    found = [one for one in texts if isinstance(one, dict)] if isinstance(texts, list) else []
    return [{name: value for name, value in one.items() if name != "words"} for one in found]


def _entry(told: Mapping[str, object]) -> Entry:
    return Entry(str(told.get("picture", "")), str(told.get("folder", "")), _texts(told), str(told.get("error", "")))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return line(error.strerror, 300)
    # Which picture it is stands beside it.
    return line(str(error).removeprefix("path: ").removeprefix("image: ").removeprefix("images: "), 300)
