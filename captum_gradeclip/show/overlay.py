"""The overlay: a picture under its map."""

from __future__ import annotations

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..maps import normalize, normalize_to


def overlay(
    image: Image.Image, attribution: Tensor, *, alpha: float = 0.55, cmap: str = "jet", scale: float | None = None
) -> Image.Image:
    """Colors a picture by its map, at the picture's own size.

    Args:
        image: the picture, of any mode.
        attribution: ``(height, width)`` of the picture, see :func:`captum_gradeclip.maps.to_pixels`; where it is NaN, the
            model saw nothing and the picture stays as it is.
        alpha: weight of the colors against the picture, 0 to 1 (default 0.55).
        cmap: name of a matplotlib color map (default ``"jet"``).
        scale: the value that gets the last color, which makes several maps comparable; the lowest value that is shown is
            then 0. With ``None`` (the default) the map is stretched between its own lowest and highest value.

    Returns:
        An RGB picture of the same size.

    Raises:
        ValueError: if the map and the picture differ in size.

    >>> overlay(Image.new("RGB", (3, 2)), torch.zeros(2, 3)).size
    (3, 2)
    """
    if tuple(attribution.shape) != (image.height, image.width):
        raise ValueError(
            f"attribution: expected the picture's height and width {image.height} x {image.width}, got"
            f" {tuple(attribution.shape)}; bring it there with maps.to_pixels"
        )
    seen = ~torch.isnan(attribution)
    values = torch.zeros_like(attribution, dtype=torch.float32)
    if seen.any():
        values[seen] = normalize(attribution[seen], dims=1) if scale is None else normalize_to(attribution[seen], scale)
    colors = matplotlib.colormaps[cmap](values.cpu().numpy())[..., :3] * 255
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    blended = np.where(seen.cpu().numpy()[..., None], (1 - alpha) * pixels + alpha * colors, pixels)
    return Image.fromarray(blended.clip(0, 255).astype(np.uint8))
