"""What a run has measured, on disk: a file per chunk of samples, whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class RecordError(ValueError):
    """Records on disk are broken, or belong to another run; the message names the file."""


class Records:
    """The records of one run under a folder; a run that was killed goes on where it was.

    A chunk is written beside its place and moved there, so that a kill at any moment leaves it whole or missing; a chunk
    that is there is not measured again.

    Args:
        folder: of the run.
        settings: all that decides the result; another run's folder is refused.

    Raises:
        RecordError: if the folder holds another run, or its settings cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records = Records(Path(folder), {"task": "none"})
    ...     records.write(0, [{"id": "a", "value": 1.0}])
    ...     records.has(0), records.has(1), records.read(1)
    (True, False, [{'id': 'a', 'value': 1.0}])
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder / "records"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = folder / "run.json"
        # What JSON makes of it is what it is compared with.
        settings = json.loads(json.dumps(settings))
        if file.exists():
            try:
                known = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise RecordError(f"{file}: it cannot be read ({error}); delete it and its folder to begin anew") from None
            if known != settings:
                changed = sorted(name for name in {*known, *settings} if known.get(name) != settings.get(name))
                raise RecordError(
                    f"{folder}: another run is there, with other {', '.join(changed)}; delete it, or choose another --out"
                )
        else:
            _write(file, json.dumps(settings, indent=2))

    def path(self, chunk: int) -> Path:
        """The file of a chunk."""
        return self.folder / f"chunk-{chunk:06d}.jsonl"

    def has(self, chunk: int) -> bool:
        """Whether a chunk has been measured."""
        return self.path(chunk).exists()

    def write(self, chunk: int, records: list[dict[str, Any]]) -> None:
        """Keeps the records of a chunk.

        Raises:
            OSError: if the disk is full, say; nothing is left then.
        """
        _write(self.path(chunk), "".join(json.dumps(record) + "\n" for record in records))

    def read(self, chunks: int) -> list[dict[str, Any]]:
        """All records of the first chunks, in their order.

        Raises:
            RecordError: naming a file that is missing or broken.
        """
        records: list[dict[str, Any]] = []
        for chunk in range(chunks):
            path = self.path(chunk)
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
                records += [json.loads(line) for line in lines]
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
