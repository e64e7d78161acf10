"""Training mode: what is random or changes itself is refused by name, what is harmless is explained."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_gradeclip import METHODS, ImageTextScore, TextImageScore, scenes
from captum_gradeclip.adapters.training import disturbance, models_behind
from tests.conftest import relative


class DropPath(nn.Module):
    """Stochastic depth, as every library writes it anew."""

    drop_prob = 0.2


class OwnDropout(nn.Module):
    """Dropout that no attribute shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.3, self.training)


class Counting(nn.Module):
    """A module that changes a buffer in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
        return x


RANDOM = {
    "dropout": nn.Dropout(0.1),
    "channels": nn.Dropout2d(0.1),
    "alpha": nn.AlphaDropout(0.1),
    "attention": nn.MultiheadAttention(4, 2, dropout=0.1),
    "depth": DropPath(),
    "slopes": nn.RReLU(),
    "batch": nn.BatchNorm1d(2),
    "instance": nn.InstanceNorm1d(2, track_running_stats=True),
    "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
    "old spectral": nn.utils.spectral_norm(nn.Linear(2, 2)),
    "adapter": nn.ModuleDict({"lora_dropout": nn.Dropout(0.05)}),
}
HARMLESS = {
    "no dropout": nn.Dropout(0.0),
    "layer norm": nn.LayerNorm(2),
    "instance": nn.InstanceNorm1d(2),
    "batch without statistics": nn.BatchNorm1d(2, track_running_stats=False),
    "attention": nn.MultiheadAttention(4, 2),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_disturbs_is_named_until_evaluation_mode(name: str) -> None:
    model = nn.Sequential(RANDOM[name]).train()
    assert "training mode" in str(disturbance(model))
    assert disturbance(model.eval()) is None


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_let_through(name: str) -> None:
    assert disturbance(nn.Sequential(HARMLESS[name]).train()) is None


@pytest.mark.parametrize("part", [nn.Dropout(0.1), OwnDropout(), Counting()], ids=["known", "hidden", "counting"])
def test_every_method_and_score_refuses_it(part: nn.Module) -> None:
    model, _, tokenizer = scenes.load()
    images, tokens = torch.rand(2, 3, 64, 64), tokenizer(["a red circle", "two stars"])
    model.visual.ln_pre = nn.Sequential(model.visual.ln_pre, part)
    block = model.transformer.resblocks[0]
    block.ln_1 = nn.Sequential(block.ln_1, part)
    model.eval()
    scores = [(ImageTextScore(model, tokens), images), (TextImageScore(model, images), tokens)]
    model.train()
    state = torch.get_rng_state()
    for score, inputs in scores:
        for kind in METHODS:
            if not (inputs is images or kind.info.text):
                continue
            for given in (score, lambda x, score=score: score(x)):
                method = kind.for_score(score)
                method.forward_func = given
                with pytest.raises(ValueError, match=r"eval\(\) first|needs an? |score module"):
                    method.attribute(inputs, target=0)
    for make in (lambda: ImageTextScore(model, tokens), lambda: TextImageScore(model, images)):
        with pytest.raises(ValueError, match=r"eval\(\) first"):
            make()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(int(one.seen) == 0 for one in model.modules() if isinstance(one, Counting))


def test_a_harmless_model_in_training_mode_has_the_same_maps() -> None:
    model, _, tokenizer = scenes.load()
    score = ImageTextScore(model, ["a red circle"], tokenizer)
    images = torch.rand(2, 3, 64, 64)
    for kind in METHODS[:5]:
        expected = kind.for_score(score).attribute(images, target=0)
        model.train()
        assert relative(kind.for_score(score).attribute(images, target=0), expected) < 1e-5
        model.eval()


def test_a_random_forward_function_is_refused() -> None:
    model, _, tokenizer = scenes.load()
    score = ImageTextScore(model, ["a red circle"], tokenizer)
    method = METHODS[0].for_score(score)
    method.forward_func = lambda images: score(images + 0.1 * torch.randn(images.shape))
    images, state = torch.rand(1, 3, 64, 64), torch.get_rng_state()
    with pytest.raises(ValueError, match="forward_func: the forward pass draws random numbers"):
        method.attribute(images, target=0)
    assert torch.equal(torch.get_rng_state(), state)


class Holder:
    """An object that holds a model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def score(self, x: torch.Tensor) -> object:
        return self.model(x)

    def __call__(self, x: torch.Tensor) -> object:
        return self.model(x)


def test_models_behind_callables() -> None:
    model = nn.Linear(2, 2)
    ways = [model, model.forward, lambda x: model(x), functools.partial(model), Holder(model), Holder(model).score]
    assert all(models_behind(way) == [model] for way in ways)
    assert models_behind(len) == []
