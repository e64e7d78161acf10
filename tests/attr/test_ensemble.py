"""Ensembles: the sum of what their readings give by themselves, each over its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ClassScore, GradECLIP, ImageTextScore, InputSpaceAttribution, TextImageScore
from captum_gradeclip.attr import GAME, RISE, Ensemble, GradECLIPReadings, NotDefinedError, Options
from captum_gradeclip.attr.ensemble import Reading

from ..conftest import DUAL, FAMILIES, captions, images, relative, stir, varies

OWN = {"heads": "model", "spatial_weight": "softmax"}


def over_deviation(maps: Tensor, image: bool) -> Tensor:
    flat = maps.double().flatten(2) if image else maps.double()
    scale = flat.std(dim=-1, correction=0) if image else flat.square().mean(dim=-1).sqrt()
    return maps.double() / scale.reshape(*maps.shape[:2], *[1] * (maps.dim() - 2))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", DUAL[::5])
def test_both_readings(name: str, signed: bool) -> None:
    torch.manual_seed(0)
    family = FAMILIES[name]
    model = stir(family.build())
    x, options = images(family.size), {"relu_attributions": not signed}
    for score, inputs in ((ImageTextScore(model, captions()), x), (TextImageScore(model, x), captions())):
        method, one = GradECLIPReadings.for_score(score), GradECLIP.for_score(score)
        assert list(method.layer) == list(one.layer)
        parts = [one.attribute_targets(inputs, **given, **options) for given in ({}, OWN)]
        expected = sum(over_deviation(part, inputs is x) for part in parts)
        found = method.outcome(inputs, **options)
        assert found.maps is not None and relative(found.maps, expected) < 1e-4
        assert varies(found.maps[:, 0]) and found.explained_scores is not None
        assert relative(found.explained_scores, one.outcome(inputs).explained_scores) < 1e-6
        alone = method.attribute(inputs, target=1, **options)
        assert relative(alone.squeeze(1), expected[:, 1]) < 1e-4
        assert relative(method.attribute_targets(inputs, chunk_size=1, **options), expected) < 1e-4


def test_padding_has_no_weight(vit: nn.Module) -> None:
    score, tokens = TextImageScore(vit, images((32, 32))), captions()
    method = GradECLIPReadings.for_score(score)
    maps = method.attribute(tokens, target=0)
    ends = tokens.argmax(dim=1).tolist()
    assert all(not one[end + 1 :].any() for one, end in zip(maps, ends))
    for row, end in enumerate(ends):  # each alone, so that the pass leaves other positions out
        assert relative(method.attribute(tokens[row : row + 1], target=0), maps[row : row + 1]) < 1e-4
        assert maps[row, : end + 1].std() > 0


def test_of_different_methods(vit: nn.Module) -> None:
    class Mixed(Ensemble[Options]):
        """Three methods, one of which looks at no layer."""

        info = replace(GradECLIP.info, name="mixed", text=False)

        def readings(self, options: Options) -> Sequence[Reading]:
            return [(GAME, {}), (GradECLIP, OWN), (GradECLIP, {"spatial_weight": "none"})]

    score, x = ImageTextScore(vit, captions()), images((40, 24))
    got = Mixed(score, score.layers[-1:]).attribute_targets(x)
    parts = [GAME(score, score.layers[-1:]).attribute_targets(x)]
    parts += [GradECLIP(score, score.layers[-1:]).attribute_targets(x, **o) for o in (OWN, {"spatial_weight": "none"})]
    assert relative(got, sum(over_deviation(part, True) for part in parts)) < 1e-4
    assert InputSpaceAttribution(Mixed(score, score.layers[-1:])).attribute(x, target=0).shape == x.shape

    class Pixels(Ensemble[Options]):
        info = replace(GradECLIP.info, name="pixels")

        def readings(self, options: Options) -> Sequence[Reading]:
            return [(RISE, {"n_masks": 4}), (GradECLIP, {})]

    with pytest.raises(ValueError, match=r"maps: expected one shape|maps"):
        Pixels(score, score.layers[-1:]).attribute(x, target=0)
    pool = ImageTextScore(stir(FAMILIES["open_clip ResNet"].build()), captions())
    with pytest.raises(NotDefinedError, match="GAME"):
        Mixed(pool, pool.layers).attribute(images((96, 96)), target=0)


def test_of_a_classifier_and_with_a_graph(vit: nn.Module) -> None:
    family = FAMILIES["timm ViT"] if "timm ViT" in FAMILIES else FAMILIES["torchvision ViT"]
    score = ClassScore(stir(family.build()))
    assert varies(GradECLIPReadings.for_score(score).attribute(images(family.size), target=1))
    text = ImageTextScore(vit, captions())
    x = images((32, 32)).requires_grad_()
    kept = GradECLIPReadings.for_score(text).attribute(x, target=1, grad_kwargs={"create_graph": True})
    assert torch.autograd.grad(kept.square().sum(), x)[0].abs().max() > 0
