"""Views of modules in which one part is another: also of modules that refuse to be pickled or copied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.adapters.base import replaced

from ..conftest import FAMILIES, captions, images, relative, stir, varies


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_a_parametrized_tensor_is_replaced_in_the_view_only() -> None:
    linear = parametrizations.weight_norm(nn.Linear(3, 2))
    x = torch.randn(4, 3)
    before = linear(x)
    view = replaced(linear, "weight", torch.zeros(2, 3))
    assert torch.equal(view(x), linear.bias.expand(4, -1)) and torch.equal(linear(x), before)
    outer = replaced(nn.Sequential(linear), "0.bias", torch.ones(2))
    assert relative(outer(x), before - linear.bias + 1) < 1e-6 and torch.equal(linear(x), before)


@pytest.mark.parametrize("where", ["visual", "visual.conv1", "visual.transformer.resblocks.0.mlp.c_fc"])
def test_another_size_of_a_model_with_parametrized_modules(where: str) -> None:
    """A view used to be made by copy.copy, whose refusal spoke of pickling."""
    torch.manual_seed(0)
    plain, model = stir(FAMILIES["open_clip ViT"].build()), stir(FAMILIES["open_clip ViT"].build())
    model.load_state_dict(plain.state_dict())
    module: Any = model.get_submodule(where)
    name = "positional_embedding" if where == "visual" else "weight"
    with torch.no_grad():
        getattr(module, name).div_(2)
    parametrize.register_parametrization(module, name, Doubled())
    x = images((40, 24))
    score, expected = ImageTextScore(model, captions()), ImageTextScore(plain, captions())
    got = GradECLIP(score, score.layers[-1]).attribute(x, target=1)
    assert varies(got) and relative(got, GradECLIP(expected, expected.layers[-1]).attribute(x, target=1)) < 1e-5
    assert parametrize.is_parametrized(module, name)


def test_a_view_of_a_module_whose_forward_was_put_into_it() -> None:
    """As accelerate does: the module's own forward is bound to the module, and its view needs one of its own."""
    accelerate = pytest.importorskip("accelerate.hooks")
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["open_clip ViT"].build())
    x = images((40, 24))
    score = ImageTextScore(model, captions())
    expected = GradECLIP(score, score.layers[-1]).attribute(x, target=1)
    accelerate.add_hook_to_module(model.visual, accelerate.ModelHook())
    assert relative(GradECLIP(score, score.layers[-1]).attribute(x, target=1), expected) < 1e-5
