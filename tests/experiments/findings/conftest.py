"""A model of scenes with random weights whose pictures have a side of their own, and the embedded one."""

from __future__ import annotations

import pytest
import torch
from open_clip import CLIP
from open_clip.model import set_model_preprocess_cfg

from captum_gradeclip import adapters, scenes
from captum_gradeclip.scenes import SceneDataset
from captum_gradeclip.scenes.vocabulary import CONTEXT_LENGTH

from ...conftest import stir

SIDE = 40


def small(heads: int = 2) -> CLIP:
    torch.manual_seed(0)
    model = CLIP(
        embed_dim=16,
        vision_cfg={"image_size": SIDE, "patch_size": 8, "layers": 2, "width": 32, "head_width": 32 // heads},
        text_cfg={
            "context_length": CONTEXT_LENGTH,
            "vocab_size": scenes.tokenizer().vocab_size,
            "layers": 8,
            "width": 16,
            "heads": 2,
        },
    )
    set_model_preprocess_cfg(model, {"size": (SIDE, SIDE), "mean": (0.5,) * 3, "std": (0.25,) * 3})
    return stir(model)


@pytest.fixture(scope="session")
def embedded() -> CLIP:
    return scenes.load()[0]


def data(model: CLIP, length: int, *counts: int) -> SceneDataset:
    return SceneDataset(length, "validation", size=adapters.image_tower(model).size[0], counts=counts)
