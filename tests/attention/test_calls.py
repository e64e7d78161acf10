"""Torch's own attention calls: own heads reproduce them, every mask counts."""

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
    split_heads,
    value_only,
)


class Scaled(nn.Module):
    """Attention by the functional call alone, with whatever it is given."""

    def forward(self, q, k, v, **options):
        return F.scaled_dot_product_attention(q, k, v, **options)


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.7},
    "boolean": {"attn_mask": torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) > 0.4},
    "padding": {"attn_mask": torch.arange(5)[None, None, None] < torch.tensor([3, 5])[:, None, None, None]},
    "per head": {"attn_mask": torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))},
    "by position": {"attn_mask": torch.randn(5, 5, generator=torch.Generator().manual_seed(0)), "dropout_p": 0.0},
}


@pytest.mark.parametrize("name", MASKS)
def test_scaled_dot_product_attention(name: str) -> None:
    options = dict(MASKS[name])
    if name == "boolean":
        options["attn_mask"] = options["attn_mask"] | torch.eye(5, dtype=torch.bool)
    q, k, v = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(1)).unbind()
    layer = Scaled()
    expected = layer(q, k, v, **options)
    with Interception([layer], model_heads) as seen, torch.no_grad():
        got = layer(q, k, v, **options)
    assert torch.allclose(got, expected, atol=1e-6)
    (record,) = seen.records()
    assert torch.allclose(record.probabilities() @ v, expected, atol=1e-5)
    assert torch.allclose(split_heads(record.output, 4), expected, atol=1e-6)
    assert record.output.requires_grad and record.heads == 4
    merged = record.merged()
    assert merged.query.shape == (2, 1, 5, 24) and merged.scale == 24**-0.5
    if name not in ("none", "scale"):
        with torch.no_grad():
            assert not torch.allclose(layer(q, k, v), expected, atol=1e-2), "the mask must matter"


def test_grouped_queries_and_no_head_dimension() -> None:
    layer = Scaled()
    q, k, v = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 6)
    expected = layer(q, k, v, enable_gqa=True)
    with Interception([layer], model_heads), torch.no_grad():
        assert torch.allclose(layer(q, k, v, enable_gqa=True), expected, atol=1e-6)
    mask = torch.randn(4, 5, 5)
    expected = layer(q[0], q[0], q[0], attn_mask=mask)
    with Interception([layer], model_heads) as seen, torch.no_grad():
        assert torch.allclose(layer(q[0], q[0], q[0], attn_mask=mask), expected, atol=1e-6)
    assert seen.records()[0].query.shape == (4, 1, 5, 6)
    for_heads = torch.randn(4, 5, 5)
    expected = layer(q, q, q, attn_mask=for_heads)
    with Interception([layer], model_heads), torch.no_grad():
        assert torch.allclose(layer(q, q, q, attn_mask=for_heads), expected, atol=1e-6)
    with Interception([layer], single_head), torch.no_grad():
        assert layer(q, q, q, attn_mask=for_heads).shape == q.shape


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"kdim": 6, "vdim": 10}], ids=["packed", "separate"])
@pytest.mark.parametrize("kind", ["none", "causal", "float", "boolean", "per head", "padding", "both"])
def test_multi_head_attention(batch_first: bool, bias: bool, sizes: dict, kind: str) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, bias=bias, batch_first=batch_first, **sizes).eval().requires_grad_(False)
    q, k, v = torch.randn(3, 5, 8), torch.randn(3, 5, sizes.get("kdim", 8)), torch.randn(3, 5, sizes.get("vdim", 8))
    if not sizes:
        k = v = q
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    padding = torch.arange(5)[None] >= torch.tensor([5, 3, 4])[:, None]
    additive = torch.zeros(5, 5).masked_fill(hidden, float("-inf"))
    options = {
        "none": {},
        "causal": {"attn_mask": additive, "is_causal": True, "need_weights": False},
        "float": {"attn_mask": torch.randn(5, 5)},
        "boolean": {"attn_mask": hidden},
        "per head": {"attn_mask": torch.randn(6, 5, 5), "average_attn_weights": False},
        "padding": {"key_padding_mask": padding, "need_weights": False},
        "both": {"key_padding_mask": padding, "attn_mask": hidden},
    }[kind]
    if not batch_first:
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    expected, expected_weights = module(q, k, v, **options)
    with Interception([module], model_heads) as seen, torch.no_grad():
        got, weights = module(q, k, v, **options)
    assert torch.allclose(got, expected, atol=1e-6)
    assert seen.records()[0].query.shape == (3, 2, 5, 4)
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        assert torch.allclose(weights, expected_weights, atol=1e-6)


def test_multi_head_attention_without_a_batch_and_what_is_refused() -> None:
    module = nn.MultiheadAttention(8, 2).eval()
    x = torch.randn(5, 8)
    expected = module(x, x, x)[0]
    with Interception([module], model_heads), torch.no_grad():
        assert torch.allclose(module(x, x, x)[0], expected, atol=1e-6)
    for options in ({"add_bias_kv": True}, {"add_zero_attn": True}):
        odd = nn.MultiheadAttention(8, 2, **options).eval()
        with pytest.raises(LayerError, match="not supported"), Interception([odd], model_heads), torch.no_grad():
            odd(x, x, x)


def test_attention_dropout_is_kept_in_training_mode() -> None:
    module = nn.MultiheadAttention(8, 2, dropout=0.5).train()
    x = torch.randn(5, 3, 8)
    torch.manual_seed(0)
    expected = module(x, x, x, need_weights=False)[0]
    with Interception([module], model_heads) as seen, torch.no_grad():
        torch.manual_seed(0)
        got = module(x, x, x, need_weights=False)[0]
    assert seen.records()[0].dropout == 0.5
    assert torch.allclose(got, expected, atol=1e-6)
    assert not torch.allclose(got, module.eval()(x, x, x)[0], atol=1e-2)


def test_value_only_needs_self_attention(vit: nn.Module) -> None:
    layer = Scaled()
    x = torch.randn(1, 2, 5, 4)
    with Interception([layer], value_only), torch.no_grad():
        assert torch.equal(layer(x, x, 2 * x), 2 * x)
    with pytest.raises(LayerError, match="as many queries as keys"), Interception([layer], value_only), torch.no_grad():
        layer(x[:, :, :1], x, x)
