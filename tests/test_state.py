"""What a user passes comes back as it was: after success, after a wrong target, and after a module that throws."""

from __future__ import annotations

import copy
import hashlib
import pickle
import threading

import pytest
import torch
from captum.attr import LayerGradCam, NoiseTunnel, Occlusion
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore, InputSpaceAttribution, TextImageScore

from .conftest import FAMILIES, captions, images, relative, scores, stir


def fingerprint(model: nn.Module) -> dict[str, object]:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    modules = dict(model.named_modules())
    return {
        "state": digest.hexdigest(),
        "identities": [(id(p), p.requires_grad, p.grad is None) for p in model.parameters()],
        "modes": [m.training for m in modules.values()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules.values()],
        "attributes": [sorted(vars(m)) for m in modules.values()],
        "rng": torch.get_rng_state().numpy().tobytes(),
        "grad mode": torch.is_grad_enabled(),
    }


class Broken(Exception):
    pass


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("native", [True, False])
def test_nothing_changes(model: nn.Module, family, training: bool, native: bool) -> None:
    # Some parameters frozen, some not, and a mixture of modes: all must be found again.
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    model.eval()
    size = family.size if native or family.oblong is None else family.oblong
    for score, x, layers in scores(model, family, size):
        if training:  # a module without dropout, which would draw random numbers in any forward pass
            next(part for part in score.model.modules() if isinstance(part, nn.LayerNorm)).train()
        before, x_before = fingerprint(model), x.clone()
        method = GradECLIP(score, score.layers[-layers:])
        method.attribute(x, target=1)
        method.attribute_targets(x, [2, 0])
        assert fingerprint(model) == before

        for target in (99, [0]):
            with pytest.raises(AssertionError):
                method.attribute(x, target=target)
        assert fingerprint(model) == before

        def throw(*_: object) -> None:
            raise Broken

        handle = score.layers[-1].register_forward_hook(throw)
        with pytest.raises(Broken):
            method.attribute(x, target=0)
        handle.remove()
        assert fingerprint(model) == before
        assert torch.equal(x, x_before) and not x.requires_grad and x.grad is None
    model.eval().requires_grad_(True)


def test_threads_with_images_of_different_sizes(vit: nn.Module) -> None:
    """The position table is interpolated on a copy, so threads cannot see each other's size."""
    score = ImageTextScore(vit, captions())
    sizes = [(32, 32), (40, 24), (24, 56), (64, 64)]
    inputs = [images(size) for size in sizes]
    method = GradECLIP(score, score.layers[-2:])
    expected = [method.attribute(x, target=0) for x in inputs]
    failures: list[object] = []

    def work(n: int) -> None:
        try:
            own = GradECLIP(score, score.layers[-2:])
            for _ in range(10):
                if relative(own.attribute(inputs[n], target=0), expected[n]) > 1e-5:
                    failures.append(n)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


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
    assert method.interpolate(method.attribute(x, target=0), (32, 32)).shape == (2, 1, 32, 32)


def test_text_in_the_inputs_space_and_copies(vit: nn.Module) -> None:
    text = TextImageScore(vit, images((32, 32)))
    method = GradECLIP(text, text.layers[-8:])
    expected = method.attribute(captions(), target=0)
    assert torch.equal(InputSpaceAttribution(method).attribute(captions(), target=0), expected)
    assert torch.equal(copy.deepcopy(method).attribute(captions(), target=0), expected)
    assert torch.equal(pickle.loads(pickle.dumps(method)).attribute(captions(), target=0), expected)


def test_layer_and_forward_function_may_be_replaced_between_calls() -> None:
    """As Captum's TCAV does."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    score = ImageTextScore(model, captions())
    x = images((32, 32))
    method = GradECLIP(score, score.layers[0])
    method.layer = score.layers[-1]
    assert torch.equal(method.attribute(x, target=0), GradECLIP(score, score.layers[-1]).attribute(x, target=0))
