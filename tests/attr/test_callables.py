"""Any callable: models that no adapter knows yet are explained through a function that returns their scores."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from captum_gradeclip import GradECLIP
from captum_gradeclip.attr import METHODS
from captum_gradeclip.attr.base import TokenAttribution

from ..conftest import images, relative, stir, varies
from .contract import FEW
from .refusals import REFUSES_CALLABLES


def test_a_timm_classifier() -> None:
    torch.manual_seed(0)
    model = stir(timm.create_model("vit_tiny_patch16_224", img_size=64, embed_dim=48, depth=2, num_heads=4, num_classes=9))
    x = images((64, 64))
    block = GradECLIP(model, model.blocks[-1]).attribute(x, target=7)
    assert block.shape == (2, 1, 4, 4) and varies(block)
    assert relative(GradECLIP(model, model.blocks[-1].attn).attribute(x, target=7), block) < 1e-5
    every = GradECLIP(model, model.blocks[-1]).attribute_targets(x)
    assert every.shape == (2, 9, 4, 4) and relative(every[:, 7:8], block) < 1e-4


def test_a_transformers_clip() -> None:
    torch.manual_seed(0)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        text_config={**tower, "vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49},
        projection_dim=16,
    )
    model: nn.Module = stir(CLIPModel(config))

    def features(x: torch.Tensor) -> torch.Tensor:
        output = model.get_image_features(pixel_values=x)
        return getattr(output, "pooler_output", output)

    layer = model.vision_model.encoder.layers[-1]
    got = GradECLIP(features, layer).attribute(images((32, 32)), target=3)
    assert got.shape == (2, 1, 4, 4) and varies(got)
    assert relative(GradECLIP(features, layer.self_attn).attribute(images((32, 32)), target=3), got) < 1e-5


class Theirs(nn.Module):
    """A small vision transformer whose parts are named by its author."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self.names = names
        torch.manual_seed(0)
        setattr(self, names["patches"], nn.Conv2d(3, 16, 8, 8))
        setattr(self, names["blocks"], nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, 0.0) for _ in range(3)))
        setattr(self, names["head"], nn.Linear(16, 5))
        for name, value in (("grid", (4, 4)), ("alone", True), ("pooled", True), ("sites", 3), ("labels", "abc")):
            setattr(self, names.get(name, f"own_{name}"), value)

    def part(self, name: str) -> nn.Module:
        part: nn.Module = getattr(self, self.names[name])
        return part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.part("patches")(x).flatten(2).permute(2, 0, 1)
        tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])
        for block in self.part("blocks"):  # type: ignore[attr-defined]
            tokens = block(tokens)
        scores: torch.Tensor = self.part("head")(tokens[0])
        return scores


TAKE_CALLABLES = [kind for kind in METHODS if kind.__name__ not in REFUSES_CALLABLES]


@pytest.mark.parametrize("kind", TAKE_CALLABLES, ids=lambda kind: kind.__name__)
def test_a_model_whose_parts_have_our_names(kind: type[Any]) -> None:
    """A submodule ``readout`` is common in segmentation and neuroscience code; it is the model's, not a fact for us."""
    plain = {"patches": "a", "blocks": "b", "head": "c"}
    ours = {"patches": "tokens", "blocks": "layers", "head": "readout", **{n: n for n in ("grid", "alone", "pooled")}}
    ours |= {"sites": "sites", "labels": "labels"}
    maps = []
    for names in (plain, ours):
        model = stir(Theirs(names))
        options = {name: value for name, value in FEW.items() if name in kind.Options.__dataclass_fields__}
        for function in (model, model.forward, lambda x, model=model: model(x)):
            layers = [model.part("blocks")[-1]] if issubclass(kind, TokenAttribution) else []  # type: ignore[index]
            maps.append(kind(function, *layers).attribute(images((32, 32)), target=2, **options))
    assert all(torch.equal(one, maps[0]) for one in maps) and varies(maps[0])
