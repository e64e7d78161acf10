"""Any callable: models that no adapter knows yet are explained through a function that returns their scores."""

from __future__ import annotations

import timm
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from captum_gradeclip import GradECLIP

from ..conftest import images, relative, stir, varies


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
