"""A score minus another one: the same map as the difference of two maps, whatever the score is held against."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ClassScore, ContrastScore, GradECLIP, ImageTextScore, TextImageScore, scenes
from captum_gradeclip.adapters import Family
from captum_gradeclip.attr import METHODS, CLIPSurgery, NotDefinedError
from captum_gradeclip.scores import ImageScore
from tests.conftest import FAMILIES, relative, scores, sizes, stir

SIGNED: dict[str, Any] = {"relu_attributions": False}


def others(x: Tensor) -> Tensor:
    """The mean of the other columns, literally."""
    columns = range(x.shape[1])
    return torch.stack([torch.stack([x[:, o] for o in columns if o != t]).mean(dim=0) for t in columns], dim=1)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_signed_map_is_the_difference_of_two_maps(name: str) -> None:
    family: Family = FAMILIES[name]
    model = stir(family.build())
    for score, inputs, layers in scores(model, family, sizes(family)[0]):
        chosen = score.layers[-layers:]
        maps = GradECLIP(score, chosen).attribute_targets(inputs, **SIGNED)
        for against, expected in ((1, maps - maps[:, 1:2]), (None, maps - others(maps))):
            contrast = ContrastScore(score, against)
            assert isinstance(contrast, ImageScore) == isinstance(score, ImageScore)
            assert relative(GradECLIP(contrast, chosen).attribute_targets(inputs, **SIGNED), expected) < 1e-4
            assert [*GradECLIP.default_layers(contrast)] == [*GradECLIP.default_layers(score)]


@pytest.fixture(scope="module")
def score() -> ImageTextScore:
    model, _, tokenizer = scenes.load()
    return ImageTextScore(model, ["a red circle", "a blue circle", "two stars"], tokenizer)


def test_the_difference_is_literal(score: ImageTextScore) -> None:
    images = torch.rand(2, 3, 96, 96)
    cosine = score(images)
    assert torch.equal(ContrastScore(score, 1)(images), cosine - cosine[:, 1:2])
    assert torch.equal(ContrastScore(score, -1)(images), cosine - cosine[:, 2:])
    torch.testing.assert_close(ContrastScore(score)(images), cosine - others(cosine))
    for text in ("a green star", "", "  "):
        if text.strip():
            other = ImageTextScore(score.model, text, score.tokenizer)(images)
        else:
            other = ImageTextScore(score.model, score.empty_features)(images)
        torch.testing.assert_close(ContrastScore(score, text)(images), cosine - other)


def test_every_method_that_differentiates_explains_a_contrast(score: ImageTextScore) -> None:
    images, contrast = torch.rand(2, 3, 96, 96), ContrastScore(score, 1)
    for method in METHODS:
        if not method.info.gradient or method is CLIPSurgery:
            continue
        maps = method.for_score(contrast).attribute(images, target=0)
        assert maps.isfinite().all() and maps.std() > 0, method.__name__
    with pytest.raises(NotDefinedError, match="CLIP Surgery"):
        CLIPSurgery.for_score(contrast).attribute(images, target=0)


def test_a_score_of_texts_and_of_classes() -> None:
    model, _, tokenizer = scenes.load()
    texts = TextImageScore(model, torch.rand(3, 3, 96, 96))
    tokens = tokenizer(["a red circle", "two stars"])
    torch.testing.assert_close(ContrastScore(texts, 0)(tokens), texts(tokens) - texts(tokens)[:, :1])
    classes = ClassScore(FAMILIES["timm ViT"].build().eval())
    images = torch.rand(2, 3, *classes.tower.size)
    torch.testing.assert_close(ContrastScore(classes, 7)(images), classes(images) - classes(images)[:, 7:8])


def test_it_is_copied_pickled_and_moved_like_a_module(score: ImageTextScore) -> None:
    images = torch.rand(1, 3, 96, 96)
    for contrast in (ContrastScore(score, 1), ContrastScore(score, "a green star"), ContrastScore(score)):
        expected = contrast(images)
        for other in (copy.deepcopy(contrast), pickle.loads(pickle.dumps(contrast))):
            assert type(other) is type(contrast) and torch.equal(other(images), expected)
        assert "other_features" not in contrast.state_dict() and isinstance(contrast, nn.Module)


@pytest.mark.parametrize(
    ("against", "error", "message"),
    [
        (3, ValueError, "against: expected the index of one of 3 targets, got 3"),
        (1.5, TypeError, "against: "),
        (True, TypeError, "against: "),
        ("a " * 40, ValueError, "tokens with its marks"),
    ],
)
def test_what_cannot_be_is_refused(score: ImageTextScore, against: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ContrastScore(score, against)(torch.rand(1, 3, 96, 96))


def test_texts_and_means_that_cannot_be_had(score: ImageTextScore) -> None:
    images = torch.rand(1, 3, 96, 96)
    alone = ImageTextScore(score.model, score.text_features[:1])
    with pytest.raises(ValueError, match="one target only"):
        ContrastScore(alone)(images)
    with pytest.raises(ValueError, match="needs a tokenizer"):
        ContrastScore(alone, "a green star")
    ContrastScore(alone, "")(images)  # the marks around a text are known to the adapter
    with pytest.raises(ValueError, match="only an ImageTextScore"):
        ContrastScore(TextImageScore(score.model, images), "a green star")
    wrong: Any = lambda images: images  # noqa: E731
    with pytest.raises(TypeError, match="score: expected a score of this package"):
        ContrastScore(wrong)


def test_a_contrast_tells_two_things_apart(score: ImageTextScore) -> None:
    """Red and blue circles: the signed map is positive on the one and negative on the other."""
    model, preprocess, tokenizer = scenes.load()
    told = ImageTextScore(model, ["a red circle", "a blue circle"], tokenizer)
    method = GradECLIP.for_score(ContrastScore(told, against=1))
    hits = []
    for number in range(20):
        things = [
            scenes.Thing(color, "circle", scenes.MATERIALS[0], "large", x=x, y=0.5, radius=0.16, angle=0.0)
            for color, x in (("red", 0.27), ("blue", 0.73))
        ]
        picture, masks = scenes.draw(scenes.Scene(tuple(things), number), 96)
        signed = method.attribute(preprocess(picture)[None], target=0, **SIGNED)
        at = nn.functional.interpolate(signed, size=(96, 96), mode="bilinear")[0, 0]
        red, blue = (float(at[torch.as_tensor(mask)].mean()) for mask in masks)
        hits.append(red > 0 > blue)
    assert sum(hits) >= 17
