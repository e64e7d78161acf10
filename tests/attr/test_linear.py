"""More targets than features: the maps of all of them follow from those of the features, by one product."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import METHODS, GradECLIP, ImageTextScore, adapters
from captum_gradeclip.attr import Request, TokenGradCam
from captum_gradeclip.attr.linear import LinearAttribution
from captum_gradeclip.maps import ranks, strongest

from ..conftest import DUAL, FAMILIES, images, relative, stir
from ..covering import covered

Linear = type[LinearAttribution[Any, Any]]
LINEAR = [kind for kind in METHODS if issubclass(kind, LinearAttribution)]
OPTIONS: list[tuple[Any, int, dict[str, Any]]] = [
    (GradECLIP, 1, {}),
    (GradECLIP, 1, {"heads": "each", "relu_attributions": False}),
    (GradECLIP, 2, {}),
    (GradECLIP, 2, {"relu_before_sum": False, "key_tokens": "all"}),
    (GradECLIP, 2, {"heads": "each", "spatial_weight": "softmax"}),
    (GradECLIP, 2, {"heads": "model", "relu_attributions": False}),
    (TokenGradCam, 1, {}),
    (TokenGradCam, 1, {"average": "patches", "relu_attributions": False}),
]


def directly(kind: Linear, score: ImageTextScore, count: int, x: Tensor, **options: Any) -> Tensor:
    """The maps of all targets, a few at a time, so that there are never more than features."""
    method, total = kind(score, score.layers[-count:]), len(score.text_features)
    parts = [method.attribute_targets(x, range(start, min(start + 10, total)), **options) for start in range(0, total, 10)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize(("name", "case"), covered(DUAL, range(len(OPTIONS)), per_row=2))
def test_many_targets_are_what_few_are(name: str, case: int) -> None:
    kind, count, options = OPTIONS[case]
    family = FAMILIES[name]
    model = stir(family.build())
    x = images(family.size, 2)
    width = adapters.image_tower(model).width
    score = ImageTextScore(model, torch.randn(width + 20, width))
    asked: list[tuple[int, ...]] = []
    observe = kind.observe

    class Watched(kind):  # type: ignore[misc, valid-type]
        def observe(self, request: Request, chosen: Any) -> Any:
            evidence = observe(self, request, chosen)
            asked.append(tuple(evidence.output.shape))
            return evidence

    few = directly(kind, score, count, x, **options)
    for memory in (2**28, 2**18):
        many = Watched(score, score.layers[-count:]).attribute_targets(x, max_memory=memory, **options)
        assert many.is_contiguous() and many.shape == few.shape
        assert relative(many, few) < 1e-5
    assert asked == [(2, width)] * 2  # of the features, not of the targets


@pytest.fixture
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, torch.randn(70, 24))


X = images((32, 32))


@pytest.mark.parametrize("kind", LINEAR, ids=lambda kind: kind.__name__)
def test_the_scores_and_some_columns(kind: Any, score: ImageTextScore) -> None:
    method = kind(score, score.layers[-1:])
    columns = [*range(69, 30, -1), 2, 2]
    found = method.outcome(X, columns, heads="model")
    assert found.maps is not None and found.explained_scores is not None
    with torch.no_grad():
        assert relative(found.explained_scores, score(X)[:, columns]) < 1e-5
    assert relative(found.maps, directly(kind, score, 1, X, heads="model")[:, columns]) < 1e-5
    parts = method.outcome(X, columns, chunk_size=1, heads="model")
    assert parts.maps is not None and relative(parts.maps, found.maps) < 1e-5


def test_a_map_keeps_its_graph(score: ImageTextScore) -> None:
    x = X.clone().requires_grad_()
    maps = GradECLIP(score, score.layers[-1:]).attribute_targets(x, grad_kwargs={"create_graph": True})
    (many,) = torch.autograd.grad(maps[:, 40].sum(), x)
    one = GradECLIP(score, score.layers[-1:]).attribute(x, target=40, grad_kwargs={"create_graph": True})
    assert relative(many, torch.autograd.grad(one.sum(), x)[0]) < 1e-4


def test_a_score_of_another_kind_is_differentiated_itself(vit: nn.Module, score: ImageTextScore) -> None:
    class Sharp(ImageTextScore):
        def forward(self, images: Tensor) -> Tensor:
            return (10 * super().forward(images)).softmax(dim=-1)

    sharp = Sharp(vit, score.text_features)
    assert sharp.directions is None
    many = GradECLIP(sharp, sharp.layers[-1:]).attribute_targets(X)
    assert relative(many, directly(GradECLIP, sharp, 1, X)) < 1e-4
    handle = score.register_forward_hook(lambda module, inputs, output: output**3)
    cubed = GradECLIP(score, score.layers[-1:]).attribute_targets(X)
    assert score.directions is None
    assert relative(cubed, directly(GradECLIP, score, 1, X)) < 1e-4
    handle.remove()
    assert score.directions is not None
    bare = GradECLIP(lambda images: score(images), score.layers[-1:]).attribute_targets(X)
    assert relative(bare, directly(GradECLIP, score, 1, X)) < 1e-5


@pytest.mark.parametrize("count", [10, 70])
def test_parts_are_the_whole(count: int, score: ImageTextScore) -> None:
    method = GradECLIP(score, score.layers[-1:])
    whole = method.attribute_targets(X, range(count))
    columns, maps = zip(*method.attribute_in_parts(X, range(count), most=32))
    assert torch.cat(columns).tolist() == list(range(count)) and max(map(len, columns)) <= 32
    assert all(one.is_contiguous() for one in maps)
    assert relative(torch.cat(maps, dim=1), whole) < 1e-5
    with pytest.raises(ValueError, match="most: expected at least one target"):
        next(method.attribute_in_parts(X, most=0))


def test_of_many_maps_only_what_is_asked_is_held(score: ImageTextScore) -> None:
    method = GradECLIP(score, score.layers[-1:])
    whole = method.attribute_targets(X)
    values, columns = strongest(method.attribute_in_parts(X, most=9), 3)
    expected = whole.topk(3, dim=1)
    assert values.shape == (2, 3, 4, 4) and relative(values, expected.values) < 1e-5
    assert relative(whole.gather(1, columns), values) < 1e-5  # maps of 0 are equal, and any of them will do
    own = whole[:, [5, 60]]
    places = ranks(method.attribute_in_parts(X, most=9), own)
    assert torch.equal(places, (whole[:, None] > own[:, :, None]).sum(dim=2))


def test_each_example_has_columns_of_its_own(score: ImageTextScore) -> None:
    x, own = images((32, 32), 3), torch.randint(0, 70, (3, 50))
    method = GradECLIP.for_score(score)
    maps = method.attribute_targets(x)
    expected = torch.stack([maps[n, own[n]] for n in range(3)])
    torch.testing.assert_close(method.attribute_targets(x, own), expected)
    torch.testing.assert_close(method.attribute_targets(x, own, chunk_size=2), expected)
    with pytest.raises(AssertionError, match="for all inputs"):
        next(method.attribute_in_parts(x, own))
