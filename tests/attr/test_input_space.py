"""Maps in the shape of the inputs, as Captum's metrics want them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from captum.attr import LayerGradCam, NoiseTunnel, Occlusion
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore, InputSpaceAttribution, TextImageScore

from ..conftest import captions, images, relative


def test_captum_around_and_beside(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    method = GradECLIP(score, score.layers[-1])
    tunnel = NoiseTunnel(method).attribute(x, nt_samples=2, stdevs=0.0, target=[1, 0])
    assert relative(tunnel, method.attribute(x, target=[1, 0])) < 1e-4

    wrapped = InputSpaceAttribution(method)
    (full,) = wrapped.attribute((x,), target=0)
    assert full.shape == x.shape and full.is_contiguous()
    assert wrapped.attribute(x, target=0).shape == x.shape
    assert torch.allclose(full[:, 0], full[:, 2]) and wrapped.get_name() == "Grad-ECLIP"
    assert infidelity(score, lambda y: (0.01 * torch.ones_like(y), y - 0.01), x, full, target=0).shape == (2,)
    worst = sensitivity_max(wrapped.attribute, x, perturb_radius=0.01, n_perturb_samples=3, target=0)
    assert worst.shape == (2,) and worst.isfinite().all()
    with pytest.raises(ValueError, match="heads"):
        wrapped.attribute(x, target=0, heads="each")

    window = (3, 16, 16)
    occluded = Occlusion(score).attribute(x[:1], sliding_window_shapes=window, strides=window, target=0)
    assert occluded.shape == (1, 3, 32, 32)
    assert LayerGradCam(score, vit.visual.conv1).attribute(x, target=0).shape == (2, 1, 4, 4)
    of_tokens = LayerGradCam(score, vit.visual.transformer.resblocks[-1])
    assert of_tokens.attribute(x, target=0).dim() == 3, "one value per channel, and none per patch"
    with pytest.raises(ValueError, match=r"method: expected maps \(N, 1, h, w\), got \(.*use TokenGradCam"):
        InputSpaceAttribution(of_tokens).attribute(x, target=0)
    assert method.interpolate(method.attribute(x, target=0), (32, 32)).shape == (2, 1, 32, 32)


def test_text_in_the_inputs_space_and_copies(vit: nn.Module) -> None:
    text = TextImageScore(vit, images((32, 32)))
    method = GradECLIP(text, text.layers[-8:])
    expected = method.attribute(captions(), target=0)
    assert torch.equal(InputSpaceAttribution(method).attribute(captions(), target=0), expected)
    assert torch.equal(copy.deepcopy(method).attribute(captions(), target=0), expected)
    assert torch.equal(pickle.loads(pickle.dumps(method)).attribute(captions(), target=0), expected)
