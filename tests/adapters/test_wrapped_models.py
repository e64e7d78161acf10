"""Models under torch.compile and accelerate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore

from ..conftest import FAMILIES, captions, images, relative, stir

X = images((32, 32))


@pytest.fixture
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, captions())


@pytest.mark.filterwarnings("ignore:.*torch.compile")
def test_a_compiled_model_is_explained_as_it_was_written(vit: nn.Module, score: ImageTextScore) -> None:
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    compiled: Any = torch.compile(vit, backend="eager")
    with pytest.warns(UserWarning, match="explained as it was written, not compiled"):
        other = ImageTextScore(compiled, captions())
    assert relative(GradECLIP(other, other.layers[-1]).attribute(X, target=0), expected) < 1e-5
    model = copy.deepcopy(vit)
    model.visual = torch.compile(model.visual, backend="eager")
    part = ImageTextScore(model, captions())
    assert relative(GradECLIP(part, part.layers[-1]).attribute(X, target=0), expected) < 1e-5


def test_a_model_dispatched_by_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    torch.manual_seed(0)
    clip = stir(FAMILIES["transformers CLIP"].build())
    score = ImageTextScore(clip, captions())
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    model = accelerate.cpu_offload(copy.deepcopy(clip), execution_device=torch.device("cpu"))
    assert next(model.parameters()).device.type == "meta"
    offloaded = ImageTextScore(model, captions())
    assert relative(GradECLIP(offloaded, offloaded.layers[-1]).attribute(X, target=0), expected) < 1e-5
