"""M2IB against Adam and the bottleneck written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.adapters.base import CONTEXT, END, START, VOCABULARY
from captum_gradeclip.attr import M2IB
from captum_gradeclip.attr.m2ib import encode_wrapped, kl_divergence

from .. import reference
from ..conftest import FAMILIES, captions, images, relative, stir, varies
from ..reference.bottleneck import slow_bottleneck
from ..reference.records import both


@pytest.mark.parametrize("steps", [1, 3])
def test_m2ib(double: Any, steps: int) -> None:
    """Adam and the bottleneck written out, one example and one copy at a time, for images and texts."""
    options = {"steps": steps, "copies": 3, "seed": 4, "beta": 2.0}
    for score, inputs, first in both(double):
        number = len(score.layers) - 3
        got = M2IB(score, score.layers[number]).attribute(inputs, target=1, **options)
        for item in range(len(inputs)):
            expected = slow_bottleneck(double, score, inputs[item], number, steps)
            assert relative(got[item].flatten(), expected[first:]) < 1e-5
        assert varies(got)
        again = M2IB(score, score.layers[number]).attribute(inputs, target=1, **{**options, "seed": 5})
        assert torch.equal(got, again) == (steps == 1)  # the noise of a step moves the next one


@pytest.fixture(scope="module")
def square() -> Any:
    """A CLIP whose text projection has as many rows as columns, as those of ViT-B-16 and ViT-L-14 do."""
    torch.manual_seed(0)
    from open_clip import CLIP

    text = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 3, "width": 24, "heads": 4}
    return stir(CLIP(24, {"image_size": 32, "patch_size": 8, "layers": 2, "width": 48, "head_width": 12}, text)).double()


def test_m2ib_under_the_wrapper_of_the_released_code(square: Any) -> None:
    """No causal mask, no padding, and the projection twice."""
    tokens = captions()
    score = TextImageScore(square, images((32, 32)).double())
    options = {"steps": 3, "copies": 3, "seed": 4, "beta": 2.0}
    got = M2IB(score, score.layers[0]).attribute(tokens, target=1, wrapper_bug=True, **options)
    for item in range(len(tokens)):
        expected = slow_bottleneck(square, score, tokens[item], 0, 3, wrapper=True)
        assert relative(got[item], expected) < 1e-5
    assert varies(got) and relative(got, M2IB(score, score.layers[0]).attribute(tokens, target=1, **options)) > 0.01


def test_features_of_the_wrapper(square: Any) -> None:
    features = encode_wrapped(square, captions())
    assert features.requires_grad
    for one, got in zip(captions(), features):
        x = square.token_embedding(one[: int(one.argmax()) + 1])
        x = x + square.positional_embedding[: len(x)]
        x, _ = reference.blocks(x, square.transformer, 0, single=False, causal=False)
        expected = square.ln_final(x[-1]) @ square.text_projection @ square.text_projection
        assert relative(got, expected) < 1e-8
    assert ImageTextScore(square, features)(images((32, 32)).double()).shape[1] == len(features)


def test_features_of_the_wrapper_do_not_see_padding() -> None:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    words = {"bos_token_id": START, "eos_token_id": END, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT}
    image = {**small, "image_size": 32, "patch_size": 8}
    model = stir(CLIPModel(CLIPConfig(text_config={**small, **words}, vision_config=image, projection_dim=48)))
    long = captions()[2:3]
    short = long[:, : int(long.argmax()) + 1]
    assert short.shape[1] < long.shape[1]
    with torch.no_grad():
        assert relative(encode_wrapped(model, long), encode_wrapped(model, short)) < 1e-5


def test_where_there_is_no_wrapper(double: Any) -> None:
    score = TextImageScore(double, images((32, 32)).double())
    with pytest.raises(ValueError, match="wrapper_bug: the text tower has to be CLIP's own"):
        M2IB(score, score.layers[0]).attribute(captions(), target=0, wrapper_bug=True)
    image = ImageTextScore(double, captions())
    with pytest.raises(ValueError, match="bind wrapper_features"):
        M2IB(image, image.layers[0]).attribute(images((32, 32)).double(), target=0, wrapper_bug=True)


def test_as_many_copies_as_tokens() -> None:
    """Which dimension holds the examples is learned before there are copies."""
    torch.manual_seed(0)
    model = stir(FAMILIES["transformers CLIP"].build())
    tokens = captions()[2:3, :7]  # ends with its mark
    score = TextImageScore(model, images((32, 32)))
    padded = M2IB(score, score.layers[-3]).attribute(captions()[2:3], target=0, copies=7)
    assert relative(M2IB(score, score.layers[-3]).attribute(tokens, target=0, copies=7), padded[:, :7]) < 0.2  # other noise


def test_a_part_of_a_block_stands_for_the_block(double: Any) -> None:
    score, x = ImageTextScore(double, captions()), images((40, 24)).double()
    whole, part = (M2IB(score, layer).attribute(x, target=1, steps=2) for layer in (score.layers[0], score.layers[0].attn))
    assert torch.equal(whole, part)


def test_m2ib_is_seeded_stops_early_and_refuses(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    method = M2IB(score, score.layers[1])
    state = torch.get_rng_state()
    first = method.attribute(x, target=1)
    assert torch.equal(first, method.attribute(x, target=1)) and torch.equal(state, torch.get_rng_state())
    # nothing is done before the tenth step, and then everything, if any change will do
    assert torch.equal(method.attribute(x, target=1, tolerance=1e9, steps=30), first)
    options = {"target": 1, "tolerance": 0.05, "steps": 60, "copies": 5}
    both = method.attribute(x, **options)
    for item in range(len(x)):
        assert relative(method.attribute(x[item : item + 1], **options), both[item : item + 1]) < 1e-5
    assert not torch.equal(both, method.attribute(x, target=1, steps=60, copies=5)), "none was done early"
    # on the CPU, two examples go through the model at once here, then the third; each keeps its own target
    three = torch.cat([x, x[:1].flip(-1)])
    many: dict[str, Any] = {"copies": 300, "steps": 2}
    few = method.attribute(three, target=[0, 2, 1], **many)
    for item, target in enumerate((0, 2, 1)):
        assert relative(method.attribute(three[item : item + 1], target=target, **many), few[item : item + 1]) < 1e-5
    with pytest.raises(AssertionError, match="target: expected one for each of the 3 inputs"):
        method.attribute(three, target=[0, 1])
    for options, message in (({"steps": 0}, "steps: expected at least 1"), ({"beta": 0.0}, "beta: expected above 0")):
        with pytest.raises(ValueError, match=message):
            method.attribute(x, target=1, **options)
    with pytest.raises(ValueError, match="M2IB has one bottleneck, got 2 layers"):
        M2IB(score, score.layers[:2]).attribute(x, target=1)
    with pytest.raises(ValueError, match="ran 0 times"):
        M2IB(score, nn.Linear(2, 2)).attribute(x, target=1)


def test_information_is_a_divergence() -> None:
    """Against torch's own between two normal distributions."""
    z, passed = torch.randn(50, dtype=torch.float64), torch.rand(50, dtype=torch.float64) * 0.99
    normal = torch.distributions.Normal(passed * z, 1 - passed)
    standard = torch.distributions.Normal(torch.zeros(50, dtype=torch.float64), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(kl_divergence(z, passed), torch.distributions.kl_divergence(normal, standard))
