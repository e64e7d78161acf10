"""Maps on the pixels that the model has seen."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from captum_gradeclip.maps import Frame, to_pixels


def test_whole_frame_is_plain_interpolation() -> None:
    x = torch.rand(2, 3, 5, 7)
    expected = F.interpolate(x, size=(40, 61), mode="bilinear", align_corners=False)
    assert torch.allclose(to_pixels(x, Frame.whole((61, 40))), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (64, 64)])
def test_a_crop_lands_where_the_model_looked(size: tuple[int, int]) -> None:
    """A bright spot in the file comes back at the same place after the way there and back."""
    width, height = size
    spot = torch.zeros(1, 1, height, width)
    y, x = height // 2 + 5, width // 2 - 9
    spot[..., y - 3 : y + 4, x - 3 : x + 4] = 1
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    seen = F.interpolate(spot[..., top : top + side, left : left + side], size=(32, 32), mode="bilinear", antialias=True)
    back = to_pixels(seen, Frame.crop(size), unseen=-1.0)
    assert back.shape == spot.shape
    assert (torch.tensor(divmod(int(back.argmax()), width)) - torch.tensor([y, x])).abs().max() <= 3
    outside = torch.ones(height, width, dtype=torch.bool)
    outside[top : top + side, left : left + side] = False
    assert (back[0, 0][outside] == -1).all() and back[0, 0][~outside].min() >= 0
    unmarked = to_pixels(seen, Frame.crop(size))
    assert torch.equal(torch.isnan(unmarked[0, 0]), outside) and torch.equal(unmarked[0, 0][~outside], back[0, 0][~outside])
