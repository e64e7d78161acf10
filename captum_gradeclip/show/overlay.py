"""The overlay: a picture under its map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ..arguments import check_number, check_tensor
from .scale import Scale, palette

ALPHA = 0.75
"""The weight of the colors where they are not transparent."""
VEIL = 200.0
"""The gray, from 0 to 255, of the veil over what the model did not see."""

_GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""The weights of red, green and blue in the gray of a picture, as Pillow has them."""
_BAND = 2**20
"""How many pixels are colored at once."""


def overlay(
    image: Image.Image,
    attribution: Tensor,
    *,
    alpha: float = ALPHA,
    cmap: str | None = None,
    scale: Scale | float | None = None,
) -> Image.Image:
    r"""Colors a picture by its map, at the picture's own size.

    Where little is attributed, the colors are transparent and the picture keeps its own, see
    :func:`captum_gradeclip.show.palette`; elsewhere they lie on its grays, so that a red thing does not look hot. Where the
    map is not finite, the model saw nothing, and the picture is gray and hatched.

    .. math:: y = (1 - o) \, x + o \, (a \, c + (1 - a) \, g)

    for a pixel x of the picture, its gray g, the color c and the opacity o of its value, and the weight a.

    Args:
        image: the picture, of any mode.
        attribution: ``(height, width)`` of the picture, see :func:`captum_gradeclip.maps.to_pixels`.
        alpha: weight of the colors against the picture, 0 to 1 (default 0.75).
        cmap: name of a color map of matplotlib; ``None`` (the default) for ``"plasma"``, or ``"RdBu_r"`` if the scale is
            signed.
        scale: the scale, which makes several maps comparable; or the value that gets the last color, with 0 for the first
            one, or, for a map with negative values, for the middle one. With ``None`` (the default), it is the map's own,
            see :meth:`captum_gradeclip.show.Scale.of`; a flat map then has no colors, since there is nothing to stretch.

    Returns:
        An RGB picture of the same size.

    Raises:
        TypeError: for anything but a picture of PIL and a tensor.
        ValueError: if the map and the picture differ in size, or an option is out of range.

    >>> overlay(Image.new("RGB", (3, 2)), torch.zeros(2, 3)).size
    (3, 2)
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"image: expected a picture of PIL, got {type(image).__name__}")
    check_tensor("attribution", attribution)
    check_number("alpha", alpha, least=0, most=1)
    if tuple(attribution.shape) != (image.height, image.width):
        raise ValueError(
            f"attribution: expected the picture's height and width {image.height} x {image.width}, got"
            f" {tuple(attribution.shape)}; bring it there with maps.to_pixels"
        )
    if not isinstance(scale, Scale):
        own = Scale.of([attribution])
        if scale is not None:
            check_number("scale", scale)
            scale = max(float(scale), 0.0)
        scale = own if scale is None else Scale(-scale if own.signed else 0.0, scale, own.signed)
    colors, opacity = palette(cmap, scale.signed)
    values = attribution.detach().float().cpu().numpy()
    added, shaded, kept = alpha * opacity[:, None] * colors, (1 - alpha) * opacity[:, None], 1 - opacity[:, None]
    pixels, period = np.array(image.convert("RGB")), max(6, max(image.size) // 60)
    # A band of rows at a time: colors in floating point take many times the memory of the picture.
    for top in range(0, image.height, rows := max(1, _BAND // image.width)):
        band, part = slice(top, top + rows), values[top : top + rows]
        seen = np.isfinite(part)
        places = scale.places(np.where(seen, part, 0).astype(np.float32))
        gray = pixels[band] @ _GRAY
        blended = pixels[band] * kept[places] + gray[..., None] * shaded[places] + added[places]
        if not seen.all():
            blended[~seen] = _veiled(gray, top, period)[~seen][:, None]
        pixels[band] = np.rint(blended.clip(0, 255)).astype(np.uint8)
    return Image.fromarray(pixels)


def veiled(image: Image.Image) -> Image.Image:
    """A picture as :func:`overlay` shows what the model did not see of it.

    Args:
        image: the picture, of any mode.

    >>> veiled(Image.new("RGB", (1, 1), "black")).getpixel((0, 0))
    (90, 90, 90)
    """
    return overlay(image, torch.full((image.height, image.width), torch.nan))


def _veiled(gray: npt.NDArray[np.float32], top: int, period: int) -> npt.NDArray[np.float32]:
    """Grays, lightened, under darker diagonal lines; ``top`` is the number of the first row."""
    veil = 0.4 * gray + 0.6 * VEIL
    y, x = np.ogrid[top : top + gray.shape[0], : gray.shape[1]]
    veil[(x + y) % period < max(1, period // 6)] *= 0.75
    return veil
