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
from ...quoting import check_utf8, quoted
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
        raise DataError(f"{argument}: the data set {quoted(data)} needs it, got nothing")
    return path


def folder(path: Path) -> Path:
    """The same path, if it is a folder.

    Raises:
        DataError: otherwise.
    """
    if not path.is_dir():
        raise DataError(f"root: {quoted(path)} is not a folder")
    return path


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted.

    Raises:
        DataError: if ``path`` is not a folder.
        ValueError: for a name that is not UTF-8.
    """
    names = sorted(one.name for one in folder(path).iterdir() if one.is_dir())
    for name in names:
        check_utf8("root", name)
    return names


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


def read_with_mask(file: Path, mask: Path) -> tuple[Image.Image, npt.NDArray[np.int64]]:
    """A picture as RGB, and the values of its mask's pixels, ``(H, W)`` or ``(H, W, channels)``; both upright.

    Args:
        file: the picture.
        mask: the file of its mask, whose pixels are whole numbers.

    Raises:
        DataError: if one of them is missing or broken, or if the EXIF data of one of them turn it and those of the other do
            not, since nobody knows then which of its pixels the mask means.
    """
    try:
        raw = images.decode(file)
        picture = images.to_rgb(images.upright(raw))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: {error}") from None
    try:
        values = images.decode(mask)
    except (OSError, ValueError) as error:
        raise DataError(f"{mask}: the mask cannot be read: {error}") from None
    if values.mode == "F":
        raise DataError(f"{mask}: expected whole numbers in a mask, got floating-point pixels")
    turns = images.orientation(raw), images.orientation(values)
    if turns[0] != turns[1]:
        raise DataError(
            f"{mask}: the EXIF data of its picture state the orientation {turns[0]}, those of the mask {turns[1]}; turn the"
            " picture as the mask has it, and remove its EXIF data"
        )
    return picture, np.asarray(images.upright(values)).astype(np.int64)


def read_json(file: Path) -> object:
    """The content of a JSON file.

    Raises:
        DataError: if the file is missing or not JSON.
    """
    text = read_text(file)
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
            raise DataError(f"class_names: folders such as {quoted(ids[0])} are no names to ask for; give a file of names")
        return [one.replace("_", " ") for one in folders]
    content = read_json(file) if file.suffix == ".json" else [line.strip() for line in read_text(file).splitlines()]
    if not isinstance(content, list) or not any(content) or not all(isinstance(one, str) for one in content):
        raise DataError(f"{file}: expected one name per line, or a JSON list of names")
    names = content if file.suffix == ".json" else [name for name in content if name]
    if folders and len(names) != len(folders):
        raise DataError(f"{file}: {len(names)} names for {len(folders)} folders of classes")
    return names


def read_text(file: Path) -> str:
    """The text in a file.

    Raises:
        DataError: if it is missing, no file, or not in UTF-8.
    """
    if file.exists() and not file.is_file():
        raise DataError(f"{file}: expected a file, got a folder, a pipe or a device")
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected text in UTF-8: {error}") from None
