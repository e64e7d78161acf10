"""Which pictures are meant: names of files, folders and patterns made into a list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .images import FORMATS
from .quoting import quoted


def select(given: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files of pictures that are meant, each of them once, in the order in which they were named.

    Args:
        given: names of files; folders, of which all pictures are taken that lie in them directly, by the endings of their
            names; or patterns with ``*``, ``?`` and ``[...]``, in which ``**`` stands for any number of folders.

    Returns:
        At least one path, as it was named. Pictures of a folder or a pattern are sorted by their names. Whether a file can
        be read is not known yet.

    Raises:
        FileNotFoundError: if there is no such file, folder, or file of a pattern.
        ValueError: if there are no pictures in a folder, or nothing was given.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.jpg", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [one.name for one in select([Path(folder, "b.png"), folder])]
    ['b.png', 'a.jpg']
    """
    found: dict[str, Path] = {}
    for one in given:
        for path in _meant(os.fspath(one)):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise ValueError("path: expected at least one picture, got none")
    return list(found.values())


def is_several(given: str | os.PathLike[str]) -> bool:
    """Whether a name stands for any number of pictures: a folder, or a pattern that is not the name of a file."""
    return os.path.isdir(given) or (glob.has_magic(os.fspath(given)) and not os.path.lexists(given))


def looks_like_pictures(given: str) -> bool:
    """Whether somebody who names this means files: it is one, or a name or pattern that ends as those of pictures do.

    >>> looks_like_pictures("a.jpg"), looks_like_pictures("shots/*.png"), looks_like_pictures("is this a dog?")
    (True, True, False)
    """
    return os.path.isfile(given) or given.lower().endswith(endings())


def endings() -> tuple[str, ...]:
    """How the names of files end that can be read, in small letters, with the dot."""
    return tuple(ending for ending, kind in Image.registered_extensions().items() if kind in (*FORMATS, "MPO"))


def _meant(given: str) -> list[Path]:
    if os.path.isdir(given):
        return _in_folder(given)
    if is_several(given):
        files = [Path(one) for one in sorted(glob.glob(given, recursive=True)) if os.path.isfile(one)]
        pictures = [one for one in files if one.name.lower().endswith(endings())]
        if not pictures:
            raise FileNotFoundError(f"path: no picture matches {quoted(given)}")
        return pictures
    if not os.path.lexists(given):
        raise FileNotFoundError(f"path: there is no file {quoted(given)}")
    return [Path(given)]


def _in_folder(folder: str) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(one.name for one in entries if one.is_file() and not one.name.startswith("."))
    pictures = [Path(folder, name) for name in names if name.lower().endswith(endings())]
    if not pictures:
        further = os.path.join(folder, "**", "*.jpg")
        raise ValueError(
            f"path: no pictures ({', '.join(FORMATS)}) lie in the folder {quoted(folder)}; a pattern finds those in its"
            f" folders, {quoted(further)} for instance"
        )
    return pictures
