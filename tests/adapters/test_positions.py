"""Positions of other sizes, on a view that leaves the model alone."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from captum_gradeclip import ImageTextScore
from captum_gradeclip.adapters.base import replaced, resize_positions

from ..conftest import captions, images


def test_positions_are_interpolated_on_a_copy(vit: nn.Module) -> None:
    table = vit.visual.positional_embedding
    before = table.detach().clone()
    score = ImageTextScore(vit, captions())
    x = images((40, 24))
    with torch.no_grad():
        got = score(x)
        native = resize_positions(table, (4, 4), (4, 4))
        assert torch.allclose(native, table, atol=1e-6)
        patches = F.interpolate(table[1:].T.reshape(1, -1, 4, 4), size=(5, 3), mode="bicubic", align_corners=False)
        other = torch.func.functional_call(
            vit.visual, {"positional_embedding": torch.cat([table[:1], patches[0].flatten(1).T])}, x
        )
    assert torch.allclose(got, F.normalize(other, dim=-1) @ score.text_features.T, atol=1e-6)
    assert torch.equal(vit.visual.positional_embedding, before) and vit.visual.positional_embedding is table


def test_a_replaced_parameter_leaves_the_module_alone() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    view = replaced(inner, "1.weight", torch.zeros(2, 2))
    assert torch.equal(view(torch.ones(2)), inner[1].bias) and inner[1].weight.abs().sum() > 0
    assert view[0] is inner[0]
