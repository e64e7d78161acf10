"""Attention rollout against its product written out."""

from __future__ import annotations

import torch
from torch import nn

from captum_gradeclip.attr import AttentionRollout
from captum_gradeclip.attr.attention_rollout import rollout

from ..conftest import relative, varies
from ..reference.records import both, matrix, run


def test_rollout(double: nn.Module) -> None:
    for score, inputs, first in both(double):
        flow = AttentionRollout(score, score.layers[-3:]).attribute(inputs)
        records, _ = run(score, inputs, score.layers[-3:])
        for item, row in enumerate(score.readout.rows(inputs).tolist()):
            attention = [matrix(record, item) for record in records]
            joint = torch.eye(len(attention[0]), dtype=torch.float64)
            for one in attention:
                mixed = one + torch.eye(len(one), dtype=torch.float64)
                joint = torch.stack([line / line.sum() for line in mixed]) @ joint
            assert relative(flow[item].flatten(), joint[row, first:]) < 1e-5
        assert varies(flow)


def test_rollout_of_uniform_attention_is_uniform() -> None:
    uniform = torch.full((1, 5, 5), 0.2)
    result = rollout([uniform] * 4)
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.allclose(result.sum(dim=-1), torch.ones(1, 5))
    assert torch.allclose(result[0][off], result[0][off].mean().expand(20))
    assert torch.allclose(rollout([torch.eye(5)[None]] * 3), torch.eye(5)[None])
