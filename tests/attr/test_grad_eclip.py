"""GradECLIP against the equations, and the identities that hold whatever the weights are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore
from captum_gradeclip.attention import Interception, Record, model_heads, split_heads
from captum_gradeclip.attr.grad_eclip import grad_eclip, loosened_attention

from .. import reference
from ..conftest import CONTEXT, FAMILIES, captions, images, relative, stir, varies
from ..covering import covered

ABLATIONS = [
    {},
    {"spatial_weight": "softmax"},
    {"spatial_weight": "none"},
    {"similarity": "dot"},
    {"relu_attributions": False},
    {"relu_before_sum": False},
    {"relu_before_sum": True},
    {"heads": "model"},
    {"heads": "model", "similarity": "dot", "relu_attributions": False},
    {"heads": "each"},
    {"heads": "each", "spatial_weight": "softmax"},
    {"heads": "each", "spatial_weight": "none", "similarity": "dot", "relu_before_sum": False},
]


def literal(options: dict, n_heads: int) -> dict:
    """Options of the package in the words of the reference."""
    return {
        "spatial_weight": options.get("spatial_weight", "loosened"),
        "similarity": options.get("similarity", "cosine"),
        "heads": n_heads if options.get("heads") == "each" else None,
        "relu": options.get("relu_attributions", True),
    }


PICTURES = [
    ("open_clip ViT", 1, "size"),
    ("open_clip ViT", 2, "oblong"),
    ("open_clip ViT", 4, "size"),
    ("open_clip ViT, custom text", 1, "oblong"),
    ("open_clip ResNet", 1, "size"),
    ("open_clip ResNet", 1, "oblong"),
]


@pytest.mark.parametrize(("options", "case"), covered(ABLATIONS, PICTURES))
def test_image_maps_equal_the_equations(case: tuple[str, int, str], options: dict) -> None:
    name, n, shape = case
    family = FAMILIES[name]
    torch.manual_seed(0)
    model = stir(family.build()).double()
    x = images(getattr(family, shape)).double()
    score = ImageTextScore(model, captions())
    method = GradECLIP(score, score.layers[-n:])
    got = method.attribute(x, target=1, **options)
    pool = getattr(model.visual, "attnpool", None)
    n_heads = pool.num_heads if pool is not None else model.visual.transformer.resblocks[0].attn.num_heads
    arguments = literal(options, n_heads)
    before = options.get("relu_before_sum", True)
    for item, one in zip(x, got):
        with torch.no_grad():
            other = score.text_features[1]
        features, layers, row = reference.image_pass(
            model.visual, item, n, single=options.get("heads", "single") == "single"
        )
        expected = reference.grad_eclip(features, layers, row, other, first=1, relu_before_sum=before, **arguments)
        assert relative(one.flatten(1), expected.reshape(one.shape[0], -1)) < 1e-5
    assert varies(got)
    assert got.shape[-2:] == score.grid(x)
    assert got.dtype == torch.float32 and got.is_contiguous()


TEXTS = [("open_clip ViT", 1), ("open_clip ViT", 8), ("open_clip ViT, custom text", 8)]


@pytest.mark.parametrize(("options", "case"), covered(ABLATIONS, TEXTS, per_row=1))
def test_text_maps_equal_the_equations(case: tuple[str, int], options: dict) -> None:
    name, n = case
    family = FAMILIES[name]
    torch.manual_seed(0)
    model = stir(family.build()).double()
    tokens = captions()
    score = TextImageScore(model, images(family.size, count=2).double())
    got = GradECLIP(score, score.layers[-n:]).attribute(tokens, target=1, key_tokens="all", **options)
    arguments = literal(options, 4)
    before = options.get("relu_before_sum", True)
    for ids, one in zip(tokens, got):
        features, layers, row = reference.text_pass(model, ids, n, single=options.get("heads", "single") == "single")
        expected = reference.grad_eclip(
            features, layers, row, score.image_features[1], first=0, relu_before_sum=before, **arguments
        )
        assert relative(one, expected) < 1e-5
    assert got.shape == ((len(tokens), 4, CONTEXT) if options.get("heads") == "each" else (len(tokens), CONTEXT))
    assert varies(got) or options.get("spatial_weight") == "softmax"


def test_the_default_of_texts_is_equation_19_layer_by_layer(double: nn.Module) -> None:
    """All eight layers and no option: ReLU of each layer, then the sum, over the tokens that the end mark may attend to."""
    tokens = captions()
    score = TextImageScore(double, images((32, 32), count=2).double())
    method = GradECLIP.for_score(score)
    got, released = method.attribute(tokens, target=1), method.attribute(tokens, target=1, relu_before_sum=False)
    lost = 0
    for ids, one, other in zip(tokens, got, released):
        features, layers, end = reference.text_pass(double, ids, 8, single=True)
        seen = [replace(layer, k=layer.k[: end + 1], v=layer.v[: end + 1]) for layer in layers]
        expected = reference.grad_eclip(features, seen, end, score.image_features[1], first=0)
        assert len(layers) == len(score.layers) == 8
        assert relative(one[: end + 1], expected) < 1e-5 and not one[end + 1 :].any()
        assert (other <= one + 1e-6 * one.max()).all(), "what is against a token in one layer takes off from the others"
        lost += int(((other == 0) & (one > 0)).sum())
    assert lost > 0


@pytest.mark.parametrize("heads", ["single", "model"])
@pytest.mark.parametrize("count", [1, 3])
def test_projected_similarity_is_written_out(double: nn.Module, heads: str, count: int) -> None:
    """Queries and keys through the output projection with its bias, as the released ImageNet scripts compare them."""
    x, tokens = images((40, 24)).double(), captions()
    for score, inputs, run, others, first in (
        (ImageTextScore(double, tokens), x, reference.image_pass, "text_features", 1),
        (TextImageScore(double, x), tokens, reference.text_pass, "image_features", 0),
    ):
        method = GradECLIP(score, score.layers[-count:][::-1])
        options = {"heads": heads, "similarity": "projected", "key_tokens": "all", "relu_attributions": False}
        got = method.attribute(inputs, target=1, **options)
        for item, one in zip(inputs, got):
            features, layers, row = run(double.visual if first else double, item, count, single=heads == "single")
            s = reference.cosine(features, getattr(score, others)[1])
            gradients = torch.autograd.grad(s, [layer.o for layer in layers])
            total = torch.zeros(len(layers[0].k) - first, dtype=torch.float64)
            for layer, gradient, block in zip(layers, gradients, score.layers[-count:]):
                projection = block.attn.out_proj
                q, k = (x @ projection.weight.T + projection.bias for x in (layer.q, layer.k))
                weights = reference.stretched([reference.cosine(q[row], k[i]) for i in range(first, len(k))])
                evidence = [w * (gradient[row] @ layer.v[first + i]) for i, w in enumerate(weights)]
                total += torch.stack(evidence).detach()
            assert relative(one.flatten(), total) < 1e-5
        assert varies(got) and relative(method.attribute(inputs, target=1, heads=heads, key_tokens="all"), got) > 1e-3
        carried = [
            method.outcome(inputs, [1], carried=True, heads=heads, similarity=one).carried for one in ("projected", "dot")
        ]
        assert torch.allclose(*carried, atol=1e-4, equal_nan=True), "the share of the score has the model's own attention"


def test_projected_similarity_is_the_cosine_where_the_projection_does_nothing() -> None:
    """Invariant of the two profiles: with the identity for the projection and no bias they coincide."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build()).double()
    score, x = ImageTextScore(model, captions()), images((32, 32)).double()
    with torch.no_grad():
        projection = score.layers[-1].attn.out_proj
        projection.weight.copy_(torch.eye(len(projection.weight)))
        projection.bias.zero_()
    method = GradECLIP(score, score.layers[-1:])
    plain = method.attribute_targets(x)
    assert relative(method.attribute_targets(x, similarity="projected"), plain) < 1e-5
    assert relative(method.attribute_targets(x, similarity="projected", spatial_weight="none"), plain) > 1e-3
    with pytest.raises(ValueError, match='similarity: "projected" compares whole tokens'):
        method.attribute(x, target=0, similarity="projected", heads="each")
    pool = ImageTextScore(stir(FAMILIES["open_clip ResNet"].build()), captions())
    with pytest.raises(ValueError, match="nor an attention pool"):
        GradECLIP(pool, pool.layers).attribute(images((96, 96)), target=0, similarity="projected")


