"""The interception: own heads reproduce the model, every mask counts, nothing stays behind."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_gradeclip import adapters
from captum_gradeclip.attention import (
    Interception,
    LayerError,
    merge_heads,
    model_heads,
    single_head,
    split_heads,
    value_only,
)

from .conftest import FAMILIES, captions, images, relative, stir


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


def test_heads_merge_and_split() -> None:
    x = torch.randn(2, 3, 5, 4)
    assert torch.equal(split_heads(merge_heads(x), 3), x)


def test_no_graph_before_the_first_layer(vit: nn.Module) -> None:
    blocks = list(vit.visual.transformer.resblocks)
    inputs: dict[int, torch.Tensor] = {}
    handles = [
        block.register_forward_pre_hook(lambda module, args, n=n: inputs.__setitem__(n, args[0]))
        for n, block in enumerate(blocks)
    ]
    with Interception(blocks[2:], single_head) as seen, torch.no_grad():
        features = vit.visual(images((32, 32)))
    for handle in handles:
        handle.remove()
    assert [inputs[n].requires_grad for n in range(4)] == [False, False, False, True]
    first, second = seen.records()
    assert first.output.is_leaf and not second.output.is_leaf and features.requires_grad
    assert not first.query.requires_grad and second.query.requires_grad


def test_hooks_and_mode_are_gone_after_success_and_after_errors(vit: nn.Module) -> None:
    layer = vit.visual.transformer.resblocks[-1]

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for error, hooked, breaker in ((Stop, layer.mlp, stop), (Stop, layer, stop), (KeyboardInterrupt, layer.attn, interrupt)):
        handle = hooked.register_forward_pre_hook(breaker)
        try:
            with pytest.raises(error), Interception([layer], single_head), torch.no_grad():
                vit.visual(images((32, 32)))
        finally:
            handle.remove()
        assert not layer._forward_hooks and not layer._forward_pre_hooks
        assert torch.overrides._len_torch_function_stack() == 0
        assert torch.is_grad_enabled()


def test_a_users_own_mode_and_hooks_survive(vit: nn.Module) -> None:
    calls: list[str] = []

    class Counting(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    layer = vit.visual.transformer.resblocks[-1]
    handle = layer.register_forward_hook(lambda *_: calls.append("hook"))
    with Counting(), Interception([layer], single_head) as seen, torch.no_grad():
        vit.visual(images((32, 32)))
    handle.remove()
    assert len(seen.records()) == 1 and "hook" in calls and "layer_norm" in calls


def test_two_threads_on_one_model_see_only_their_own(vit: nn.Module) -> None:
    layers = list(vit.visual.transformer.resblocks)
    inputs = [images((32, 32), seed=s) for s in range(4)]
    with torch.no_grad():
        plain = [vit.visual(x) for x in inputs]

    def one(x: torch.Tensor, rule) -> torch.Tensor:
        with Interception(layers, rule) as seen, torch.no_grad():
            features = vit.visual(x)
        assert len(seen.records()) == 4 and all(len(r.query) == len(x) for r in seen.records())
        return features.detach()

    expected = [one(x, single_head) for x in inputs]
    got: dict[int, list[torch.Tensor]] = {n: [] for n in range(5)}

    def work(n: int) -> None:
        for _ in range(15):
            with torch.no_grad():
                got[n].append(vit.visual(inputs[0]) if n == 4 else one(inputs[n], single_head))

    threads = [threading.Thread(target=work, args=(n,)) for n in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, results in got.items():
        reference = plain[0] if n == 4 else expected[n]
        assert len(results) == 15 and all(torch.allclose(r, reference, atol=1e-5) for r in results)
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
@pytest.mark.parametrize("frozen", [False, True])
def test_own_heads_reproduce_the_true_architectures(name: str, frozen: bool) -> None:
    import open_clip

    torch.manual_seed(0)
    model = stir_gently(open_clip.create_model(name, pretrained=None)).requires_grad_(not frozen)
    tokens = torch.randint(1, 49405, (2, 77))
    tokens[0, 20], tokens[1, 76] = 49407, 49407
    tokens[0, 21:] = 0
    for tower, inputs in ((adapters.image_tower(model), images((224, 224), 1)), (adapters.text_tower(model), tokens)):
        with torch.no_grad():
            expected = tower.encode(inputs)
        for grad in (False, True):
            with Interception(tower.layers, model_heads) as seen, torch.set_grad_enabled(grad):
                got = tower.encode(inputs)
            assert relative(got, expected) < 1e-5
        assert len(seen.records()) == len(tower.layers)


def stir_gently(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model.eval()


def test_the_mask_matters_in_the_text_tower() -> None:
    """Without the causal mask the features change, so reproducing them proves that the mask was seen."""
    model = stir(FAMILIES["open_clip ViT"].build())
    with torch.no_grad():
        expected = model.encode_text(captions())
        model.attn_mask.zero_()
        assert relative(model.encode_text(captions()), expected) > 0.05
