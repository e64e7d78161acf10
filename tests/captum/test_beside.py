"""Captum's own methods on our scores, and its own models in our methods."""

from __future__ import annotations

import pytest
import torch
from captum.attr import (
    IntegratedGradients,
    KernelShap,
    LayerGradCam,
    Occlusion,
)
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore

from ..conftest import captions, images
from .test_checklist import hooks

X = images((32, 32))


@pytest.fixture
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, captions())


def test_captums_methods_run_on_the_same_score(score: ImageTextScore, vit: nn.Module) -> None:
    integrated = IntegratedGradients(score).attribute(X, target=1, n_steps=40, return_convergence_delta=True)
    assert integrated[0].shape == X.shape and integrated[1].abs().max() < 0.05
    assert LayerGradCam(score, vit.visual.conv1).attribute(X, target=1).shape == (2, 1, 4, 4)
    window = (3, 16, 16)
    occluded = Occlusion(score).attribute(X, sliding_window_shapes=window, strides=window, target=1)
    groups = (torch.arange(32) // 16)[:, None] * 2 + torch.arange(32) // 16
    shap = KernelShap(score).attribute(X[:1], feature_mask=groups.expand(1, 3, 32, 32), target=1, n_samples=20)
    assert occluded.shape == X.shape and shap.shape == (1, 3, 32, 32) and shap.std() > 0


def test_captums_own_configurations_are_refused_with_a_reason() -> None:
    """The models that Captum ships for its tests have no attention: the error names what would do."""
    from captum.testing.attr.helpers.test_config import config

    tried = 0
    for entry in config:
        layer = entry.get("layer")
        if LayerGradCam not in entry["algorithms"] or not isinstance(layer, str):
            continue
        model = entry["model"]
        inputs = entry["attribute_args"]["inputs"]
        target = entry["attribute_args"].get("target")
        extra = entry["attribute_args"].get("additional_forward_args")
        with pytest.raises(
            (ValueError, TypeError), match=r"LayerGradCam|expected one tensor|expected images|expected token"
        ):
            GradECLIP(model, model.get_submodule(layer)).attribute(inputs, target, extra)
        assert hooks(model) == 0
        tried += 1
    assert tried >= 5
