"""Point prompts from a map."""

from __future__ import annotations

import pytest
import torch

from captum_gradeclip.maps import point_prompts


def test_point_prompts_count_and_place() -> None:
    torch.manual_seed(0)
    attribution = torch.rand(9, 14)
    points, labels = point_prompts(attribution, (90, 280), threshold=0.6)
    small = torch.nn.functional.interpolate(attribution[None, None], size=(4, 7), mode="bilinear")[0, 0]
    small = (small - small.min()) / (small.max() - small.min())
    count = min(int((small >= 0.6).sum()), 14)
    assert labels.tolist() == [1] * count + [0] * count and count > 1
    for (x, y), label in zip(points.tolist(), labels.tolist()):
        value = small[y * 4 // 90, x * 7 // 280]
        rank = int((small > value).sum())
        assert rank < count if label else rank >= 28 - count
    everything, _ = point_prompts(torch.ones(6, 6), (12, 12))
    assert len(everything) == 0  # a constant map points nowhere
    with pytest.raises(ValueError, match="attribution: expected at least two rows"):
        point_prompts(torch.ones(1, 6), (6, 6))
