"""Word and region: the identities of a bilinear form on every dual encoder, and the equations written out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, WordRegionAttribution, adapters, scenes
from captum_gradeclip.adapters import Family

from .. import reference
from ..conftest import DUAL, FAMILIES, captions, fingerprint, images, relative, sizes, varies

WEIGHTS = ("softmax", "loosened", "none")


@pytest.fixture(params=DUAL, scope="module")
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def _options(weight: str) -> dict[str, Any]:
    return {"spatial_weight": weight, "heads": "model" if weight == "softmax" else "single", "relu_attributions": False}


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_sum_over_words_is_the_map_of_what_they_contribute(model: nn.Module, family: Family, weight: str) -> None:
    x, tokens = images(sizes(family)[-1], 3), captions()
    method = WordRegionAttribution(model)
    tensor = method.attribute(x, tokens, text_weight=weight, image_weight=weight)
    total = method.directions(tokens, text_weight=weight).sum(dim=1)
    score = ImageTextScore(model, total)
    maps = GradECLIP.for_score(score).attribute(x, target=[0, 1, 2], **_options(weight))
    assert varies(tensor) and tensor.dtype == torch.float32
    assert relative(tensor.sum(dim=1), maps[:, 0] * total.norm(dim=1)[:, None, None]) < 1e-5


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_tensor_is_the_product_over_the_features(model: nn.Module, family: Family, weight: str) -> None:
    """The signed maps of the D unit directions, of words and of patches, each by D backward passes."""
    x, tokens = images(family.size, 3), captions()
    axes = torch.eye(adapters.text_tower(model).width)
    words = GradECLIP.for_score(TextImageScore(model, axes)).attribute_targets(tokens, **_options(weight))
    regions = GradECLIP.for_score(ImageTextScore(model, axes)).attribute_targets(x, **_options(weight))
    expected = torch.einsum("ndl,ndhw->nlhw", words, regions)
    got = WordRegionAttribution(model).attribute(x, tokens, text_weight=weight, image_weight=weight)
    assert relative(got, expected) < 2e-5


def test_a_batch_equals_its_items_and_the_model_stays_as_it_is(model: nn.Module, family: Family) -> None:
    x, tokens = images(family.size, 3), captions()
    method, before = WordRegionAttribution(model), fingerprint(model)
    together = method.attribute(x, tokens)
    assert fingerprint(model) == before
    for i in range(3):
        assert relative(together[i : i + 1], method.attribute(x[i : i + 1], tokens[i : i + 1])) < 1e-4
    assert relative(method.attribute(x, tokens, max_memory=1), together) < 1e-4


@pytest.mark.parametrize(("text_weight", "image_weight"), list(itertools.product(WEIGHTS, WEIGHTS)))
def test_the_equations_written_out(double: Any, text_weight: str, image_weight: str) -> None:
    """In float64: for each word, each patch and each feature the two first-order terms, multiplied and added up."""
    x, tokens = images((32, 32)).double(), captions(count=2)
    got = WordRegionAttribution(double).attribute(x, tokens, text_weight=text_weight, image_weight=image_weight)
    for item in range(2):
        words = _terms(*reference.text_pass(double, tokens[item], 8, text_weight != "softmax"), text_weight, first=0)
        regions = _terms(*reference.image_pass(double.visual, x[item], 1, image_weight != "softmax"), image_weight, first=1)
        for word, patch in itertools.product((1, 3), (0, 7, 15)):
            expected = sum(words[d][word] * regions[d][patch] for d in range(len(words)))
            assert float(got[item, word].flatten()[patch]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def _terms(features: Tensor, layers: list[Any], row: int, weight: str, *, first: int) -> list[list[float]]:
    """For each unit feature what each token contributes to it, over all layers, read at one row."""
    unit = features / features.norm()
    found = []
    for feature in unit:
        gradients = torch.autograd.grad(feature, [layer.o for layer in layers], retain_graph=True)
        total = torch.zeros(len(layers[0].k) - first, dtype=torch.float64)
        for layer, gradient in zip(layers, gradients):
            seen = range(first, len(layer.k) if first else row + 1)  # a causal tower hides what is behind its end mark
            weights: Any = [1.0] * len(layer.k)
            if weight == "loosened":
                stretched = reference.stretched([reference.cosine(layer.q[row], layer.k[i]) for i in seen])
                weights = [0.0] * first + stretched
            heads = len(layer.attention) if weight == "softmax" else 1
            width = layer.v.shape[1] // heads
            for head, i in itertools.product(range(heads), seen if weight != "none" else range(first, len(layer.k))):
                channels = slice(head * width, (head + 1) * width)
                own = layer.attention[head, row, i] if weight == "softmax" else weights[i]
                total[i - first] += (own * (gradient[row, channels] @ layer.v[i, channels])).detach()
        found.append(total.tolist())
    return found


def test_padding_has_no_region_and_words_may_be_strings() -> None:
    model, preprocess, tokenizer = scenes.load()
    image = preprocess(scenes.SceneDataset(1, "evaluation")[0].image)[None]
    method = WordRegionAttribution(model, tokenizer)
    got = method.attribute(image, "a red circle and a blue star")
    assert torch.equal(got, method.attribute(image, tokenizer(["a red circle and a blue star"])))
    assert got.shape == (1, 24, 12, 12) and not got[0, 9:].any() and got[0, :9].flatten(1).any(dim=1).all()


def test_what_does_not_fit_is_refused(vit: nn.Module) -> None:
    method, x, tokens = WordRegionAttribution(vit), images((32, 32)), captions(count=2)
    with pytest.raises(TypeError, match="tokenizer"):
        method.attribute(x, ["one", "two"])
    with pytest.raises(ValueError, match="images.*tokens"):
        method.attribute(x[:1], tokens)
    with pytest.raises(ValueError, match="inputs.*NaN"):
        method.attribute(x * torch.nan, tokens)
    with pytest.raises(ValueError, match="text_weight.*softmax"):
        method.attribute(x, tokens, text_weight="hard")
    with pytest.raises(TypeError, match="tokens"):
        method.attribute(x, tokens.float())
    with pytest.raises(adapters.UnsupportedModelError):
        WordRegionAttribution(FAMILIES["timm ViT"].build())
