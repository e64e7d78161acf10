"""The picture that a visitor gives: an uploaded file within the limits, or a scene by its seed."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from .. import scenes
from ..images import read
from ..quoting import line
from .limits import Limits

SIDE = 448
"""Height and width of a scene in pixels."""
_COUNTS = (2, 3, 4)


def uploaded(path: str | os.PathLike[str], limits: Limits, name: str | None = None) -> Image.Image:
    """Reads an uploaded file as :func:`captum_gradeclip.images.read` does, within narrower limits.

    Args:
        path: where the server has put it.
        limits: how large it may be.
        name: what the visitor calls it; ``None`` (default) for the name of the file. No message shows where it lies.

    Returns:
        The picture, RGB and upright.

    Raises:
        ValueError: if it is too large, or no picture that can be read.
    """
    path = Path(path)
    called = line(path.name if name is None else name, 60)
    size, most = path.stat().st_size, round(limits.megabytes * 2**20)
    if size > most:
        raise ValueError(
            f"picture: {called} has {size / 2**20:.1f} megabytes, more than the {limits.megabytes:g} that this page takes;"
            " make it smaller"
        )
    try:
        return read(path, round(limits.megapixels * 1e6))
    except (OSError, ValueError) as error:
        reason = line(str(error).removeprefix("path: ").replace(os.fspath(path), path.name), 300)
        raise ValueError(f"picture: {reason}; send a photo as JPEG, PNG or WebP") from None


def scene(seed: int) -> scenes.Scene:
    """The scene of a seed: two to four colored shapes, which the embedded model has not seen in training.

    Args:
        seed: 0 or more.
    """
    return scenes.sample_scene(seed, 0, "evaluation", counts=_COUNTS)


def scene_picture(seed: int) -> Image.Image:
    """The picture of a scene.

    Args:
        seed: as for :func:`scene`.

    >>> scene_picture(3).size
    (448, 448)
    """
    return scenes.draw(scene(seed), SIDE)[0]


def texts_about(seed: int) -> list[str]:
    """Texts about a scene to begin with: the names of its things, each once, and one of all of them.

    Args:
        seed: as for :func:`scene`.

    >>> texts_about(3)[-1].count(" and ") >= 1
    True
    """
    shown = scene(seed)
    names = [scenes.with_article(scenes.name(thing).text) for thing in shown.things]
    return list(dict.fromkeys([*names, scenes.name_all(shown).text]))
