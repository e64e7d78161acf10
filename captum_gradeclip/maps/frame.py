"""The frame: where the model's input lies in the picture, so that maps can be drawn on the picture itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import check_number, check_sides, check_tensor


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
        check_sides("size", size)
        return cls(size, (0.0, 0.0, float(size[0]), float(size[1])))

    @classmethod
    def crop(cls, size: tuple[int, int], aspect: float = 1.0) -> Frame:
        """The frame of an input that shows the largest centered box of a given aspect.

        Args:
            size: width and height of the picture in pixels.
            aspect: width of the box divided by its height, above 0 (default 1, a square).
        """
        check_sides("size", size)
        check_number("aspect", aspect, above=0)
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
        check_sides("size", size)
        x, y = size[0] / self.size[0], size[1] / self.size[1]
        left, top, right, bottom = self.box
        return Frame(size, (left * x, top * y, right * x, bottom * y))

    def part(self, size: tuple[float, float]) -> Frame:
        """The frame of what begins in the same corner, at the left and above, and is wider or higher by some factors.

        Args:
            size: factors of the width and the height; patches that leave a rest of the input out cover less than 1 of it,
                and those of an input that the model pads cover more.

        >>> Frame.whole((384, 384)).part((378 / 384, 1)).box
        (0.0, 0.0, 378.0, 384.0)
        """
        left, top, right, bottom = self.box
        x, y = size
        return Frame(
            self.size,
            (left, top, right if x == 1 else left + x * (right - left), bottom if y == 1 else top + y * (bottom - top)),
        )


def to_pixels(attributions: Tensor, frame: Frame, unseen: float = torch.nan) -> Tensor:
    """Enlarges maps of the model's input to maps of the picture, bilinearly, with NaN where the model saw nothing.

    Args:
        attributions: ``(..., h, w)``, on the patch grid or at any other resolution of the model's input.
        frame: where that input lies in the picture.
        unseen: the value of the pixels of which the model saw nothing (default NaN, which pictures show as such). Metrics
            that rank all pixels need a number.

    Returns:
        ``(..., height, width)`` of the picture, float32. For a frame that is the whole picture, this equals
        ``F.interpolate(mode="bilinear", align_corners=False)``.

    Raises:
        TypeError, ValueError: for anything but maps ``(..., h, w)``.

    >>> to_pixels(torch.ones(1, 2, 2), Frame.crop((6, 2)))[0, 0]
    tensor([nan, nan, 1., 1., nan, nan])
    """
    check_tensor("attributions", attributions)
    if attributions.dim() < 2 or not attributions.numel():
        raise ValueError(f"attributions: expected maps (..., h, w), got shape {tuple(attributions.shape)}")
    width, height = frame.size
    left, top, right, bottom = frame.box
    # The centers of the picture's pixels in the coordinates of grid_sample, in which the model's input spans -1 to 1.
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - left) / (right - left) * 2 - 1
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - top) / (bottom - top) * 2 - 1
    seen = ((y.abs() <= 1)[:, None] & (x.abs() <= 1)[None, :]).to(attributions.device)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(attributions.device, torch.float32)
    flat = attributions.reshape(1, -1, *attributions.shape[-2:]).float()
    sampled = F.grid_sample(flat, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.where(seen, unseen).reshape(*attributions.shape[:-2], height, width)
