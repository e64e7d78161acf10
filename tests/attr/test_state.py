"""What a user passes comes back as it was: after success, after a wrong target, and after a module that throws."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.adapters import Family

from ..conftest import FAMILIES, captions, fingerprint, images, relative, scores, stir
from ..covering import covered


class Broken(Exception):
    pass


CASES = [(training, native) for training in (False, True) for native in (True, False)]


@pytest.mark.parametrize(("family", "case"), covered(FAMILIES, CASES), indirect=["family"], scope="module")
def test_nothing_changes(model: nn.Module, family: Family, case: tuple[bool, bool]) -> None:
    training, native = case
    # Some parameters frozen, some not, and a mixture of modes: all must be found again.
    for number, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    model.eval()
    size = family.size if native or family.oblong is None else family.oblong
    for score, x, layers in scores(model, family, size):
        if training:  # a module without dropout, which would draw random numbers in any forward pass
            next(part for part in score.model.modules() if type(part).__name__.endswith("Norm")).train()
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


def test_layer_and_forward_function_may_be_replaced_between_calls() -> None:
    """As Captum's TCAV does."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    score = ImageTextScore(model, captions())
    x = images((32, 32))
    method = GradECLIP(score, score.layers[0])
    method.layer = score.layers[-1]
    assert torch.equal(method.attribute(x, target=0), GradECLIP(score, score.layers[-1]).attribute(x, target=0))
