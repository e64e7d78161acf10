"""Maps that every method should be measured against."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore
from captum_gradeclip.attr import CenterPrior, Oracle, RandomMap

from ..conftest import captions, images


def test_parts_of_the_inputs_keep_their_seeds_and_masks(vit: nn.Module) -> None:
    score, x = ImageTextScore(vit, captions()), images((32, 32), 3)
    masks = torch.zeros(3, 32, 32)
    masks[0, :8], masks[1, 8:16], masks[2, :, 24:] = 1, 1, 1
    for method, options in (
        (RandomMap(score), {}),
        (RandomMap(score), {"seeds": [5, 6, 7]}),
        (Oracle(score), {"masks": masks}),
        (CenterPrior(score), {}),
    ):
        whole = method.attribute_targets(x, [0, 1], **options)
        for size in (1, 2):
            assert torch.equal(method.attribute_targets(x, [0, 1], chunk_size=size, **options), whole)
    random = RandomMap(score).attribute_targets(x, [0])
    assert not torch.equal(random[0], random[1])
    with pytest.raises(ValueError, match="seeds: expected one for each input, got 2"):
        RandomMap(score).attribute(x, target=0, seeds=[1, 2])
    with pytest.raises(ValueError, match=r"masks: expected the truth of the inputs \(3, 32, 32\), got None"):
        Oracle(score).attribute(x, target=0)


def test_the_oracle_is_the_mask_and_then_the_distance(vit: nn.Module) -> None:
    mask = torch.zeros(1, 32, 32)
    mask[0, 4:9, 6:20] = 1
    (got,) = Oracle(ImageTextScore(vit, captions())).attribute(images((32, 32), 1), target=0, masks=mask)[0]
    assert torch.equal(got > 0.5, mask[0] > 0) and got[mask[0] == 0].max() < 1e-6 and got[3, 6] > got[0, 6] > got[31, 31]
