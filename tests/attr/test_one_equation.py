"""One equation, many methods: each is a choice of gradient, values, spatial weight, heads and place of the ReLU.

The page ``docs/one-equation.md`` tells in words what is derived here, in float64 and for the last layer.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore
from captum_gradeclip.attr import GAME, LeGrad, MaskCLIP, RawAttention

from .. import reference
from ..conftest import FAMILIES, TEXT, VIT, captions, images, relative, stir, varies
from ..reference.towers import prepared

TARGET = 1
SIGNED = {"relu_attributions": False}


class Last:
    """The last block of one image: its attention written out, and the score as a function of one token behind it."""

    def __init__(self, model: nn.Module, image: Tensor, text: Tensor, single: bool = False) -> None:
        visual: Any = model.visual
        self.visual, self.text = visual, text
        *earlier, self.block = visual.transformer.resblocks
        with torch.no_grad():
            stream = prepared(visual, image)
            for block in earlier:
                stream, _ = reference.block(stream, block, block.attn.num_heads, causal=False, track=False)
            u = self.block.ln_1(stream)
            q, k, v = (u @ self.block.attn.in_proj_weight.T + self.block.attn.in_proj_bias).chunk(3, dim=1)
            self.heads = 1 if single else self.block.attn.num_heads
            self.output, self.attention = reference.attend(q, k, v, self.heads, causal=False)
        self.stream, self.query, self.key, self.value = stream, q, k, v
        self.width = v.shape[1] // self.heads

    def of(self, x: Tensor, head: int) -> Tensor:
        """The channels of a head."""
        return x[..., head * self.width : (head + 1) * self.width]

    def behind(self, output: Tensor, row: int = 0) -> Tensor:
        """The token of a row behind the block, if its attention returned this."""
        y = self.stream[row] + output @ self.block.attn.out_proj.weight.T + self.block.attn.out_proj.bias
        token: Tensor = y + self.block.mlp(self.block.ln_2(y))
        return token

    def read(self, token: Tensor) -> Tensor:
        """The score of a token that is read out."""
        return reference.cosine(self.visual.ln_post(token) @ self.visual.proj, self.text)

    def gradient(self) -> Tensor:
        """The channel weights of equation 15: the gradient of the score at the attention output of the class token."""
        output = self.output[0].clone().requires_grad_()
        return torch.autograd.grad(self.read(self.behind(output)), output)[0]

    def evidence(self) -> Tensor:
        """The product of gradient and value, w . v, of each head and token, ``(heads, L)``."""
        w = self.gradient()
        rows = [[self.of(w, h) @ self.of(v, h) for v in self.value] for h in range(self.heads)]
        return torch.stack([torch.stack(row) for row in rows])

    def loosened(self) -> Tensor:
        """Equation 20, over the patches, with all channels."""
        return torch.stack(reference.stretched([reference.cosine(self.query[0], k) for k in self.key[1:]]))


def cases(model: nn.Module, single: bool = False) -> tuple[ImageTextScore, Tensor, list[Last]]:
    """A score, two images, and what the last block has of each."""
    x = images((40, 24)).double()
    score = ImageTextScore(model, captions())
    return score, x, [Last(model, one, score.text_features[TARGET], single) for one in x]


def ask(method: Any, inputs: Tensor, **options: Any) -> Tensor:
    """Maps of the target as rows of tokens, ``(N, L)`` or ``(N, heads, L)``; they are neither constant nor zero."""
    maps: Tensor = method.attribute(inputs, target=TARGET, **options)
    assert varies(maps)
    return maps.flatten(-2).squeeze(1) if inputs.is_floating_point() else maps


def same(maps: Tensor, expected: list[Tensor]) -> bool:
    """Equal to 1e-5 of the largest value."""
    return relative(maps, torch.stack(expected)) < 1e-5


def test_the_evidence_is_the_gradient_at_the_attention_weight(double: nn.Module) -> None:
    """w . v of a head and token says what one more unit of attention to it would add to the score: by differences."""
    for single in (True, False):
        score, x, lasts = cases(double, single)
        heads = "single" if single else "each"
        got = ask(GradECLIP(score, score.layers[-1]), x, heads=heads, spatial_weight="none", **SIGNED)
        for one, map_ in zip(lasts, got):
            slopes = torch.zeros(one.heads, len(one.value), dtype=torch.float64)
            for h in range(one.heads):
                for i, v in enumerate(one.value):
                    step = torch.zeros_like(one.output[0])
                    one.of(step, h)[:] = 1e-5 * one.of(v, h)
                    up, down = (one.read(one.behind(one.output[0] + sign * step)) for sign in (1, -1))
                    slopes[h, i] = ((up - down) / 2e-5).detach()
            assert relative(slopes, one.evidence()) < 1e-6
            assert relative(map_, slopes[:, 1:].squeeze(0)) < 1e-5


@pytest.mark.parametrize("relu", [False, True])
def test_grad_eclip_and_its_ablations_weigh_the_same_evidence(double: nn.Module, relu: bool) -> None:
    score, x, own = cases(double)
    _, _, single = cases(double, single=True)
    method = GradECLIP(score, score.layers[-1])

    def closed(values: Tensor) -> Tensor:
        return values.clamp(min=0) if relu else values

    for options, lasts, expected in (
        ({}, single, lambda one: one.loosened() * one.evidence()[0, 1:]),
        ({"spatial_weight": "softmax"}, single, lambda one: (one.attention[0, 0] * one.evidence()[0])[1:]),
        ({"spatial_weight": "none"}, single, lambda one: one.evidence()[0, 1:]),
        ({"heads": "model"}, own, lambda one: one.loosened() * one.evidence().sum(0)[1:]),
        (
            {"heads": "model", "spatial_weight": "softmax"},
            own,
            lambda one: (one.attention[:, 0] * one.evidence()).sum(0)[1:],
        ),
        ({"heads": "model", "spatial_weight": "none"}, own, lambda one: one.evidence().sum(0)[1:]),
        ({"heads": "each", "spatial_weight": "softmax"}, own, lambda one: (one.attention[:, 0] * one.evidence())[:, 1:]),
    ):
        got = ask(method, x, relu_attributions=relu, **options)
        assert same(got, [closed(expected(one)) for one in lasts]), options


def test_gradient_times_attention_adds_up_to_gradient_times_output(double: nn.Module) -> None:
    """Own heads with the softmax weight: attention times its gradient, over all heads, and nothing is lost but token 0."""
    score, x, lasts = cases(double)
    got = ask(GradECLIP(score, score.layers[-1]), x, heads="model", spatial_weight="softmax", **SIGNED)
    for one, map_ in zip(lasts, got):
        attention = one.attention[:, 0].clone().requires_grad_()
        output = torch.cat([attention[h] @ one.of(one.value, h) for h in range(one.heads)])
        (slope,) = torch.autograd.grad(one.read(one.behind(output)), attention)
        product = (attention * slope).detach()
        assert relative(map_, product.sum(0)[1:]) < 1e-5
        assert abs(float(product.sum() - one.gradient() @ one.output[0])) < 1e-9


@pytest.mark.parametrize("tower", ["image", "text"])
def test_game_is_the_mean_of_grad_eclip_heads_with_softmax_weight(double: nn.Module, tower: str) -> None:
    """The attention route: in GAME on the last layer, only the place of the ReLU differs from own heads with softmax."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions()) if tower == "image" else TextImageScore(double, x)
    inputs = x if tower == "image" else captions()
    method = GradECLIP(score, score.layers[-1])
    game = ask(GAME(score, score.layers[-1]), inputs)
    each = ask(method, inputs, heads="each", spatial_weight="softmax")
    if tower == "text":  # GAME starts from the identity: the token that is read is relevant for itself
        read = score.readout.rows(inputs)[:, None]
        assert relative(game.gather(1, read), 1 + each.mean(1).gather(1, read)) < 1e-5
        game, each = game.scatter(1, read, 0.0), each.scatter(2, read[:, None].expand(-1, each.shape[1], -1), 0.0)
    assert relative(game, each.mean(dim=1)) < 1e-5
    signed = ask(method, inputs, heads="model", spatial_weight="softmax", **SIGNED)
    if tower == "image":
        heads = each.shape[1]
        assert (heads * game >= signed.clamp(min=0) - 1e-6).all(), "heads that disagree cancel before the ReLU only"
        assert relative(heads * game, signed.clamp(min=0)) > 1e-2


