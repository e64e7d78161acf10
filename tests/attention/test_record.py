"""Heads side by side and apart again."""

from __future__ import annotations

import torch

from captum_gradeclip.attention import (
    merge_heads,
    split_heads,
)


def test_merged_heads_stand_side_by_side() -> None:
    x = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(merge_heads(x)[0, 1], torch.cat([x[0, 0, 1], x[0, 1, 1]]))


def test_heads_merge_and_split() -> None:
    x = torch.randn(2, 3, 5, 4)
    assert torch.equal(split_heads(merge_heads(x), 3), x)
