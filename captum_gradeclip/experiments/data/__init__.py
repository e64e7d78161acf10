"""Data sets as numbered samples: a file each, and :data:`DATASETS`, which lists them by name."""

from __future__ import annotations

from collections.abc import Mapping

from ...quoting import quoted
from .base import IGNORE, NOTHING, PHOTO, DataArguments, DataError, Dataset, DeclaredDataset, LeftOutError, Sample
from .caption_rows import CaptionRows
from .class_folders import ClassFolders
from .clevr import Clevr
from .coco_captions import CocoCaptions
from .imagenet_s import MERGED, ImageNetS
from .index_masks import IndexMasks
from .region import Region
from .region_rows import RegionRows
from .scene_regions import SceneRegions
from .scene_triples import SceneTriples
from .scenes import Scenes
from .subset import Subset
from .triple import Triple
from .triple_rows import TripleRows

__all__ = [
    "DATASETS",
    "IGNORE",
    "MERGED",
    "NOTHING",
    "PHOTO",
    "CaptionRows",
    "ClassFolders",
    "Clevr",
    "CocoCaptions",
    "DataArguments",
    "DataError",
    "Dataset",
    "DeclaredDataset",
    "ImageNetS",
    "IndexMasks",
    "LeftOutError",
    "Region",
    "RegionRows",
    "Sample",
    "SceneRegions",
    "SceneTriples",
    "Scenes",
    "Subset",
    "Triple",
    "TripleRows",
    "make_dataset",
]

_KINDS: tuple[type[DeclaredDataset], ...] = (Scenes, ClassFolders, ImageNetS, CocoCaptions, IndexMasks)
_MOST = 10**8  # samples that a run can keep account of
DATASETS: dict[str, type[DeclaredDataset]] = {kind.name: kind for kind in _KINDS}
"""The data sets that can be made by their name, each with its ``summary`` and the arguments that it ``takes``."""


def make_dataset(name: str, arguments: DataArguments, known: Mapping[str, type[DeclaredDataset]] | None = None) -> Dataset:
    """The data set of a name.

    Args:
        name: a key of ``known``.
        arguments: what is said about it; the data set reads those that it declares in ``takes``. With ``samples``, it ends
            after so many.
        known: the data sets by name; ``None`` (default) for :data:`DATASETS`.

    Returns:
        The data set; of more samples than were asked for, the first.

    Raises:
        DataError: for an unknown name, a missing argument, or one that does not fit. A message about an argument begins
            with the argument's name and a colon.

    >>> len(make_dataset("scenes", DataArguments(samples=3)))
    3
    """
    kinds = DATASETS if known is None else known
    if name not in kinds:
        raise DataError(f"data: expected one of {', '.join(kinds)}, got {quoted(name)}")
    for argument, given, least in (
        ("samples", arguments.samples, 1),
        ("seed", arguments.seed, 0),
        ("mask_offset", arguments.mask_offset, 0),
    ):
        if given is not None and given < least:
            raise DataError(f"{argument}: expected at least {least}, got {given}")
    if arguments.samples is not None and arguments.samples > _MOST:
        raise DataError(f"samples: expected at most {_MOST}, got more")
    data = kinds[name].from_arguments(arguments)
    count = arguments.samples
    return data if count is None or len(data) <= count else Subset(data, count)