def test_softmax_with_the_models_heads_rebuilds_the_output(vit: nn.Module) -> None:
    """Equations 12 and 16: the tokens' shares a_i (w . v_i) add up to w . o, the class token's included."""
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    with Interception(score.layers[-1:], model_heads) as seen, torch.no_grad():
        output = score(x)
    (record,) = seen.records()
    (gradient,) = torch.autograd.grad(output[:, 0].sum(), record.output)
    w = split_heads(gradient, record.heads)[:, :, 0]
    class_share = torch.einsum("nh,nhc,nhc->n", record.probabilities()[:, :, 0, 0], w, record.value[:, :, 0])
    options = {"spatial_weight": "softmax", "relu_attributions": False}
    got = GradECLIP(score, score.layers[-1]).attribute(x, target=0, heads="model", **options)
    whole = (gradient[:, 0] * record.output[:, 0]).sum(dim=1)
    assert torch.allclose(got.sum(dim=(1, 2, 3)) + class_share, whole, rtol=1e-4, atol=1e-6)
    each = GradECLIP(score, score.layers[-1]).attribute(x, target=0, heads="each", **options)
    assert relative(got[:, 0], each.sum(dim=1)) < 1e-5


def test_without_spatial_weight_it_is_the_gradient_of_the_attention_row(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    seen: list[torch.Tensor] = []

    def rule(record: Record) -> torch.Tensor:
        merged = record.merged()
        attention = merged.probabilities().detach().requires_grad_()
        seen.append(attention)
        return attention @ merged.value.detach()

    with Interception(score.layers[-1:], _with_grad(rule)):
        (gradient,) = torch.autograd.grad(score(x)[:, 2].sum(), seen)
    got = GradECLIP(score, score.layers[-1]).attribute(x, target=2, spatial_weight="none", relu_attributions=False)
    assert relative(got.flatten(1), gradient[:, 0, 0, 1:]) < 1e-5


def _with_grad(rule):
    def enabled(record: Record) -> torch.Tensor:
        with torch.enable_grad():
            return rule(record)

    return enabled


def test_with_one_head_in_the_model_all_head_options_agree() -> None:
    torch.manual_seed(0)
    from open_clip.model import CLIP

    from ..conftest import TEXT, VIT

    model = stir(CLIP(24, {**VIT, "head_width": 48}, {**TEXT, "heads": 1}))
    score = ImageTextScore(model, captions())
    x = images((32, 32))
    maps = [GradECLIP(score, score.layers[-2:]).attribute(x, target=0, heads=h) for h in ("single", "model", "each")]
    assert relative(maps[1], maps[0]) < 1e-4 and relative(maps[2], maps[0]) < 1e-4


def test_any_callable_and_a_block_or_its_attention(vit: nn.Module) -> None:
    """The read-out token of a bare callable shows itself by its gradient."""
    score = ImageTextScore(vit, captions())
    x = images((40, 24))
    expected = GradECLIP(score, score.layers[-1]).attribute(x, target=0)
    other = score.text_features[0]
    bare = GradECLIP(lambda images: F.cosine_similarity(_features(score, images), other), score.layers[-1].attn)
    assert relative(bare.attribute(x), expected) < 1e-5
    assert relative(bare.attribute((x,)), expected) < 1e-5


def _features(score: ImageTextScore, x: torch.Tensor) -> torch.Tensor:
    from captum_gradeclip import adapters

    return adapters.image_tower(score.model).encode(x)


def test_inner_layers_use_the_score_modules_row_and_a_bare_callable_sums_over_all(vit: nn.Module) -> None:
    vit = stir(FAMILIES["open_clip ViT"].build()).double()
    score = ImageTextScore(vit, captions())
    x = images((32, 32), count=1).double()
    inner = score.layers[1]
    options = {"relu_attributions": False}
    features, layers, _ = reference.image_pass(vit.visual, x[0], 4, single=False)
    q, k, v = layers[1].q, layers[1].k, layers[1].v
    o, _ = reference.attend(q, k, v, 1, causal=False)
    # The reference again, but with a single head in the second layer alone.
    o = o.detach().requires_grad_()
    module = vit.visual.transformer.resblocks[1]
    with torch.no_grad():
        y0 = reference_input(vit, x[0], 1)
    y = y0 + o @ module.attn.out_proj.weight.T + module.attn.out_proj.bias
    y = y + module.mlp(module.ln_2(y))
    for later in list(vit.visual.transformer.resblocks)[2:]:
        y, _ = reference.block(y, later, later.attn.num_heads, causal=False, track=True)
    features = vit.visual.ln_post(y[0]) @ vit.visual.proj
    (w,) = torch.autograd.grad(reference.cosine(features, score.text_features[0]), o)
    lam = torch.stack(
        [torch.stack(reference.stretched([reference.cosine(q[r], k[i]) for i in range(1, len(k))])) for r in range(len(q))]
    )
    every = lam * (w @ v[1:].T)
    got = GradECLIP(score, inner).attribute(x, target=0, **options)
    assert relative(got.flatten(), every[0]) < 1e-5
    bare = GradECLIP(lambda images: score(images), inner).attribute(x, target=0, **options)
    assert relative(bare.flatten(), every.sum(dim=0)) < 1e-5


def reference_input(model: nn.Module, image: torch.Tensor, number: int) -> torch.Tensor:
    """What block ``number`` receives."""
    kept: list[torch.Tensor] = []
    block = model.visual.transformer.resblocks[number]
    handle = block.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    model.encode_image(image[None])
    handle.remove()
    return kept[0][0]


def test_a_positive_factor_rescales_and_a_sign_flips(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    layer = score.layers[-1]
    signed = GradECLIP(score, layer).attribute(x, target=0, relu_attributions=False)
    scaled = GradECLIP(lambda images: 100 * score(images), layer).attribute(x, target=0, relu_attributions=False)
    flipped = GradECLIP(lambda images: -score(images), layer).attribute(x, target=0, relu_attributions=False)
    assert relative(scaled, 100 * signed) < 1e-5 and relative(flipped, -signed) < 1e-5


def test_the_pure_functions() -> None:
    q, k = torch.randn(1, 6), torch.randn(9, 6)
    lam = loosened_attention(q, k)
    assert lam.min() == 0 and lam.max() == 1
    assert torch.equal(loosened_attention(q, k[:1].expand(9, -1)), torch.ones(1, 9))
    assert torch.equal(loosened_attention(q, k[:1], "dot"), torch.ones(1, 1))
    assert torch.equal(loosened_attention(torch.zeros(1, 6), k), torch.ones(1, 9))
    assert torch.equal(grad_eclip(torch.zeros(1, 6), k, lam), torch.zeros(9))
    w = torch.randn(3, 6)
    assert torch.allclose(grad_eclip(w, k), (w @ k.T).sum(dim=0))


class Toy(nn.Module):
    """Attention over a 2 x 2 grid and a class token, with values that are all one: the evidence has the score's sign."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign
        self.layer = ToyAttention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = F.avg_pool2d(x, 8).flatten(2).mT
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)[:, None]
        return self.sign * self.layer(tokens)[:, 0, 0].sum(dim=-1, keepdim=True)


class ToyAttention(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(tokens, tokens, torch.ones_like(tokens))


def test_an_all_negative_map_is_zero_and_a_zero_gradient_warns() -> None:
    x = images((16, 16))
    maps = {}
    for sign in (1.0, -1.0, 0.0):
        toy = Toy(sign)
        method = GradECLIP(toy, toy.layer)
        if sign == 0:
            with pytest.warns(UserWarning, match="exactly zero"):
                maps[sign] = method.attribute(x, target=0)
        else:
            maps[sign] = method.attribute(x, target=0)
    assert maps[1.0].amax() > 0
    assert torch.equal(maps[-1.0], torch.zeros(2, 1, 2, 2)) and torch.equal(maps[0.0], maps[-1.0])


def test_the_order_of_the_list_does_not_matter(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    expected = GradECLIP(score, score.layers[-2:]).attribute(x, target=0)
    for forward in (score, score.forward, lambda images: score(images)):
        got = GradECLIP(forward, score.layers[-2:][::-1]).attribute(x, target=0)
        assert relative(got, expected) < 1e-5
    inner = GradECLIP(score, score.layers[1]).attribute(x, target=0)
    assert relative(GradECLIP(score.forward, score.layers[1]).attribute(x, target=0), inner) < 1e-6


def test_autocast_reaches_the_model_but_not_the_maps_arithmetic(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    expected = GradECLIP(score, score.layers[-1]).attribute(x, target=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = GradECLIP(score, score.layers[-1]).attribute(x, target=0)
    assert got.dtype == torch.float32 and relative(got / got.amax(), expected / expected.amax()) < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_dtype_gives_a_finite_float32_map(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    x = images((32, 32))
    score = ImageTextScore(model, captions())
    expected = GradECLIP(score, score.layers[-1]).attribute(x, target=0)
    text = ImageTextScore(model.to(dtype), score.text_features)
    got = GradECLIP(text, text.layers[-1]).attribute(x.to(dtype), target=0)
    assert got.dtype == torch.float32 and got.isfinite().all()
    assert (got / got.amax() - expected / expected.amax()).abs().max() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attribute_to_layer_input": True}, "attribute_to_layer_input: only False"),
        ({"spatial_weight": "soft"}, "spatial_weight: expected one of"),
        ({"similarity": "l2"}, "similarity: expected one of"),
        ({"heads": 12}, "heads: expected one of"),
    ],
)
def test_unknown_options(vit: nn.Module, change: dict, message: str) -> None:
    score = ImageTextScore(vit, captions())
    with pytest.raises(ValueError, match=message):
        GradECLIP(score, score.layers[-1]).attribute(images((32, 32)), target=0, **change)


def test_additional_arguments_and_list_of_layers_in_any_kind(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    expected = GradECLIP(score, score.layers[-2:]).attribute(x, target=0)
    method = GradECLIP(lambda images, factor: factor * score(images), tuple(score.layers[-2:]))
    assert relative(method.attribute(x, target=0, additional_forward_args=3.0), 3 * expected) < 1e-5
    assert relative(method.attribute_targets(x, [0], 3.0), 3 * expected) < 1e-5


def test_a_score_made_under_inference_mode(vit: nn.Module) -> None:
    x = images((32, 32))
    outside = ImageTextScore(vit, captions())
    expected = GradECLIP(outside, outside.layers[-1]).attribute(x, target=0)
    with torch.inference_mode():
        score = ImageTextScore(vit, captions())
        got = GradECLIP(score, score.layers[-1]).attribute(x.clone(), target=0)
    assert relative(got, expected) < 1e-5
    assert relative(GradECLIP(score, score.layers[-1]).attribute(x, target=0), expected) < 1e-5
