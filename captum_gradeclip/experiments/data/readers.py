"""Readers of the files that data sets consist of; each of their errors names the file or the argument."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ... import images
from .base import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def fingerprint(root: Path, files: int, *content: object) -> dict[str, object]:
    """What distinguishes a data set on disk from another one.

    Args:
        root: folder of the data set.
        files: number of its pictures.
        content: everything else that decides its samples; kept as a hash of its ``repr``.

    Returns:
        The absolute path, the number of files, and 16 hexadecimal digits.
    """
    return {"root": str(root.resolve()), "files": files, "content": sha256(repr(content).encode()).hexdigest()[:16]}


def needed(path: Path | None, argument: str, data: str) -> Path:
    """A path that a data set cannot do without.

    Args:
        path: what was given; ``None`` for nothing.
        argument: name of the argument.
        data: name of the data set.

    Raises:
        DataError: if nothing was given.
    """
    if path is None:
        raise DataError(f"{argument}: the data set {data!r} needs it, got nothing")
    return path


def folder(path: Path) -> Path:
    """The same path, if it is a folder.

    Raises:
        DataError: otherwise.
    """
    if not path.is_dir():
        raise DataError(f"root: {str(path)!r} is not a folder")
    return path


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted.

    Raises:
        DataError: if ``path`` is not a folder.
    """
    return sorted(one.name for one in folder(path).iterdir() if one.is_dir())


def pictures(path: Path) -> Iterator[Path]:
    """The picture files in a folder, sorted, told by their suffix."""
    return (file for file in sorted(path.iterdir()) if file.suffix.lower() in _SUFFIXES)


def read_picture(file: Path) -> Image.Image:
    """A picture as RGB.

    Raises:
        DataError: if it is missing or broken.
    """
    try:
        return images.read(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from None


def read_mask(file: Path) -> npt.NDArray[np.int64]:
    """The values of a mask's pixels, ``(H, W)`` or ``(H, W, channels)``.

    Raises:
        DataError: if the file is missing or broken.
    """
    try:
        with Image.open(file) as picture:
            return np.asarray(picture).astype(np.int64)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file}: the mask cannot be read: {error}") from None


def read_json(file: Path) -> object:
    """The content of a JSON file.

    Raises:
        DataError: if the file is missing or not JSON.
    """
    text = _read_text(file)
    try:
        content: object = json.loads(text)
    except ValueError as error:
        raise DataError(f"{file}: it is no JSON, it may be cut off: {error}") from None
    return content


def read_class_names(folders: Sequence[str], file: Path | None) -> list[str]:
    """The names of classes, in the order of their indices.

    Args:
        folders: sorted names of the folders of classes; empty where the data set has no such folders.
        file: text file with one name per line, or a JSON list of names, one for each folder. By default the folders' own
            names with spaces in the place of underscores, or those of OpenAI's classifier if the folders are the 1000
            classes of ImageNet.

    Raises:
        DataError: for a file that is broken or holds another number of names, and without one for folders that are named
            by WordNet's numbers.
    """
    if file is None:
        if len(folders) == 1000 and all(one.startswith(("n0", "n1")) for one in folders):
            from open_clip import IMAGENET_CLASSNAMES

            return list(IMAGENET_CLASSNAMES)
        ids = [one for one in folders if re.fullmatch(r"n\d{8}", one)]
        if ids:
            raise DataError(f"class_names: folders such as {ids[0]!r} are no names to ask for; give a file of names")
        return [one.replace("_", " ") for one in folders]
    content = read_json(file) if file.suffix == ".json" else [line.strip() for line in _read_text(file).splitlines()]
    if not isinstance(content, list) or not any(content) or not all(isinstance(one, str) for one in content):
        raise DataError(f"{file}: expected one name per line, or a JSON list of names")
    names = content if file.suffix == ".json" else [name for name in content if name]
    if folders and len(names) != len(folders):
        raise DataError(f"{file}: {len(names)} names for {len(folders)} folders of classes")
    return names


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
