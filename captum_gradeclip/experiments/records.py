"""What a run has measured, on disk: a file per chunk of samples, which is either whole or missing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from ..metrics.curves import Mode

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


class Record(TypedDict, total=False):
    """What was measured of one sample with one method, or why the sample is broken.

    Attributes:
        id: name of the sample.
        method: id of the method, its class name, or for tables of layers how many layers were explained.
        values: figures by column of a table.
        curves: curves of deletion and insertion.
        open: what the maps of all classes say.
        broken: why the sample was left out; then nothing else is there.
    """

    id: str
    method: str
    values: dict[str, float]
    curves: Curves
    open: OpenVocabularyResult
    broken: str


class RecordError(ValueError):
    """Records on disk are broken, or belong to another run; the message names the file."""


class Records:
    """The records of one run in a folder; a run that was killed continues where it stopped.

    A chunk is written beside its place and then moved there, so that a kill at any moment leaves it whole or missing. A
    chunk that is there is not measured again.

    Args:
        folder: folder of the run; it is made if it is missing.
        settings: everything that decides the result, as JSON can write it; a folder with other settings is refused.

    Raises:
        RecordError: if the folder holds another run, or its settings cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records = Records(Path(folder), {"task": "none"})
    ...     records.write(0, [{"id": "a", "values": {"PG": 1.0}}])
    ...     records.has(0), records.has(1), records.read(1)
    (True, False, [{'id': 'a', 'values': {'PG': 1.0}}])
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        self.folder = folder / "records"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = folder / "run.json"
        # JSON turns tuples into lists, so that only its own reading can be compared with what it has written.
        settings = cast(dict[str, object], json.loads(json.dumps(settings)))
        if file.exists():
            try:
                known: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise RecordError(f"{file}: it cannot be read ({error}); delete it and its folder to begin anew") from None
            if known != settings:
                changed = sorted(name for name in {*known, *settings} if known.get(name) != settings.get(name))
                raise RecordError(
                    f"out: {str(folder)!r}: another run is there, with other {', '.join(changed)}; delete it, or choose"
                    " another folder"
                )
        else:
            _write(file, json.dumps(settings, indent=2))

    def path(self, chunk: int) -> Path:
        """The file of a chunk, which is numbered from 0."""
        return self.folder / f"chunk-{chunk:06d}.jsonl"

    def has(self, chunk: int) -> bool:
        """Whether a chunk has been measured."""
        return self.path(chunk).exists()

    def write(self, chunk: int, records: Sequence[Record]) -> None:
        """Keeps the records of a chunk.

        Raises:
            OSError: if they cannot be written, on a full disk for example; nothing is left of the chunk then.
        """
        _write(self.path(chunk), "".join(json.dumps(record) + "\n" for record in records))

    def read(self, chunks: int) -> list[Record]:
        """All records of the first chunks, in their order.

        Args:
            chunks: number of chunks.

        Raises:
            RecordError: naming a file that is missing or broken.
        """
        records: list[Record] = []
        for chunk in range(chunks):
            path = self.path(chunk)
            try:
                records += [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            except (OSError, ValueError) as error:
                raise RecordError(f"{path}: broken ({error}); delete this file and run again, the others are kept") from None
        return records


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
