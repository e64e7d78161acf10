"""One pass of the image tower shows what each of its parts shows by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.attr import MaskCLIP, NotDefinedError, TokenGradCam, dense_features
from captum_gradeclip.scores import ImageScore
from captum_gradeclip.tuning.image_pass import ImageReader

from ..conftest import FAMILIES, captions, fingerprint, images, relative, stir, varies

READ = [name for name, family in FAMILIES.items() if family.text and ImageScore(family.build()).readout.kind == "token"]
METHODS: dict[Any, Any] = {"GradECLIP": GradECLIP, "TokenGradCam": TokenGradCam, "MaskCLIP": MaskCLIP}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", READ)
def test_maps_and_features_are_those_of_passes_of_their_own(name: str, method: Any) -> None:
    model = stir(FAMILIES[name].build())
    x, score = images(FAMILIES[name].size, 3), ImageTextScore(model, captions())
    found = ImageReader(model).read(x, method)
    assert found.dense is not None and found.maps is not None
    assert relative(found.features, F.normalize(score.features(x), dim=-1)) < 1e-4
    assert relative(found.dense, dense_features(model, x)) < 1e-4
    columns = torch.tensor([[0, 1], [2, 0], [1, 1]])  # each picture has phrases of its own
    maps = found.maps(score.text_features[columns])
    expected = METHODS[method](score, score.layers[-1]).attribute_targets(x, columns)
    if method == "MaskCLIP":
        low, high = expected.amin(dim=(2, 3), keepdim=True), expected.amax(dim=(2, 3), keepdim=True)
        expected = (expected - low) / (high - low)
    assert varies(expected.flatten()[None]) and relative(maps, expected) < 1e-4 and not maps.requires_grad


def test_the_graph_is_that_of_features_and_dense_features(double: Any) -> None:
    x = images((32, 32)).double()
    score = ImageTextScore(double, captions())
    weights = torch.randn(2, 24, 4, 4, generator=torch.Generator().manual_seed(3)).double()
    parameters = [p for p in double.visual.parameters() if p.requires_grad]

    def of(features: torch.Tensor, dense: torch.Tensor) -> list[torch.Tensor]:
        return list(
            torch.autograd.grad((features * features.detach().roll(1, 1)).sum() + (dense * weights).sum(), parameters)
        )

    found = ImageReader(double).read(x, "GradECLIP")
    assert found.dense is not None and found.maps is not None
    found.maps(score.text_features[None, :2].expand(2, -1, -1))
    together = of(found.features, found.dense)
    apart = of(F.normalize(score.features(x), dim=-1), dense_features(double, x))
    assert all(torch.allclose(one, other, rtol=1e-8, atol=1e-10) for one, other in zip(together, apart))


def test_as_many_pictures_as_tokens_are_told_apart(vit: nn.Module) -> None:
    x = images((32, 32), 17)
    found = ImageReader(vit).read(x)
    assert found.dense is not None
    assert relative(found.dense, torch.cat([dense_features(vit, part) for part in x.split(5)])) < 1e-4


def test_the_model_is_as_it_was(vit: nn.Module) -> None:
    before = fingerprint(vit)
    ImageReader(vit).read(images((32, 32)), "GradECLIP")
    assert fingerprint(vit) == before


def test_a_tower_that_reads_something_else_is_refused() -> None:
    with pytest.raises(NotDefinedError, match="Fine-tuning lets the model read"):
        ImageReader(FAMILIES["open_clip SigLIP"].build().eval())
