"""Pictures: files made into the input of a model."""

from __future__ import annotations

import io
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from .arguments import check_number, one_of
from .maps import Frame, nearest_multiple
from .notices import notice
from .quoting import line, quoted

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SCANS",
    "MAX_TOKENS",
    "USUAL_TOKENS",
    "Picture",
    "decoded",
    "prepare",
    "read",
    "to_rgb",
]

Resize = Literal["keep", "squash", "crop"]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "AVIF")
"""The formats of files that are decoded, AVIF where Pillow has it. Pillow knows some forty more; one of them makes it start
another program, and few of the others are ever tried on broken files."""
MAX_BYTES = 2**29
"""The largest file that is opened, since some decoders read all of it before they tell the size of the picture."""
MAX_PIXELS = 50_000_000
"""The largest picture that is decoded: a photograph of 50 megapixels, whose explanation takes about three gigabytes."""
MAX_ASPECT = 100
"""How many times as long as wide a picture may be, since it is resized by its shorter side and drawn in panels."""
MAX_SCANS = 100
"""The most passes over the picture that a progressive JPEG may make. Encoders make about ten; one more takes some bytes in
the file and, in a large picture, much time."""
MAX_TOKENS = 32768
"""The most patches that an input may have which was prepared elsewhere."""
USUAL_TOKENS = 4096
"""The most patches that a picture is made into unless more are asked for: a square of 64 x 64 patches."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by the orientation that its EXIF data state."""


