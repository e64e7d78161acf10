"""Word and region: the identities of a bilinear form on every dual encoder, and the equations written out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, WordRegionAttribution, adapters, scenes
from captum_gradeclip.adapters import Family
from captum_gradeclip.experiments.findings.contrast import Lookalikes
from captum_gradeclip.metrics import pointing_game

from .. import reference
from ..conftest import CONTEXT, DUAL, FAMILIES, captions, fingerprint, images, relative, sizes, varies

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
    tensor = method.attribute(x, tokens, text_weight=weight, image_weight=weight, neighbors=0)
    total = method.directions(tokens, text_weight=weight, neighbors=0).sum(dim=1)
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
    got = WordRegionAttribution(model).attribute(x, tokens, text_weight=weight, image_weight=weight, neighbors=0)
    assert relative(got, expected) < 2e-5


def test_a_batch_equals_its_items_and_the_model_stays_as_it_is(model: nn.Module, family: Family) -> None:
    x, tokens = images(family.size, 3), captions()
    method, before = WordRegionAttribution(model), fingerprint(model)
    together = method.attribute(x, tokens)
    assert fingerprint(model) == before
    for i in range(3):
        assert relative(together[i : i + 1], method.attribute(x[i : i + 1], tokens[i : i + 1])) < 1e-4
    assert relative(method.attribute(x, tokens, max_memory=1), together) < 1e-4


def test_both_weights_are_the_mean_of_two_maps_of_one_size(model: nn.Module, family: Family) -> None:
    x, tokens = images(sizes(family)[-1], 3), captions()
    method = WordRegionAttribution(model)
    alone = [method.attribute(x, tokens, image_weight=weight) for weight in ("softmax", "loosened")]
    sizes_of = [one.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() for one in alone]
    expected = (alone[0] + alone[1] * sizes_of[0] / sizes_of[1]) / 2
    before = fingerprint(model)
    assert relative(method.attribute(x, tokens), expected) < 1e-4
    assert fingerprint(model) == before


@pytest.mark.parametrize("image_weight", WEIGHTS)
@pytest.mark.parametrize("text_weight", ["loosened", "none", pytest.param("softmax", marks=pytest.mark.slow)])
def test_the_equations_written_out(double: Any, text_weight: str, image_weight: str) -> None:
    """In float64: for each word, each patch and each feature the two first-order terms, multiplied and added up."""
    x, tokens = images((32, 32)).double(), captions(count=2)
    options = {"text_weight": text_weight, "image_weight": image_weight, "neighbors": 0}
    got = WordRegionAttribution(double).attribute(x, tokens, **options)
    for item in range(2):
        words = _terms(*reference.text_pass(double, tokens[item], 8, text_weight != "softmax"), text_weight, first=0)
        regions = _terms(*reference.image_pass(double.visual, x[item], 1, image_weight != "softmax"), image_weight, first=1)
        for word, patch in itertools.product((1, 3), (0, 7, 15)):
            expected = sum(words[d][word] * regions[d][patch] for d in range(len(words)))
            assert float(got[item, word].flatten()[patch]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_neighbors_and_both_weights_written_out(double: Any) -> None:
    """In float64: directions of other words, weighed by the first layer's attention; two maps of one size, averaged."""
    x, tokens = images((32, 32)).double(), captions(count=2)
    method = WordRegionAttribution(double)
    alone, got = method.directions(tokens, neighbors=0), method.directions(tokens, neighbors=0.5)
    for item in range(2):
        _, layers, end = reference.text_pass(double, tokens[item], 8, single=False)
        attention = layers[0].attention
        for i in range(CONTEXT):
            expected = alone[item, i].clone()
            for j in range(1, end):  # between the marks
                if 0 < i < end and i != j:
                    both = sum(max(float(head[a, b]) for head in attention.detach()) for a, b in ((i, j), (j, i)))
                    expected += 0.5 * both * alone[item, j]
            assert relative(got[item, i], expected) < 1e-6
    softmax, loosened = (method.attribute(x, tokens, image_weight=weight) for weight in ("softmax", "loosened"))
    together = method.attribute(x, tokens)
    for item in range(2):
        factor = (float((softmax[item] ** 2).sum()) / float((loosened[item] ** 2).sum())) ** 0.5
        assert relative(together[item], (softmax[item] + factor * loosened[item]) / 2) < 1e-6


def test_a_word_that_stands_twice_is_told_apart() -> None:
    """Either "circle" points at the circle of its own color in most scenes, which the word alone cannot know."""
    model, preprocess, tokenizer = scenes.load()
    method, hits = WordRegionAttribution(model, tokenizer), {1.5: 0, 0: 0}
    data = Lookalikes(20, "evaluation", 0, 96)
    items = [data[index] for index in range(20)]
    x = torch.stack([preprocess(item.image) for item in items])
    texts = [" and ".join(f"a {one.colour} {one.shape}" for one in item.scene.things) for item in items]
    for neighbors in hits:
        maps = method.attribute(x, texts, neighbors=neighbors)
        for place, number in ((3, 0), (7, 1)):
            masks = torch.stack([item.masks[number] for item in items])
            hits[neighbors] += int(pointing_game(maps[:, place], masks).sum())
    assert hits[1.5] >= 28 and hits[1.5] > hits[0]


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
