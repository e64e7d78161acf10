"""The frame: where the model's input lies in the picture, so that maps can be drawn on the picture itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Frame:
    """A box in the pixels of a picture: the part of the picture that the model saw.

    Attributes:
        size: width and height of the picture in pixels.
        box: left, top, right and bottom edge of the model's input, in pixels of the picture. After a center crop the box is
            smaller than the picture.

    >>> Frame.crop((640, 480)).box
    (80.0, 0.0, 560.0, 480.0)
    """

    size: tuple[int, int]
    box: tuple[float, float, float, float]

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Frame:
        """The frame of an input that shows the whole picture, resized with or without its aspect.

        Args:
            size: width and height of the picture in pixels.
        """
        return cls(size, (0.0, 0.0, float(size[0]), float(size[1])))

    @classmethod
    def crop(cls, size: tuple[int, int], aspect: float = 1.0) -> Frame:
        """The frame of an input that shows the largest centered box of a given aspect.

        Args:
            size: width and height of the picture in pixels.
            aspect: width of the box divided by its height, above 0 (default 1, a square).
        """
        width = min(float(size[0]), size[1] * aspect)
        height = width / aspect
        left, top = (size[0] - width) / 2, (size[1] - height) / 2
        return cls(size, (left, top, left + width, top + height))

    def resized(self, size: tuple[int, int]) -> Frame:
        """The same part of the picture, after the picture itself was resized.

        Args:
            size: new width and height of the picture in pixels.

        >>> Frame.crop((640, 480)).resized((320, 240)).box
        (40.0, 0.0, 280.0, 240.0)
        """
        x, y = size[0] / self.size[0], size[1] / self.size[1]
        left, top, right, bottom = self.box
        return Frame(size, (left * x, top * y, right * x, bottom * y))


def to_pixels(attributions: Tensor, frame: Frame) -> Tensor:
    """Enlarges maps of the model's input to maps of the picture, bilinearly, with zeros where the model saw nothing.

    Args:
        attributions: ``(..., h, w)``, on the patch grid or at any other resolution of the model's input.
        frame: where that input lies in the picture.

    Returns:
        ``(..., height, width)`` of the picture, float32. For a frame that is the whole picture, this equals
        ``F.interpolate(mode="bilinear", align_corners=False)``.

    >>> to_pixels(torch.ones(1, 2, 2), Frame.crop((6, 2)))[0, 0]
    tensor([0., 0., 1., 1., 0., 0.])
    """
    width, height = frame.size
    left, top, right, bottom = frame.box
    # The centers of the picture's pixels in the coordinates of grid_sample, in which the model's input spans -1 to 1.
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - left) / (right - left) * 2 - 1
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - top) / (bottom - top) * 2 - 1
    seen = ((y.abs() <= 1)[:, None] & (x.abs() <= 1)[None, :]).to(attributions.device)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(attributions.device, torch.float32)
    flat = attributions.reshape(1, -1, *attributions.shape[-2:]).float()
    sampled = F.grid_sample(flat, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return (sampled * seen).reshape(*attributions.shape[:-2], height, width)