def test_of_a_model_with_one_head_game_is_grad_eclip_with_softmax_weight() -> None:
    from open_clip.model import CLIP

    torch.manual_seed(0)
    model = stir(CLIP(24, {**VIT, "head_width": 48}, {**TEXT, "heads": 1})).double()
    score, x = ImageTextScore(model, captions()), images((40, 24)).double()
    game = ask(GAME(score, score.layers[-1]), x)
    for heads in ("single", "model", "each"):
        method = GradECLIP(score, score.layers[-1])
        assert relative(ask(method, x, heads=heads, spatial_weight="softmax"), game) < 1e-5
        assert relative(ask(method, x, heads=heads), game) > 1e-2, "the loosened weight is another one"


def test_raw_attention_is_the_spatial_weight_alone(double: nn.Module) -> None:
    """The softmax weight without its evidence: it knows no target."""
    score, x, lasts = cases(double)
    assert same(ask(RawAttention(score, score.layers[-1]), x), [one.attention[:, 0].mean(0)[1:] for one in lasts])


def test_legrads_last_term_reads_all_rows_with_the_relu_of_each(double: nn.Module) -> None:
    """No spatial weight, own heads, the mean token is read, and ReLU stands in front of both means."""
    score, x, lasts = cases(double)
    expected = []
    for one in lasts:
        output = one.output.clone().requires_grad_()
        mean = torch.stack([one.behind(row, number) for number, row in enumerate(output)]).mean(dim=0)
        (w,) = torch.autograd.grad(one.read(mean), output)
        total = torch.zeros(len(one.value), dtype=torch.float64)
        for h in range(one.heads):
            for row in w:
                total += (one.of(one.value, h) @ one.of(row, h)).clamp(min=0)
        expected.append((total / one.heads / len(w)).detach()[1:])
    assert same(ask(LeGrad(score, score.layers[-1]), x), expected)


