"""What a run has measured, on disk: a file per chunk of samples, which is whole and of this run, or measured again."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypedDict, cast

from ..metrics.curves import Mode
from ..quoting import quoted

logger = logging.getLogger(__name__)

MODES: tuple[Mode, Mode] = ("deletion", "insertion")

Curves = dict[str, dict[str, dict[str, list[float]]]]
"""What was asked for (``"GT"``, ``"image"``, ``"words"``, ...), mode, and what is traced, to the values at all points."""


class OpenVocabularyResult(TypedDict):
    """What the maps of all classes say about one picture.

    Attributes:
        pixels: by class index (as text, -2 for the background), the numbers of pixels in the intersection and in the union
            of segmentation and truth.
        present: indices of the classes that are in the picture.
        scores: the recognition score of every class.
        points: mean share of point prompts that lie on their class; ``None`` where no map has any.
    """

    pixels: dict[str, list[int]]
    present: list[int]
    scores: list[float]
    points: float | None


class TripleResult(TypedDict):
    """What the maps of a triple of words say; a value is ``None`` where a map is zero, or a score too small to divide by.

    Attributes:
        kind: what is put together.
        similarity: by scale of the maps (``"normalized"`` or ``"raw"``), by combination and by ``"matched"`` or
            ``"mismatched"``, the cosine of the combined maps of the words with the map of the phrase.
        to_base: by item (a word or a phrase), the cosine of its map with that of the base word.
        ratios: by item, its score divided by that of the base word.
        zero: the texts whose maps are zero everywhere.
    """

    kind: str
    similarity: dict[str, dict[str, dict[str, float | None]]]
    to_base: dict[str, float | None]
    ratios: dict[str, float | None]
    zero: list[str]


class RegionResult(TypedDict):
    """How the map of a text lies on what it is true of.

    Attributes:
        text: the text.
        kind: what it says something about.
        values: by measure; ``None`` where it is not defined.
        zero: whether the map is constant.
    """

    text: str
    kind: str
    values: dict[str, float | None]
    zero: bool


class HeadResult(TypedDict):
    """What the heads of all layers take from a picture for its texts of one kind; lists are by layer, then by head.

    Attributes:
        kind: what the texts say something about.
        texts: number of these texts; all other values are means over them.
        pointing: how often the contributions of the head's patches are highest on what the text is true of.
        together: by layer, how often those of all its heads are, added up.
        carried: what the head contributes to the score, through patches and all other tokens.
        patches: what it contributes through patches.
        lost: how far the score falls when the head returns zero.
        score: the score.
        chance: the share of the picture that the texts are true of.
    """

    kind: str
    texts: int
    pointing: list[list[float]]
    together: list[float]
    carried: list[list[float]]
    patches: list[list[float]]
    lost: list[list[float]]
    score: float
    chance: float


class Record(TypedDict, total=False):
    """What was measured of one sample with one method, or why the sample was left out.

    Attributes:
        id: name of the sample.
        method: id of the method, its class name, or for tables of layers how many layers were explained.
        values: figures by column of a table.
        curves: curves of deletion and insertion.
        open: what the maps of all classes say.
        triple: what the maps of three words say.
        regions: how the maps of texts lie on what they are true of.
        heads: what heads take from a picture, for each kind of texts.
        captions: for each caption, its words with their weights.
        broken: why the sample cannot be used; then nothing else is there.
        left_out: what the task would need to see in the sample; then nothing else is there.

    >>> from captum_gradeclip.experiments import FAIR, TASKS
    >>> (task,) = TASKS["localization"]
    >>> records: list[Record] = [{"id": "a", "method": "GradECLIP", "values": {"PG": hit}} for hit in (1.0, 0.0)]
    >>> print(task.table(records, "two pictures", FAIR).rows["GradECLIP"]["PG"])
    0.500
    """

    id: str
    method: str
    values: dict[str, float]
    curves: Curves
    open: OpenVocabularyResult
    triple: TripleResult
    regions: list[RegionResult]
    heads: list[HeadResult]
    captions: list[list[tuple[str, float]]]
    broken: str
    left_out: str


class RecordError(ValueError):
    """Records on disk are broken, or belong to another run; the message names the file."""


Contents = Sequence[tuple[str, str]]
"""The samples of a chunk: the id of each, and the checksum of its content."""


class Records:
    """The records of one run in a folder; a run that was killed continues where it stopped.

    Each file of a chunk says what it is: the settings of its run, its number, its samples with their checksums, and a
    checksum of all that. A chunk is taken up only if all of it agrees. It is written beside its place and then moved there,
    so that a kill at any moment leaves it whole or missing; one that was damaged later is told and measured again.

    Args:
        folder: folder of the run; it is made if it is missing.
        settings: everything that decides the result, as JSON can write it; a folder with other settings is refused.
        contents: gives the samples of a chunk by its number, which are compared with those that it was measured on and kept
            with it; ``None`` (default) to know nothing about samples.

    Raises:
        RecordError: if the folder holds another run; the message names up to three settings in which that differs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records = Records(Path(folder), {"task": "none"})
    ...     records.write(0, [{"id": "a", "values": {"PG": 1.0}}])
    ...     records.has(0), records.has(1), records.read(1)
    (True, False, [{'id': 'a', 'values': {'PG': 1.0}}])
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, object], contents: Callable[[int], Contents] | None = None
    ) -> None:
        self.folder = folder / "records"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.contents = contents or (lambda _: ())
        # JSON turns tuples into lists, so that only its own reading can be compared with what it has written.
        self.settings = cast(dict[str, object], json.loads(json.dumps(settings)))
        file = folder / "run.json"
        known = _run_of(file)
        if known is not None:
            _refuse_others(known, self.settings, folder)
        elif file.exists():
            logger.warning("%s is damaged, it is written anew; the chunks say themselves which run they belong to", file)
        for path in self.folder.glob("chunk-*.jsonl"):
            chunk = _chunk_of(path)
            if chunk is not None:
                _refuse_others(chunk.settings, self.settings, folder)
        if known is None:
            _write(file, _run_text(self.settings))

    def path(self, chunk: int) -> Path:
        """The file of a chunk, which is numbered from 0."""
        return self.folder / f"chunk-{chunk:06d}.jsonl"

    def has(self, chunk: int) -> bool:
        """Whether a chunk has been measured, on the samples that it has now; a damaged one, which is logged, has not.

        Raises:
            RecordError: naming a sample that has changed since.
        """
        path = self.path(chunk)
        if not os.path.lexists(path):
            return False
        found = _chunk_of(path)
        if found is None or found.number != chunk or found.settings != self.settings:
            logger.warning("%s is damaged: its content is not what its checksum says; it is measured again", path)
            return False
        now = list(self.contents(chunk))
        if now != found.samples:
            changed = next((one for one, other in zip(found.samples, now) if one != other), found.samples[-1])
            raise RecordError(
                f"out: {quoted(self.folder.parent)}: the sample {quoted(changed[0])} has changed since it was measured (its"
                " picture, mask, label or captions); delete the folder to measure anew, or choose another one"
            )
        return True

    def write(self, chunk: int, records: Sequence[Record]) -> None:
        """Keeps the records of a chunk.

        Raises:
            OSError: if they cannot be written, on a full disk for example; nothing is left of the chunk then.
        """
        _write(self.path(chunk), _Chunk(chunk, self.settings, list(self.contents(chunk)), list(records)).text())

    def read(self, chunks: int) -> list[Record]:
        """All records of the first chunks, in their order.

        Args:
            chunks: number of chunks.

        Raises:
            RecordError: naming a file that is missing or broken.
        """
        records: list[Record] = []
        for number in range(chunks):
            path = self.path(number)
            chunk = _chunk_of(path)
            if chunk is None or chunk.number != number or chunk.settings != self.settings:
                what = "its content is not what its checksum says" if path.exists() else "it is missing"
                raise RecordError(f"{path}: broken ({what}); run again to measure it anew, the others are kept")
            records += chunk.records
        return records

    def clear(self) -> None:
        """Removes what a killed run has left half written; no other process may be writing here."""
        for folder in (self.folder, self.folder.parent):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)


