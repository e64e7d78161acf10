"""Maps that are differentiated themselves: ``grad_kwargs={"create_graph": True}``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore
from captum_gradeclip.attr import Request

from ..conftest import FAMILIES, captions, images, relative, stir

GRAPH: dict[str, Any] = {"create_graph": True}
SIGNED = {"relu_attributions": False}
OPTIONS = [{}, {"heads": "model", "spatial_weight": "softmax"}, {"heads": "each"}, {"spatial_weight": "none"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_gradcheck_by_the_input(double: nn.Module, options: dict[str, Any]) -> None:
    """The derivative of a map by the pixels, against differences, in float64: maps become float32 only afterwards."""
    score = ImageTextScore(double, captions())
    method = GradECLIP(score, score.layers[-1:])
    chosen = method.checked({**options, **SIGNED})

    def maps(x: Tensor) -> Tensor:
        request = Request(method.info, score, score, score.layers[-1:], x, grad_kwargs=GRAPH)
        evidence, targets = method._asked(request, chosen, torch.tensor([1]))
        return evidence.tokens.fold(method.explain(evidence, targets, chosen))

    x = images((16, 16), count=1).double()
    direction = torch.randn(x.shape, dtype=torch.float64)

    def along(step: Tensor) -> Tensor:
        return maps(x + step * direction)

    assert torch.autograd.gradcheck(along, torch.zeros((), dtype=torch.float64, requires_grad=True), atol=1e-8, rtol=1e-5)
    # What the caller gets is the same map.
    kept = method.attribute(x.requires_grad_(), target=1, grad_kwargs=GRAPH, **options, **SIGNED)
    assert kept.requires_grad and relative(kept.flatten(), maps(x).flatten()) < 1e-6


def test_gradcheck_by_a_weight(double: nn.Module) -> None:
    """Also through the values and keys of the explained layer, and for a text of several layers."""
    score = TextImageScore(double, images((32, 32)).double())
    method = GradECLIP(score, score.layers[-3:])
    weight: Any = score.layers[-2].attn.in_proj_weight
    kept = method.attribute(captions(), target=1, grad_kwargs=GRAPH, **SIGNED)
    weighed = torch.randn(kept.shape)
    direction = torch.randn(weight.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((kept * weighed).sum(), weight)
    slope = float((gradient * direction).sum())
    found = []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            weight += step * direction
        found.append(float((method.attribute(captions(), target=1, **SIGNED).double() * weighed).sum()))
        with torch.no_grad():
            weight -= step * direction
    assert abs(slope) > 1e-3
    assert (found[0] - found[1]) / 2e-4 == pytest.approx(slope, rel=1e-2)  # maps are float32


def test_a_loss_of_maps_is_minimized() -> None:
    """Maps of a picture and of its mirror image become each other's mirror images."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    score, x = ImageTextScore(model, captions()), images((32, 32), count=4)
    method = GradECLIP(score, score.layers[-1:])
    learned = [one for one in model.visual.parameters() if one.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=3e-3)

    def disagreement() -> Tensor:
        own, mirrored = (
            method.attribute(inputs, target=0, grad_kwargs=GRAPH, **SIGNED).flatten(1) for inputs in (x, x.flip(-1))
        )
        mirrored = mirrored.unflatten(1, (4, 4)).flip(-1).flatten(1)
        return 1 - torch.cosine_similarity(own, mirrored, dim=1).mean()

    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = disagreement()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.2 and losses[-1] < losses[0] / 2
