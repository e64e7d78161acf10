"""Models inside wrappers, with adapters of weights, with other switches of their library, or made in inference mode."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.attr import RawAttention

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


class PeftModel(nn.Module):
    """What PEFT puts around a model, as far as it matters here."""

    def __init__(self, base_model: nn.Module) -> None:
        super().__init__()
        self.base_model = base_model

    def get_base_model(self) -> nn.Module:
        return self.base_model


class Lora(nn.Module):
    """A linear layer with an adapter beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrapper", [nn.DataParallel, PeftModel, lambda model: nn.DataParallel(PeftModel(model))])
def test_the_model_inside_a_wrapper_is_explained(wrapper: Any, vit: nn.Module, score: ImageTextScore) -> None:
    expected = GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    other = ImageTextScore(wrapper(vit), captions())
    assert other.layers[-1] is score.layers[-1]
    assert relative(GradECLIP(other, other.layers[-1]).attribute(X, target=0), expected) < 1e-6


def test_a_projection_may_be_a_module_of_somebody_else() -> None:
    torch.manual_seed(0)
    plain: Any = stir(FAMILIES["transformers CLIP"].build())
    expected = ImageTextScore(plain, captions())(X)
    adapted = copy.deepcopy(plain)
    adapted.text_projection, adapted.visual_projection = Lora(plain.text_projection), Lora(plain.visual_projection)
    score = ImageTextScore(adapted.eval(), captions())
    assert not torch.allclose(score(X), expected)  # the adapters count
    assert GradECLIP(score, score.layers[-1:]).attribute(X, target=1).std() > 0
    torch.nn.init.zeros_(adapted.text_projection.up.weight)
    torch.nn.init.zeros_(adapted.visual_projection.up.weight)
    assert relative(ImageTextScore(adapted, captions())(X), expected) < 1e-6


# The other families of transformers 5 do not run themselves on this switch.
@pytest.mark.parametrize("name", ["CLIP", "SigLIP", "SigLIP 2", "AltCLIP", "BLIP"])
def test_models_that_return_tuples_score_the_same(name: str) -> None:
    torch.manual_seed(0)
    model: Any = stir(FAMILIES[f"transformers {name}"].build())
    with torch.no_grad():
        expected = ImageTextScore(model, captions())(X)
        model.config.return_dict = False
        assert relative(ImageTextScore(model, captions())(X), expected) == 0


def test_a_model_of_inference_mode_is_refused_where_a_gradient_is_needed() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        model = stir(FAMILIES["open_clip ViT"].build())
    score = ImageTextScore(model, captions())
    with pytest.raises(ValueError, match=r"model: some of its tensors were made inside torch.inference_mode\(\)"):
        GradECLIP(score, score.layers[-1]).attribute(X, target=0)
    assert RawAttention(score, score.layers[-1]).attribute(X).std() > 0
    copied = ImageTextScore(copy.deepcopy(model), captions())  # what the message advises
    assert GradECLIP(copied, copied.layers[-1]).attribute(X, target=0).std() > 0
