"""Webdataset shards: pictures with captions in tar files, as large data sets come, of which any pair can be read."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import images
from ..experiments.data.base import DataError
from ..quoting import quoted
from .pairs import Pair

_PICTURES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "caption", "json")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
Place = tuple[int, int]
"""Offset and size of a file in its shard, in bytes."""


class ShardPairs:
    """The pairs of webdataset shards that lie on this machine: of each name a picture, and a text or JSON file.

    The shards are listed once, without reading the pictures. Then any pair can be read, so that their order can be drawn
    anew for each pass, and shared by several processes.

    Args:
        shards: paths of tar files without compression; ``{0000..0331}`` in a path stands for all these numbers.

    Raises:
        DataError: for a shard that is missing or no tar file, or shards without a picture.

    >>> expand("cc3m-{08..10}.tar")
    ['cc3m-08.tar', 'cc3m-09.tar', 'cc3m-10.tar']
    """

    def __init__(self, shards: str | Path | Sequence[str | Path]) -> None:
        given = [shards] if isinstance(shards, (str, Path)) else shards
        self.files = [Path(name) for one in given for name in expand(str(one))]
        self.places: list[tuple[int, str, Place, Place | None, bool]] = []
        for number, file in enumerate(self.files):
            try:
                self._list(number, file)
            except (OSError, tarfile.TarError) as error:
                raise DataError(
                    f"shards: {quoted(file)} cannot be read as a tar file without compression: {error}"
                ) from None
        if not self.places:
            raise DataError(f"shards: expected files {', '.join(_PICTURES)} in {quoted(self.files[0])}, got none")
        first = str(self.files[0].resolve())
        self.about: Mapping[str, object] = {
            "data": "shards",
            "first": first,
            "files": len(self.files),
            "pairs": len(self.places),
        }

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Pair:
        number, name, picture, text, is_json = self.places[index]
        if text is None:
            raise ValueError(f"{self.files[number]}: {name}: it has no caption, a file {', '.join(_TEXTS)} of its name")
        content = self._read(number, text).decode()
        caption = str(json.loads(content).get("caption", "")) if is_json else content
        if not caption.strip():
            raise ValueError(f"{self.files[number]}: {name}: its caption is empty")
        return Pair(name, images.from_bytes(self._read(number, picture)), caption.strip())

    def _list(self, number: int, file: Path) -> None:
        found: dict[str, dict[str, Place]] = {}
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, slash, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if member.isfile():
                    found.setdefault(folder + slash + stem, {})[suffix.lower()] = (member.offset_data, member.size)
        for name, files in found.items():
            picture = next((files[suffix] for suffix in _PICTURES if suffix in files), None)
            kind = next((suffix for suffix in _TEXTS if suffix in files), None)
            if picture is not None:
                self.places.append((number, name, picture, None if kind is None else files[kind], kind == "json"))

    def _read(self, number: int, place: Place) -> bytes:
        offset, size = place
        if size > images.MAX_BYTES:
            raise ValueError(f"{self.files[number]}: a file of {size:,} bytes is too large")
        with open(self.files[number], "rb") as file:
            file.seek(offset)
            return file.read(size)


def expand(pattern: str) -> list[str]:
    """The paths that a pattern with ranges of numbers stands for.

    Args:
        pattern: a path in which ``{08..10}`` stands for 08, 09 and 10; without any, it stands for itself.

    >>> expand("a-{1..2}/b-{08..09}.tar")
    ['a-1/b-08.tar', 'a-1/b-09.tar', 'a-2/b-08.tar', 'a-2/b-09.tar']
    """
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [one for number in numbers for one in expand(pattern[: found.start()] + number + pattern[found.end() :])]