_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""What begins a part of a JPEG that states its length; the others lie inside of a pass, or are the first of the file."""


@dataclass(frozen=True)
class Picture:
    """A picture as people see it, together with the input that a model sees of it.

    Attributes:
        image: the picture, RGB and upright.
        pixels: the model's input, normalized, ``(1, C, H, W)``.
        frame: where that input lies in the picture.
        patch: side of the model's patches in pixels of the input, ``None`` (the default) if it is not known.
        preprocessing: how the input was made, in words and numbers; empty (the default) where that is not known.

    >>> model_input = dict(size=(32, 32), patch=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> picture = prepare(Image.new("RGB", (64, 48), "white"), resize="crop", **model_input)
    >>> picture.pixels.shape, picture.frame.box  # the input shows the center of the picture
    (torch.Size([1, 3, 32, 32]), (8.0, 0.0, 56.0, 48.0))
    """

    image: Image.Image
    pixels: Tensor
    frame: Frame
    patch: int | None = None
    preprocessing: Mapping[str, object] = field(default_factory=dict)

    def frame_of(self, maps: Tensor) -> Frame:
        """Where maps ``(..., h, w)`` of the input lie in the picture.

        Those on the patch grid lie where the patches do, which leave out a rest of an input that is no multiple of the
        patch, or, where the model pads, go beyond it. All others lie where the input does.

        >>> picture = Picture(Image.new("RGB", (70, 64)), torch.zeros(1, 3, 64, 70), Frame.whole((70, 64)), patch=16)
        >>> picture.frame_of(torch.zeros(4, 5)).box, picture.frame_of(torch.zeros(64, 70)).box
        ((0.0, 0.0, 80.0, 64.0), (0.0, 0.0, 70.0, 64.0))
        """
        (height, width), (rows, columns) = self.pixels.shape[-2:], maps.shape[-2:]
        down, right = rows * (self.patch or 0), columns * (self.patch or 0)
        if max(abs(down - height), abs(right - width)) >= (self.patch or 1):
            return self.frame
        return self.frame.part((right / width, down / height))


def read(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads a picture file of one of :data:`FORMATS`; of an animation or of several pages, the first picture.

    Args:
        path: the file.
        max_pixels: the largest picture that is decoded (default :data:`MAX_PIXELS`).

    Returns:
        The picture as RGB, see :func:`to_rgb`, turned upright if its EXIF data say so.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file (a folder, a pipe, a device), if the file is no picture or is cut off or broken, or if
            the picture is larger than ``max_pixels`` or longer than :data:`MAX_ASPECT` allow; nothing is decoded then.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (3, 2), 255).save(f"{folder}/gray.png")
    ...     image = read(f"{folder}/gray.png")
    >>> image.mode, image.size, image.getpixel((0, 0))
    ('RGB', (3, 2), (255, 255, 255))
    """
    image = decode(path, max_pixels)
    try:
        return to_rgb(upright(image))
    except ValueError as error:
        raise ValueError(f"path: {quoted(path)} cannot be used: {_line(error)}") from None


def checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in 64 hexadecimal digits; what :func:`read` refuses unseen is refused here as well.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no file, or too large.
    """
    digest = sha256()
    try:
        with _opened(path) as file:
            while block := file.read(2**20):
                digest.update(block)
    except FileNotFoundError:
        raise FileNotFoundError(f"path: there is no file {quoted(path)}") from None
    except ValueError as error:
        raise ValueError(f"path: {quoted(path)} cannot be read: {_line(error)}") from None
    return digest.hexdigest()


def decode(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a picture file, and leaves mode and orientation as the file has them: what masks are read by.

    Args:
        path: the file.
        max_pixels: as for :func:`read`.

    Returns:
        The picture, in memory.

    Raises:
        FileNotFoundError: as :func:`read` does.
        ValueError: likewise.
    """
    path = os.fspath(path)
    Image.init()
    known = [one for one in FORMATS if one in Image.OPEN]
    try:
        with _opened(path) as file:
            _check_scans(file)
            with Image.open(file, formats=known) as image:
                return decoded(image, max_pixels)
    except FileNotFoundError:
        raise FileNotFoundError(f"path: there is no file {quoted(path)}") from None
    except UnidentifiedImageError:
        raise ValueError(f"path: {quoted(path)} is not a picture that can be read ({', '.join(known)})") from None
    except Image.DecompressionBombError:
        raise ValueError(f"path: {quoted(path)} cannot be read: it has more than {MAX_PIXELS:,} pixels; shrink it") from None
    except Exception as error:  # decoders raise nearly anything on a broken file
        raise ValueError(f"path: {quoted(path)} cannot be read: {_line(error)}") from None


def from_bytes(content: bytes) -> Image.Image:
    """The picture in the content of a file, as :func:`read` reads it.

    Args:
        content: what a file of one of :data:`FORMATS` holds.

    Returns:
        The picture as RGB, upright.

    Raises:
        ValueError: as :func:`read` does.

    >>> file = io.BytesIO()
    >>> Image.new("L", (3, 2)).save(file, "png")
    >>> from_bytes(file.getvalue()).size
    (3, 2)
    """
    Image.init()
    file = io.BytesIO(content)
    try:
        _check_scans(file)
        with Image.open(file, formats=[one for one in FORMATS if one in Image.OPEN]) as image:
            return to_rgb(upright(decoded(image)))
    except Exception as error:  # decoders raise nearly anything on a broken file
        raise ValueError(f"image: it cannot be read: {_line(error)}") from None


def decoded(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The same picture with its pixels in memory, after its size was found to be within bounds.

    Args:
        image: a picture that may come from a file which is not decoded yet.
        max_pixels: as for :func:`read`.

    Returns:
        The picture itself.

    Raises:
        ValueError: if it comes from a file of another format than :data:`FORMATS`, if the file is cut off or broken, or if
            the picture is larger than ``max_pixels`` or longer than :data:`MAX_ASPECT` allow.

    >>> decoded(Image.new("1", (100_000, 100)))
    Traceback (most recent call last):
    ValueError: image: 100000 x 100 pixels are more than 100 times as long as wide; cut or resize the picture first
    """
    width, height = image.size
    # Pillow decodes a file when its pixels are first asked for, and what it then does depends on the format. MPO is a JPEG
    # with further pictures behind it.
    if isinstance(image, ImageFile.ImageFile) and image.format not in (*FORMATS, "MPO"):
        raise ValueError(
            f"image: a file of the format {image.format} is not decoded here, only {', '.join(FORMATS)}; if you trust it,"
            " give image.convert('RGB')"
        )
    if width * height > max_pixels:
        raise ValueError(f"image: {width} x {height} pixels are more than {max_pixels:,}; shrink the picture first")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(
            f"image: {width} x {height} pixels are more than {MAX_ASPECT} times as long as wide; cut or resize the picture"
            " first"
        )
    try:
        image.load()
    except Exception as error:
        raise ValueError(f"image: it may be cut off or broken: {_line(error)}") from None
    return image


def upright(image: Image.Image) -> Image.Image:
    """The picture turned or mirrored as its EXIF data say; the same object if they say nothing that can be understood.

    Args:
        image: a picture of any mode.
    """
    turn = orientation(image)
    if turn == 1:
        return image
    turned = image.transpose(_TURNS[turn])
    for name in ("exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp"):
        turned.info.pop(name, None)  # or it would be turned again by whoever reads them
    return turned


def orientation(image: Image.Image) -> int:
    """The orientation that a picture's EXIF data state, from 1 to 8; 1 (upright) where they state none.

    Args:
        image: a picture of any mode.
    """
    try:
        stated = image.getexif().get(0x0112, 1)
        return int(stated) if stated in _TURNS else 1
    except Exception:  # broken EXIF data say nothing about a picture that could be decoded
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts a picture of any mode to RGB, as people would see it.

    ``Image.convert`` alone would turn 16-bit grays white, and would show the colors that lie under transparent pixels. Here
    16 bits are scaled to 8, and transparent pixels are laid on white.

    Args:
        image: a picture of any mode.

    Returns:
        The picture as RGB, of the same size; the picture itself if it is that already.

    Raises:
        ValueError: if a pixel of a floating-point picture is not finite, if the mode has no colors that could be shown, or
            if the picture is refused by :func:`decoded`.

    >>> to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    image = decoded(image)
    try:
        if image.mode.startswith("I;16") or image.mode in ("I", "F"):
            image = _to_bytes(image)
        if "transparency" in image.info or {"A", "a"} & set(image.getbands()):
            image = image.convert("LA") if image.mode == "La" else image
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        # What comes from a file can do more than a picture should, so that it is made anew.
        return image if image.mode == "RGB" and type(image) is Image.Image else image.convert("RGB")
    except (TypeError, ValueError, OSError) as error:
        said = str(error)
        raise ValueError(said if said.startswith("image: ") else f"image: mode {image.mode} is not shown: {said}") from None


def _to_bytes(image: Image.Image) -> Image.Image:
    """Grays of 16 or 32 bits as 8 bits."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("image: expected finite pixels, got NaN or infinite ones; repair the picture first")
    most = values.max(initial=0)
    # Nothing in the file states the range: floating point is taken for 0 to 1 or 0 to 255, integers for 8 or 16 bits.
    scale = 255.0 if image.mode == "F" and most <= 1 else 1.0 if most <= 255 and image.mode in "IF" else 255 / 65535
    return Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file of bounded size, opened for reading; anything but a file is refused without waiting for it."""
    _check_kind(os.stat(path))
    # The flags hold for what may have come into the file's place by now: a pipe is not waited for, a terminal not taken.
    flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
    descriptor = os.open(path, sum(flags, os.O_RDONLY))
    with open(descriptor, "rb") as file:
        _check_kind(os.fstat(descriptor))
        yield file


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, a socket or a device"
        raise ValueError(f"it is no file but a {kind}")
    if status.st_size > MAX_BYTES:
        raise ValueError(f"the file has {status.st_size:,} bytes, more than {MAX_BYTES:,}")


def _check_scans(file: BinaryIO) -> None:
    """Counts the passes of a JPEG, up to the end of its first picture; any other file is left alone."""
    if file.read(2) == b"\xff\xd8":
        content, scans, place = file.read(), 0, 0
        while (found := _MARKER.search(content, place)) and found[0] != b"\xff\xd9":
            scans += found[0] == b"\xff\xda"
            if scans > MAX_SCANS:
                raise ValueError(f"it is a JPEG of more than {MAX_SCANS} passes; save it anew with fewer")
            place = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    file.seek(0)


def _line(error: Exception) -> str:
    """The first line of what a decoder says, which may be nothing."""
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    said = text.removeprefix("image: ").strip().splitlines()
    return line(said[0], 200) if said else type(error).__name__


def prepare(
    image: Image.Image,
    *,
    size: tuple[int, int],
    patch: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    resize: Resize | int = "keep",
    scale: float = 1.0,
    max_tokens: int | None = None,
    interpolation: str = "bicubic",
) -> Picture:
    """Makes a picture into the input of a model.

    Args:
        image: a picture of any mode.
        size: native height and width of the model in pixels.
        patch: side of the model's patches in pixels.
        mean: mean of the model's normalization, one number per channel, in a color range of 0 to 1. A model with one channel
            gets the gray values of the picture.
        std: standard deviation of the model's normalization, one number above 0 per channel.
        resize: ``"keep"`` (the default) keeps size and aspect up to the nearest multiples of the patch, as the Grad-ECLIP
            paper does; a number is the longer side in pixels, to which the picture is resized first; ``"squash"`` resizes to
            the native size; ``"crop"`` resizes the short side to the native size and cuts out the center.
        scale: factor above 0 by which both sides are multiplied first, for ``"keep"`` and a number only (default 1).
        max_tokens: the largest number of patches that ``"keep"`` and a number may give, since the time and the memory of
            attention grow with its square. With ``None`` (default), a picture that gives more than :data:`USUAL_TOKENS` is
            shrunk until it does not, and a notice says so.
        interpolation: how the picture is resized, by a name of Pillow in small letters (default ``"bicubic"``).

    Returns:
        The picture as RGB, the model's input, and the frame that says where that input lies in the picture.

    Raises:
        ValueError: if ``resize`` or ``interpolation`` is unknown, ``mean`` has neither one nor three numbers, ``scale`` or
            ``max_tokens`` is not positive, the picture is refused by :func:`decoded`, is smaller than a patch, or gives more
            patches than ``max_tokens``.

    >>> picture = prepare(Image.new("RGB", (640, 478)), size=(224, 224), patch=16, mean=(0,) * 3, std=(1,) * 3)
    >>> picture.pixels.shape, picture.frame.box
    (torch.Size([1, 3, 480, 640]), (0.0, 0.0, 640.0, 478.0))
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale: expected a positive factor, got {scale}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens: expected at least 1, got {max_tokens}")
    if isinstance(resize, int):
        check_number("resize", resize, whole=True, least=1)
    else:
        one_of("resize", resize, Resize)
    resample = _resampling(interpolation)
    if len(mean) not in (1, 3):
        raise ValueError(
            f"mean: a picture becomes an input of one channel or of three, but this model takes {len(mean)}; prepare a"
            f" tensor ({len(mean)}, H, W) for it"
        )
    image = to_rgb(image)
    native = size[1], size[0]
    if resize in ("squash", "crop"):
        target = native
        frame = Frame.whole(image.size) if resize == "squash" else Frame.crop(image.size, native[0] / native[1])
    else:
        target = _kept(image.size, patch, scale * (resize / max(image.size) if isinstance(resize, int) else 1), max_tokens)
        frame = Frame.whole(image.size)
    colors = image if len(mean) == 3 else image.convert("L")
    resized = np.array(colors.resize(target, resample, box=frame.box))
    pixels = torch.from_numpy(resized.reshape(*resized.shape[:2], len(mean))).permute(2, 0, 1)[None].float() / 255
    pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    told = {"resize": resize, "interpolation": interpolation, "mean": list(mean), "std": list(std)}
    return Picture(image, pixels, frame, patch, told)


def _resampling(name: str) -> Image.Resampling:
    try:
        return Image.Resampling[name.upper()]
    except KeyError:
        known = ", ".join(one.name.lower() for one in Image.Resampling)
        raise ValueError(f"interpolation: expected one of {known}, got {quoted(name)}") from None


def _kept(size: tuple[int, int], patch: int, scale: float, max_tokens: int | None) -> tuple[int, int]:
    """Width and height of the input of a picture whose aspect is kept, of as many patches as are allowed."""
    width, height = size
    if min(size) < 1 or min(size) * scale < patch:
        raise ValueError(
            f"image: {width} x {height} pixels (times {scale:g}) is smaller than a patch of {patch}; use resize='squash' or"
            " a larger picture"
        )
    most = USUAL_TOKENS if max_tokens is None else max_tokens
    tokens = _tokens(size, patch, scale)
    if tokens > most:
        fit = _fitting(size, patch, scale, most)
        if max_tokens is not None:
            raise ValueError(
                f"image: {width} x {height} pixels give {tokens:,} patches of {patch}, more than max_tokens={max_tokens};"
                f" shrink it (scale={fit:g} fits), use resize='squash' or resize='crop', or allow more"
            )
        shrunk = [nearest_multiple(side * fit, patch) for side in size]
        notice(
            f"max_tokens: {width} x {height} pixels give {tokens:,} patches of {patch}; the picture was shrunk to"
            f" {shrunk[0]} x {shrunk[1]} pixels for at most {most:,} patches, the default; max_tokens={tokens} takes all"
        )
        scale = fit
    return nearest_multiple(width * scale, patch), nearest_multiple(height * scale, patch)


def _tokens(size: tuple[int, int], patch: int, scale: float) -> int:
    return math.prod(nearest_multiple(side * scale, patch) // patch for side in size)


def _fitting(size: tuple[int, int], patch: int, scale: float, most: int) -> float:
    """The largest scale, up to a hundredth of it, at which a picture gives no more patches than that."""
    low, high = 0.0, scale
    while high - low > 0.01 * high and high > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _tokens(size, patch, middle) <= most else (low, middle)
    return math.floor(1000 * low) / 1000 if low > 0.01 else low
