"""Attention spelled out as matmul, softmax, matmul."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_gradeclip.attention import (
    Interception,
    LayerError,
    model_heads,
    single_head,
)

from ..conftest import relative
from .test_calls import MASKS, Scaled


class SpelledOut(nn.Module):
    """Attention as matmul, softmax, matmul, in the ways that libraries write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.dropout = nn.Dropout(0.1)

    def forward(self, q, k, v, attn_mask=None):
        mask = attn_mask
        if mask is not None and mask.dtype == torch.bool and self.way != "filled":
            mask = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
        if self.way == "divided":
            weights = torch.matmul(q, k.transpose(-1, -2)) / q.shape[-1] ** 0.5
            weights = weights if mask is None else weights + mask
            return torch.matmul(self.dropout(nn.Softmax(dim=-1)(weights)), v)
        if self.way == "queries first":
            weights = (q * q.shape[-1] ** -0.5) @ k.mT
            weights += 0 if mask is None else mask
            return weights.softmax(-1) @ v
        if self.way == "in double precision":
            weights = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5
            weights = weights if mask is None else mask + weights
            return torch.matmul(F.softmax(weights, dim=-1, dtype=torch.float64).to(q.dtype), v)
        if self.way == "filled":
            weights = torch.mul(q @ k.mT, q.shape[-1] ** -0.5)
            weights = weights if mask is None else weights.masked_fill(~mask, float("-inf"))
            return F.dropout(torch.softmax(weights, dim=-1), p=0.1, training=self.training) @ v
        batch, heads, length, _ = q.shape
        q, k, v = (
            (x * s).contiguous().view(batch * heads, length, -1) for x, s in ((q, q.shape[-1] ** -0.5), (k, 1), (v, 1))
        )
        weights = torch.bmm(q, k.transpose(1, 2))
        if mask is not None:
            weights = (weights.view(batch, heads, length, length) + mask).view(batch * heads, length, length)
        return torch.bmm(F.softmax(weights, dim=-1), v).view(batch, heads, length, -1)


@pytest.mark.parametrize("way", ["divided", "queries first", "in double precision", "filled", "folded"])
@pytest.mark.parametrize("name", ["none", "boolean", "padding", "per head", "by position"])
def test_attention_spelled_out(way: str, name: str) -> None:
    mask = MASKS[name].get("attn_mask")
    if way == "filled" and mask is not None and mask.dtype != torch.bool:
        pytest.skip("only boolean masks are filled in")
    if name == "boolean":
        mask = mask | torch.eye(5, dtype=torch.bool)
    q, k, v = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(1)).unbind()
    layer = SpelledOut(way).eval()
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert relative(layer(q, k, v, attn_mask=mask), expected) < 1e-5
    with Interception([layer], model_heads) as seen, torch.no_grad():
        got = layer(q, k, v, attn_mask=mask)
    (record,) = seen.records()
    assert relative(got, expected) < 1e-5
    assert relative(record.query, q) < 1e-6 and relative(record.key, k) < 1e-6 and record.value.shape == v.shape
    assert abs(record.scale - 6**-0.5) < 1e-6 and record.dropout == 0
    assert relative(record.probabilities() @ v, expected) < 1e-5
    with Interception([layer], single_head), torch.no_grad():
        single = layer(q, k, v, attn_mask=mask)
    with Interception([scaled := Scaled()], single_head), torch.no_grad():
        assert relative(single, scaled(q, k, v, attn_mask=mask)) < 1e-5
    assert relative(single, expected) > 1e-2


def test_dropout_of_attention_spelled_out_is_the_layers() -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 6).unbind()
    layer = SpelledOut("divided").train()
    with Interception([layer], model_heads) as seen, torch.no_grad():
        layer(q, k, v)
    assert seen.records()[0].dropout == 0.1


def test_products_that_are_no_attention_are_left_alone() -> None:
    class Mixing(nn.Module):
        def forward(self, x):
            gates = (x @ x.mT).softmax(dim=-1)
            return gates.sum() + (x @ x.mT @ x).sum()

    layer, x = Mixing(), torch.randn(2, 3, 3)
    with Interception([layer], model_heads) as seen, torch.no_grad():
        assert torch.equal(layer(x), Mixing()(x))
    with pytest.raises(LayerError, match="no attention call"):
        seen.records()