def read_finished(folder: Path, settings: Mapping[str, object]) -> tuple[list[Record], int]:
    """The records of a run that may not be at its end, while another process may be adding to them.

    Args:
        folder: folder of the run.
        settings: settings that the run must have; it may have others beside them.

    Returns:
        The records of all chunks that are whole, in their order, and the number of their samples. One that is damaged is
        logged and left out.

    Raises:
        RecordError: if a chunk has other settings, naming up to three in which they differ, or if two chunks are not of one
            run.

    >>> read_finished(Path("nowhere"), {})
    ([], 0)
    """
    wanted = cast(dict[str, object], json.loads(json.dumps(settings)))
    chunks = []
    for path in sorted((folder / "records").glob("chunk-*.jsonl")):
        chunk = _chunk_of(path)
        if chunk is None:
            logger.warning("%s is damaged: its content is not what its checksum says; it is left out", path)
            continue
        chunks.append(chunk)
        own = {name: value for name, value in chunk.settings.items() if name in wanted}
        _refuse_others(own, wanted, folder)
        _refuse_others(chunks[0].settings, chunk.settings, folder)
    return [record for chunk in chunks for record in chunk.records], sum(len(chunk.samples) for chunk in chunks)


def differences(known: Mapping[str, object], now: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """The settings in which two runs differ, each with both values.

    Args:
        known: the settings of the earlier run.
        now: those of the present one.
        prefix: what stands before each name.

    >>> list(differences({"seed": 0, "data": {"name": "a"}}, {"seed": 7, "data": {"name": "a", "files": 3}}))
    ['data.files (there nothing, now 3)', 'seed (there 0, now 7)']
    """
    for name in sorted({*known, *now}):
        one, other = known.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from differences(one, other, f"{prefix}{name}.")
        elif one != other or (name in known) != (name in now):
            shown = (_shown(settings[name]) if name in settings else "nothing" for settings in (known, now))
            yield "{} (there {}, now {})".format(f"{prefix}{name}", *shown)


def _refuse_others(known: Mapping[str, object], now: Mapping[str, object], folder: Path) -> None:
    """Refuses the records of another run."""
    found = list(differences(known, now))
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise RecordError(
            f"out: {quoted(folder)}: another run is there, with other {', '.join(found[:3])}{more}; delete it, or choose"
            " another folder"
        )


@dataclass(frozen=True)
class _Chunk:
    """A chunk as its file holds it."""

    number: int
    settings: dict[str, object]
    samples: list[tuple[str, str]]
    records: list[Record]

    def text(self) -> str:
        """A line with the checksum of the others, a line that says what the chunk is, and a line for each record."""
        header = {"chunk": self.number, "samples": self.samples, "settings": self.settings}
        lines = [json.dumps(header), *(json.dumps(_encoded(record), allow_nan=False) for record in self.records)]
        rest = "".join(line + "\n" for line in lines)
        return _seal(rest.encode()) + rest


def _chunk_of(path: Path) -> _Chunk | None:
    """What the file of a chunk holds; ``None`` if it does not hold what was once written."""
    seal, newline, rest = _bytes_of(path).partition(b"\n")
    if seal + newline != _seal(rest).encode():
        return None
    try:
        header, *records = [json.loads(line) for line in rest.splitlines()]
        samples = [(str(name), str(content)) for name, content in header["samples"]]
        return _Chunk(header["chunk"], dict(header["settings"]), samples, [_decoded(record) for record in records])
    except (ValueError, TypeError, KeyError, RecursionError):  # a checksum can be made for anything
        return None


def _run_of(path: Path) -> dict[str, object] | None:
    """The settings in a file ``run.json``; ``None`` if it does not hold what was once written."""
    content = _bytes_of(path)
    try:
        settings = dict(json.loads(content))
        settings.pop("sha256", None)
        return settings if content == _run_text(settings).encode() else None
    except (ValueError, TypeError, RecursionError):
        return None


def _run_text(settings: Mapping[str, object]) -> str:
    return json.dumps({**settings, "sha256": sha256(json.dumps(settings).encode()).hexdigest()}, indent=2)


def _seal(content: bytes) -> str:
    return json.dumps({"sha256": sha256(content).hexdigest()}) + "\n"


def _bytes_of(path: Path) -> bytes:
    """What a file holds; of what is no file, such as a pipe, nothing is read."""
    return path.read_bytes() if path.is_file() else b""


def _encoded(value: object) -> object:
    """A value as strict JSON has it, which knows no number that is not finite."""
    if isinstance(value, Mapping):
        return {name: _encoded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decoded(record: Mapping[str, object]) -> Record:
    """A record as it was before :func:`_encoded`: only its figures can hold numbers."""
    figures = ("values", "curves", "open")
    return cast(Record, {name: _numbers(value) if name in figures else value for name, value in record.items()})


def _numbers(value: object) -> object:
    if isinstance(value, dict):
        return {name: _numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return float(value) if isinstance(value, str) else value


def _shown(value: object) -> str:
    """A setting for a message, of a long one its beginning."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:24]}..."


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
