"""Pictures: files made into the input of a model."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .maps import Frame, nearest_multiple

Resize = Literal["keep", "squash", "crop"]


@dataclass(frozen=True)
class Picture:
    """A picture as people see it, together with the input that a model sees of it.

    Attributes:
        image: the picture, RGB and upright.
        pixels: the model's input, normalized, ``(1, 3, H, W)``.
        frame: where that input lies in the picture.
    """

    image: Image.Image
    pixels: Tensor
    frame: Frame


def read(path: str | os.PathLike[str]) -> Image.Image:
    """Reads a picture file of any format that Pillow knows (PNG, JPEG, WebP, ...).

    Args:
        path: the file.

    Returns:
        The picture as RGB, see :func:`to_rgb`, turned upright if its EXIF data say so.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no picture, or is cut off or broken.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"path: there is no file {os.fspath(path)!r}")
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError:
        raise ValueError(f"path: {os.fspath(path)!r} is not a picture that can be read (PNG, JPEG, WebP, ...)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"path: {os.fspath(path)!r} cannot be read, it may be cut off or broken: {error}") from None
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts a picture of any mode to RGB, as people would see it.

    ``Image.convert`` alone would turn 16-bit grays white, and would show the colors that lie under transparent pixels. Here
    16 bits are scaled to 8, and transparent pixels are laid on white.

    Args:
        image: a picture of any mode.

    Returns:
        The picture as RGB, of the same size.

    Raises:
        ValueError: if a pixel of a floating-point picture is not finite.

    >>> to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("image: expected finite pixels, got NaN or infinite ones; repair the picture first")
        most = values.max(initial=0)
        # Nothing in the file states the range: floating point is taken for 0 to 1 or 0 to 255, integers for 8 or 16 bits.
        scale = 255.0 if image.mode == "F" and most <= 1 else 1.0 if most <= 255 and image.mode in "IF" else 255 / 65535
        image = Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def prepare(
    image: Image.Image,
    *,
    size: tuple[int, int],
    patch: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    resize: Resize = "keep",
    scale: float = 1.0,
    max_tokens: int = 8192,
) -> Picture:
    """Makes a picture into the input of a model.

    Args:
        image: a picture of any mode.
        size: native height and width of the model in pixels.
        patch: side of the model's patches in pixels.
        mean: mean of the model's normalization, one number per channel, in a color range of 0 to 1.
        std: standard deviation of the model's normalization, one number above 0 per channel.
        resize: ``"keep"`` (the default) keeps size and aspect up to the nearest multiples of the patch, as the Grad-ECLIP
            paper does; ``"squash"`` resizes to the native size; ``"crop"`` resizes the short side to the native size and
            cuts out the center, as CLIP's own preprocessing does.
        scale: factor above 0 by which both sides are multiplied first, for ``"keep"`` only (default 1).
        max_tokens: the largest number of patches that ``"keep"`` may give (default 8192), since the time and the memory of
            attention grow with its square.

    Returns:
        The picture as RGB, the model's input, and the frame that says where that input lies in the picture.

    Raises:
        ValueError: if ``resize`` is unknown, ``scale`` is not positive, the picture is smaller than a patch, or it gives
            more patches than ``max_tokens``.

    >>> picture = prepare(Image.new("RGB", (640, 478)), size=(224, 224), patch=16, mean=(0,) * 3, std=(1,) * 3)
    >>> picture.pixels.shape, picture.frame.box
    (torch.Size([1, 3, 480, 640]), (0.0, 0.0, 640.0, 478.0))
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale: expected a positive factor, got {scale}")
    if resize not in get_args(Resize):
        raise ValueError(f"resize: expected one of {get_args(Resize)}, got {resize!r}")
    image = to_rgb(image)
    width, height = image.size
    native = size[1], size[0]
    if min(width, height) < 1 or (resize == "keep" and min(width, height) * scale < patch):
        raise ValueError(
            f"image: {width} x {height} pixels (times {scale:g}) is smaller than a patch of {patch};"
            " use resize='squash' or a larger picture"
        )
    if resize == "keep":
        target = nearest_multiple(width * scale, patch), nearest_multiple(height * scale, patch)
        frame = Frame.whole(image.size)
        tokens = target[0] // patch * (target[1] // patch)
        if tokens > max_tokens:
            fit = math.floor(100 * scale * (max_tokens / tokens) ** 0.5) / 100
            while math.prod(nearest_multiple(side * fit, patch) // patch for side in image.size) > max_tokens and fit > 0.01:
                fit -= 0.01
            raise ValueError(
                f"image: {width} x {height} pixels give {tokens} patches of {patch}, more than max_tokens = {max_tokens};"
                f" shrink it (scale = {fit:.2f} fits), use resize='squash' or 'crop', or allow more"
            )
    else:
        target = native
        frame = Frame.whole(image.size) if resize == "squash" else Frame.crop(image.size, native[0] / native[1])
    resized = image.resize(target, Image.Resampling.BICUBIC, box=frame.box)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
    pixels = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return Picture(image, pixels, frame)
