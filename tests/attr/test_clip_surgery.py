"""CLIP Surgery against its second path and its redundant features written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.adapters.base import resize_positions
from captum_gradeclip.attr import (
    CLIPSurgery,
    feature_surgery,
    word_relevance,
)
from captum_gradeclip.attr.base import NotDefinedError
from captum_gradeclip.scores import empty_text

from .. import reference
from ..conftest import FAMILIES, captions, images, relative, stir, varies
from ..reference.towers import before_pool, second_path


@pytest.mark.parametrize("count", [1, 3])
def test_clip_surgery(double: nn.Module, count: int) -> None:
    """The released code multiplies features channel by channel and subtracts the mean over the labels."""
    x = images((40, 24)).double()
    score = ImageTextScore(double, captions())
    method = CLIPSurgery(score, score.layers[-count:])
    dense = method.dense_features(x)
    empty = ImageTextScore(double, empty_text(double)).text_features[0]
    maps = {kind: method.attribute(x, target=[1, 2], redundancy=kind) for kind in ("empty", "labels", "none")}
    own = method.attribute_targets(x, [2, 1], redundancy=score.text_features[0])
    for item, target in enumerate((1, 2)):
        features = second_path(double.visual, x[item], count)
        assert relative(dense[item], features) < 1e-10
        assert torch.allclose(features[0], score.features(x)[item], atol=1e-10)
        unit = torch.stack([one / one.norm() for one in features])
        with torch.no_grad():
            logits = [2 * float(unit[0] @ text) for text in score.text_features]
        p = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
        w = [one / (sum(p) / len(p)) for one in p]
        for i in range(1, len(unit)):
            products = torch.stack([unit[i] * text * weight for text, weight in zip(score.text_features, w)])
            surgery = (products - products.mean(dim=0)).sum(dim=-1)
            place = i - 1
            assert abs(float(maps["labels"][item].flatten()[place] - surgery[target])) < 1e-6
            plain = unit[i] @ score.text_features[target]
            assert abs(float(maps["none"][item].flatten()[place] - plain)) < 1e-6
            assert abs(float(maps["empty"][item].flatten()[place] - (plain - unit[i] @ empty))) < 1e-6
            assert abs(float(own[item, 2 - target].flatten()[place] - (plain - unit[i] @ score.text_features[0]))) < 1e-6
    assert all(varies(one) for one in maps.values())
    released = method.attribute(x, target=[1, 2], redundancy="none", normalization="tokens")
    wrong = features / features.norm(dim=0)
    assert relative(released[1].flatten(), wrong[1:] @ score.text_features[2]) < 1e-5


def test_feature_surgery_by_itself() -> None:
    """Its closed form against the words of the code; labels that say the same leave nothing."""
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (5, 4))
    assert feature_surgery(image, text[:1].expand(4, -1)).abs().max() < 1e-12
    assert feature_surgery(image, text, text).abs().max() < 1e-12
    assert feature_surgery(image, text).sum(dim=-1).abs().max() < 1e-12
    hot = feature_surgery(image, text, temperature=50.0)
    assert relative(hot, feature_surgery(image, text)) > 0.1
    assert torch.equal(feature_surgery(image[None].expand(3, -1, -1), text)[2], feature_surgery(image, text))


def test_what_feature_surgery_refuses() -> None:
    image, text = torch.randn(5, 6), torch.randn(3, 6)
    for arguments, options, message in (
        ((image, text[:, :4]), {}, "text_features: expected finite features"),
        ((image, text * torch.nan), {}, "text_features: expected finite features"),
        ((image, text[:1]), {}, "takes at least two of them"),
        ((image, text), {"temperature": float("nan")}, "takes at least two of them"),
        ((image, text, torch.randn(12)), {}, "redundant_features: expected finite"),
        ((image, text, torch.full((6,), torch.nan)), {}, "redundant_features: expected finite"),
        ((image, text), {"normalization": "rows"}, "normalization: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            feature_surgery(*arguments, **options)


def test_the_tokenizer_knows_the_empty_text() -> None:
    """Where the marks around a text are not known from the model, the tokenizer that came with the texts is asked, once."""
    torch.manual_seed(0)
    model = stir(FAMILIES["transformers Chinese-CLIP"].build())
    asked: list[list[str]] = []

    def tokenizer(texts: list[str]) -> Tensor:
        asked.append(texts)
        return torch.stack(
            [torch.cat([torch.tensor([48]), torch.full((1 + len(one),), 7), torch.tensor([49])])[:4] for one in texts]
        )

    score = ImageTextScore(model, ["a", "b"], tokenizer)
    score = ImageTextScore(model, torch.tensor([[48, 5, 49, 0], [48, 9, 49, 0]]), tokenizer)
    x = images((32, 32))
    method = CLIPSurgery.for_score(score)
    first = method.attribute(x, target=1)
    assert varies(first) and torch.equal(first, method.attribute(x, target=1))
    assert asked.count([""]) == 1
    with pytest.raises(NotDefinedError, match="only known to its tokenizer"):
        CLIPSurgery.for_score(ImageTextScore(model, torch.tensor([[48, 5, 49, 0]]))).attribute(x, target=0)


def test_each_text_among_labels_of_its_own(double: nn.Module) -> None:
    """As if each text had a score of its own, with the same labels behind it."""
    x = images((32, 32)).double()
    score, labels = ImageTextScore(double, captions()), F.normalize(torch.randn(5, 24).double(), dim=1)
    got = CLIPSurgery.for_score(score).attribute_targets(x, redundancy="labels", among=labels)
    for number, text in enumerate(score.text_features):
        alone = ImageTextScore(double, torch.cat([text[None], labels]))
        expected = CLIPSurgery.for_score(alone).attribute(x, target=0, redundancy="labels")
        assert relative(got[:, number], expected[:, 0]) < 1e-5
    assert varies(got[:, 0]) and relative(got, CLIPSurgery.for_score(score).attribute_targets(x, redundancy="labels")) > 1e-2
    for options in ({"among": labels}, {"redundancy": "labels", "among": labels[0]}):
        with pytest.raises(ValueError, match="among: expected features"):
            CLIPSurgery.for_score(score).attribute(x, target=0, **options)  # type: ignore[arg-type]


def test_clip_surgery_of_a_resnet() -> None:
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["open_clip ResNet"].build()).double()
    x = images((96, 128)).double()
    score = ImageTextScore(model, captions())
    dense = CLIPSurgery(score, score.layers[-1]).dense_features(x)
    pool = model.visual.attnpool
    assert torch.allclose(dense[:, 0], score.features(x), atol=1e-10)
    for item in range(len(x)):
        bare = before_pool(score, pool, x[item : item + 1])
        tokens = bare.flatten(1).T
        tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        v = pool.v_proj(tokens + resize_positions(pool.positional_embedding, (side, side), bare.shape[-2:]))
        width = v.shape[1] // pool.num_heads
        heads = []
        for one in v.split(width, dim=1):
            unit = one / (one.norm(dim=1, keepdim=True) + 1e-6)
            # attend divides by the square root of the width; the pool's scale is eight times that
            heads.append(reference.attend(8**0.5 * unit, 8**0.5 * unit, one, 1, causal=False)[0])
        expected = pool.c_proj(torch.cat(heads, dim=1))[1:].detach()
        assert relative(dense[item, 1:], expected) < 1e-8
        # as released, the class token too has its query and keys from the values' weights
        released = CLIPSurgery(score, score.layers[-1]).dense_features(x, pool_query="value")
        asked = pool.c_proj(reference.attend(v, v, v, pool.num_heads, causal=False)[0])[0].detach()
        assert relative(released[item, 0], asked) < 1e-8 and torch.equal(released[:, 1:], dense[:, 1:])
        # and, since a switch of that code is never set, its values are compared as they are
        plain = CLIPSurgery(score, score.layers[-1]).dense_features(x, pool_query="value", pool_values="plain")
        every = pool.c_proj(reference.attend(v, v, v, pool.num_heads, causal=False)[0]).detach()
        assert relative(plain[item], every) < 1e-8 and relative(plain[item, 1:], expected) > 1e-2
    assert varies(CLIPSurgery(score, score.layers[-1]).attribute(x, target=1))


def test_what_clip_surgery_refuses(double: nn.Module) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    for layers in (score.layers[:-1], score.layers[-1].attn, score.layers[::-1]):
        with pytest.raises(ValueError, match="the last blocks of the image tower"):
            CLIPSurgery(score, layers).attribute(x, target=0)
    method = CLIPSurgery(score, score.layers[-2:])
    for options, message in (
        ({"redundancy": "some"}, "redundancy: expected a Tensor or one of"),
        ({"redundancy": torch.zeros(3)}, "redundancy, redundant_features: expected finite features"),
        ({"normalization": "rows"}, "normalization: expected one of"),
        ({"pool_query": "key"}, "pool_query: expected one of"),
        ({"pool_query": "value"}, "pool_query: this tower has no attention pool"),
        ({"pool_values": "plain"}, "pool_values: this tower has no attention pool"),
        ({"additional_forward_args": 1}, "additional_forward_args: CLIP Surgery"),
    ):
        with pytest.raises(ValueError, match=message):
            method.attribute(x, target=0, **options)


def test_words_in_the_manner_of_clip_surgery(double: Any) -> None:
    """Each token read by the last norm and the projection, one text at a time."""
    x, tokens = images((32, 32)).double(), captions()
    score = TextImageScore(double, x)
    got = word_relevance(score, tokens)
    empty = ImageTextScore(double, empty_text(double)).text_features[0]
    for text in range(len(tokens)):
        stream = double.token_embedding(tokens[text]) + double.positional_embedding
        stream, _ = reference.blocks(stream, double.transformer, 0, False, causal=True)
        end = int(tokens[text].argmax())
        for j in range(end + 1):
            feature = double.ln_final(stream[j]) @ double.text_projection
            for image in range(len(x)):
                expected = (score.image_features[image] @ (feature / feature.norm() - empty)).detach()
                assert abs(float(got[text, image, j] - expected)) < 1e-6
        assert not got[text, :, end + 1 :].any()


def test_words_of_a_text_that_ends_with_its_mark() -> None:
    torch.manual_seed(0)
    score = TextImageScore(stir(FAMILIES["transformers CLIP"].build()), images((32, 32)))
    tokens = captions()[2:3]
    assert relative(word_relevance(score, tokens[:, :7]), word_relevance(score, tokens)[..., :7]) < 1e-4