def test_mask_clip_puts_the_value_in_the_place_of_the_output(double: nn.Module) -> None:
    """MaskCLIP reads each patch's own stream plus its value; w . v is the slope along that value in the class token's."""
    score, x, lasts = cases(double)
    got = ask(MaskCLIP(score, score.layers[-1]), x)
    assert same(got, [torch.stack([one.read(one.behind(v, i)) for i, v in enumerate(one.value) if i]) for one in lasts])
    evidence = ask(GradECLIP(score, score.layers[-1]), x, heads="model", spatial_weight="none", **SIGNED)
    for one, map_ in zip(lasts, evidence):
        slopes = []
        for v in one.value[1:]:
            share = torch.zeros((), dtype=torch.float64, requires_grad=True)
            slopes.append(torch.autograd.grad(one.read(one.behind(one.output[0] + share * v)), share)[0])
        assert relative(map_, torch.stack(slopes)) < 1e-5


def test_of_an_attention_pool_the_evidence_is_mask_clip_less_what_points_at_the_image() -> None:
    r"""There the features are linear in the output, so both are one formula, without any approximation.

    With :math:`y_i = W v_i + b` the features of a patch and :math:`f` those of the image, :math:`w \cdot v_i` is
    :math:`(|y_i| (M_i - S \cos(f, y_i)) - (t - S f / |f|) \cdot b) / |f|`, where :math:`M_i` is MaskCLIP.
    """
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["open_clip ResNet"].build()).double()
    x = images((96, 128)).double()
    score = ImageTextScore(model, captions())
    pool, t = model.visual.attnpool, score.text_features[TARGET]
    mask_clip = ask(MaskCLIP(score, score.layers[-1]), x)
    evidence = ask(GradECLIP(score, score.layers[-1]), x, heads="model", spatial_weight="none", **SIGNED)
    with torch.no_grad():
        for number in range(len(x)):
            f, (layer,), _ = reference.resnet_pass(model.visual, x[number], single=False)
            s, unit = reference.cosine(f, t), f / f.norm()
            expected = []
            for i, v in enumerate(layer.v[1:]):
                y = pool.c_proj(v)
                own = y.norm() * (mask_clip[number, i].double() - s * reference.cosine(f, y))
                expected.append((own - (t - s * unit) @ pool.c_proj.bias) / f.norm())
            assert relative(evidence[number], torch.stack(expected)) < 1e-5
