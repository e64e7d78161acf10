"""Regions: a picture whose parts have the colors of the words that they go with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from ..arguments import check_tensor
from .fonts import break_lines, height, lettering, width
from .page import GRAY, Drawing, Page, own_settings
from .strip import bounded
from .style import Style

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#B8860B", "#7B3294", "#56B4E9", "#8C510A")
"""Colors that readers with any kind of color vision tell apart (Okabe and Ito), dark enough for letters on white."""
_LOW = 0.4
"""The share of a map's highest value below which nothing is colored."""
_SIZE, _BETWEEN = 13.0, 0.09  # points of the letters, inches between words


def regions(
    image: Image.Image,
    maps: Tensor,
    caption: Sequence[str],
    chosen: Sequence[int],
    *,
    style: Style | None = None,
) -> Drawing:
    """Draws a caption with colored words under a picture in which each word's region has the word's color.

    Each map is divided by its own highest value. A pixel has the color of the word whose map is highest there, all the
    stronger the higher it is, and keeps its gray where no map reaches two fifths of its highest value.

    Args:
        image: the picture, of any mode.
        maps: the maps of K words in pixels of the picture ``(K, height, width)``, see
            :func:`captum_gradeclip.maps.to_pixels`; what counts against a word is left out.
        caption: the words of the caption.
        chosen: the places in the caption, from 0, of the K words that the maps belong to, up to eight.
        style: the width (default: 100 millimeters) and the dots per inch are those of the figure.

    Returns:
        A figure with two axes, the picture and its caption.

    Raises:
        TypeError: for anything but a tensor.
        ValueError: if maps and picture differ in size, or there is not one map for each of one to eight words.

    >>> maps = torch.eye(2)[..., None].expand(2, 2, 3)
    >>> len(regions(Image.new("RGB", (3, 2)), maps, ["a", "dog", "and", "a", "cat"], [1, 4]).axes)
    2
    """
    check_tensor("maps", maps, "(K, height, width)", kind="floats")
    if tuple(maps.shape[1:]) != (image.height, image.width):
        raise ValueError(
            f"maps: expected the picture's height and width {image.height} x {image.width}, got {tuple(maps.shape[1:])};"
            " bring them there with maps.to_pixels"
        )
    if not 1 <= len(chosen) == len(maps) <= len(COLORS) or not all(0 <= place < len(caption) for place in chosen):
        raise ValueError(
            f"chosen: expected the places of one to {len(COLORS)} of the caption's {len(caption)} words, one for each of the"
            f" {len(maps)} maps, got {list(chosen)}"
        )
    look = style or Style()
    with own_settings():
        page = Page(look.room or 3.9)
        colored = _colored(image, maps)
        tall = page.width * min(bounded(image), 2.0)

        def show(axis: Axes) -> None:
            axis.imshow(colored, aspect="auto")

        page.axes(0.0, 0.0, page.width, tall, show, panel=True)
        below = tall + 0.08
        rows = break_lines(list(caption), _SIZE, page.width, between=_BETWEEN)
        step = height(1, _SIZE) + 0.04
        colors = dict(zip(chosen, COLORS))

        def write(axis: Axes) -> None:
            axis.set(xlim=(0, page.width), ylim=(step * len(rows), 0))
            for number, row in enumerate(rows):
                left = 0.0
                for place in row:
                    text = axis.text(left, (number + 0.75) * step, caption[place], color=colors.get(place, GRAY))
                    text.update(lettering(caption[place], _SIZE))
                    if place in colors:
                        text.set_fontweight("bold")
                    left += width(caption[place], _SIZE) * (1.08 if place in colors else 1.0) + _BETWEEN

        page.axes(0.0, below, page.width, step * len(rows), write)
        return page.drawing(below + step * len(rows), look.dpi)


def _colored(image: Image.Image, maps: Tensor) -> Image.Image:
    """The picture in grays, under the colors of the words."""
    positive = maps.detach().float().cpu().nan_to_num().clamp(min=0)
    shares = positive / positive.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    highest, which = shares.max(dim=0)
    opacity = (((highest - _LOW) / (1 - _LOW)).clamp(min=0) ** 0.5 * 0.8)[..., None].numpy()
    palette = np.array([[int(one[k : k + 2], 16) for k in (1, 3, 5)] for one in COLORS], dtype=np.float32)
    gray = np.array(image.convert("L"), dtype=np.float32)[..., None] * 0.6 + 100
    mixed = gray * (1 - opacity) + palette[which.numpy()] * opacity
    return Image.fromarray(np.rint(mixed.clip(0, 255)).astype(np.uint8))
