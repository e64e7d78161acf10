"""Pictures with captions, numbered, as fine-tuning reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from .. import images, scenes
from ..experiments.data.base import DataError
from ..experiments.data.rows import read_rows
from ..scenes import SceneDataset
from ..scenes.world import Split


class Pair(NamedTuple):
    """A picture with a caption.

    Attributes:
        id: what it is called in the log.
        image: the picture, RGB.
        caption: the caption, at least one word.

    >>> pair = Pair("a.jpg", Image.new("RGB", (4, 4)), "a red circle")
    >>> pair.id, pair.caption
    ('a.jpg', 'a red circle')
    """

    id: str
    image: Image.Image
    caption: str


class Pairs(Protocol):
    """Numbered pairs. A picture that cannot be read, or an empty caption, raises ``OSError`` or ``ValueError``."""

    @property
    def about(self) -> Mapping[str, object]:
        """What distinguishes these pairs from others, as JSON can write it; it is kept beside a run."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


@dataclass(frozen=True)
class ScenePairs:
    """Scenes, each with a caption that is true of it.

    Args:
        length: number of scenes, at least 1.
        split: ``"train"`` (default), ``"validation"`` or ``"evaluation"``.
        seed: seed of scenes and captions (default 0).
        counts: numbers of things in a scene, drawn with equal chance (default 2, 3 or 4).
        size: side of the pictures in pixels (default 96).

    >>> ScenePairs(10)[0].caption
    'something pink'
    """

    length: int
    split: Split = "train"
    seed: int = 0
    counts: tuple[int, ...] = (2, 3, 4)
    size: int = 96

    @property
    def about(self) -> Mapping[str, object]:
        """All arguments."""
        return {"data": "scenes", **asdict(self), "counts": list(self.counts)}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Pair:
        data = SceneDataset(self.length, self.split, self.seed, self.size, self.counts)
        caption = scenes.sample_caption(data.scene(index), np.random.default_rng([self.seed, index]))
        return Pair(f"{self.split}-{self.seed}-{index:06d}", data[index].image, caption.text)


class TablePairs:
    r"""The rows of a CSV or TSV file, each a path and a caption, by open_clip's convention.

    Args:
        file: the file, in UTF-8, with the names of its columns in the first line.
        root: folder that relative paths begin in; ``None`` (default) for that of the file.
        path: name of the column of paths (default ``"path"``; open_clip's own default is ``"filepath"``).
        caption: name of the column of captions (default ``"caption"``; open_clip's is ``"title"``).

    Raises:
        DataError: for a file without these columns or without rows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (8, 8)).save(Path(folder, "a.png"))
    ...     _ = Path(folder, "pairs.tsv").write_text("path\tcaption\na.png\ta black square\n")
    ...     TablePairs(Path(folder, "pairs.tsv"))[0].caption
    'a black square'
    """

    def __init__(self, file: Path, root: Path | None = None, path: str = "path", caption: str = "caption") -> None:
        self.root = file.parent if root is None else root
        self.rows = read_rows(file, [path, caption])
        self.path, self.caption = path, caption
        self.about: Mapping[str, object] = {"data": "table", "file": str(file.resolve()), "rows": len(self.rows)}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Pair:
        row = self.rows[index]
        name = row.text(self.path)
        return Pair(name, images.read(self.root / name), row.text(self.caption))


__all__ = ["DataError", "Pair", "Pairs", "ScenePairs", "TablePairs"]
