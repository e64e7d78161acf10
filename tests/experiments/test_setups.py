"""Setups: what the released one keeps of the published code where the defaults of a method have moved away from it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, scenes
from captum_gradeclip.attr import GradECLIPWithoutWeight
from captum_gradeclip.experiments import FAIR, RELEASED, Setup
from captum_gradeclip.experiments.explainers import Batch, Explainer
from captum_gradeclip.scores import ModelScore

TEXTS = ["a picture of the red circle", "there is a blue star", "two stripes of orange paper"]


def batch_of(score: ModelScore, inputs: Tensor) -> Batch:
    return Batch(score, inputs, targets=[0, 1, 1], seeds=[0, 1, 2])


@pytest.fixture(scope="module")
def texts() -> Batch:
    model, preprocess, tokenizer = scenes.load()
    pixels = torch.stack([preprocess(item.image) for item in scenes.SceneDataset(2, "validation", counts=(3,))])
    return batch_of(TextImageScore(model, pixels), tokenizer(TEXTS))


@pytest.fixture(scope="module")
def pictures() -> Batch:
    model, preprocess, tokenizer = scenes.load()
    pixels = torch.stack([preprocess(item.image) for item in scenes.SceneDataset(3, "validation", counts=(3,))])
    return batch_of(ImageTextScore(model, TEXTS[:2], tokenizer), pixels)


def maps_of(setup: Setup, kind: type[GradECLIP], batch: Batch, layers: int | None = None) -> list[Tensor]:
    explainer = Explainer(kind, setup, layers=layers)
    return [explainer.explain(batch), explainer.explain_all(batch)]


@pytest.mark.parametrize("kind", [GradECLIP, GradECLIPWithoutWeight])
@pytest.mark.parametrize("layers", [None, 4])
def test_released_word_maps_are_the_sum_before_relu_to_the_last_bit(
    texts: Batch, kind: type[GradECLIP], layers: int | None
) -> None:
    method = kind(texts.score, texts.score.layers[-(layers or 8) :])
    keys = {"key_tokens": "all"} if kind is GradECLIP else {}
    asked = {"relu_before_sum": False, **keys}
    expected = [
        method.attribute(texts.inputs, list(texts.targets), **asked),
        method.attribute_targets(texts.inputs, list(texts.targets), **asked),
    ]
    for one, other in zip(maps_of(RELEASED, kind, texts, layers), expected):
        assert torch.equal(one, other)
    signed = method.attribute(texts.inputs, list(texts.targets), relu_attributions=False, **keys)
    assert torch.equal(expected[0], signed.relu()), "ReLU of the sum over the layers, as the released code has it"
    for one, other in zip(maps_of(FAIR, kind, texts, layers), expected):
        assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", [GradECLIP, GradECLIPWithoutWeight])
def test_of_one_layer_the_order_of_relu_and_sum_is_no_matter(texts: Batch, kind: type[GradECLIP]) -> None:
    for number in (-1, 0):
        method = kind(texts.score, texts.score.layers[number])
        for options in ({}, {"heads": "model"}, {"relu_attributions": False}):
            one, other = (method.attribute(texts.inputs, 0, relu_before_sum=order, **options) for order in (True, False))
            assert torch.equal(one, other) and one.abs().sum() > 0


def test_pictures_had_this_order_before(pictures: Batch) -> None:
    for setup in (FAIR, RELEASED):
        method = GradECLIP(pictures.score, pictures.score.layers[-2:])
        options = {"similarity": "projected"} if setup is RELEASED else {}
        expected = method.attribute(pictures.inputs, list(pictures.targets), relu_before_sum=True, **options)
        assert torch.equal(maps_of(setup, GradECLIP, pictures, layers=2)[0], expected)
    plain = method.attribute(pictures.inputs, list(pictures.targets))
    assert not torch.allclose(plain, expected), "the scripts compare queries and keys behind the output projection"
