"""What holds for every method on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore, TextImageScore, adapters
from captum_gradeclip.adapters import Family
from captum_gradeclip.attr import (
    M2IB,
    METHODS,
    RISE,
    CLIPSurgery,
    GradECLIP,
    LeGrad,
    MaskCLIP,
    compare,
)
from captum_gradeclip.attr.base import NotDefinedError

from ..conftest import FAMILIES, captions, fingerprint, images, relative, scores, stir


def test_every_method_on_every_family(model: nn.Module, family: Family) -> None:
    """Runs, or refuses with the reason; nothing is left behind."""
    for score, inputs, _ in scores(model, family, family.oblong or family.size):
        image = inputs.is_floating_point()
        before = fingerprint(model)
        for kind in METHODS:
            method = kind.of(score)
            options: dict[str, Any] = {"n_masks": 4} if kind is RISE else {}
            reason = refusal(kind, score, image)
            if reason:
                with pytest.raises(NotDefinedError, match=reason):
                    method.attribute(inputs, target=1)
            else:
                maps = method.attribute(inputs, target=1, **options)
                size = inputs.shape[-2:] if kind is RISE else score.grid(inputs) if image else ()
                assert maps.shape == ((len(inputs), 1, *size) if image else inputs.shape)
                assert maps.dtype == torch.float32 and maps.isfinite().all() and maps.is_contiguous()
                assert maps.std() > 0 or kind is GradECLIP
                singles = [method.attribute(inputs[i : i + 1], target=1, **options) for i in range(len(inputs))]
                assert relative(maps, torch.cat(singles)) < 1e-3
                many = method.attribute_targets(inputs, [2, 1], **options)
                assert relative(many[:, 1], maps[:, 0] if image else maps) < 1e-4
                assert torch.equal(many[:, 0], many[:, 1]) != kind.about.needs_text or maps.max() == 0
            assert fingerprint(model) == before


def refusal(kind: Any, score: Any, image: bool) -> str | None:
    """Why a method does not explain a score, or None if it does: table 2.10 of the methods, and what a tower must offer."""
    pool_only = len(score.layers) == 1
    if not (kind.about.image if image else kind.about.text):
        return "is defined for images, not for texts"
    if kind is RISE:
        return None
    if pool_only and not kind.about.resnet:
        return "follows attention from token to token"
    if kind is LeGrad and score.reads_pool:
        return None
    if kind in (MaskCLIP, CLIPSurgery, LeGrad) and not (score.reads_first_token or score.pooled):
        return "needs an ImageTextScore" if kind is CLIPSurgery and not hasattr(score, "text_features") else "reads several"
    if kind is CLIPSurgery:
        if not hasattr(score, "text_features"):
            return "needs an ImageTextScore"
        if adapters.text_tower(score.model).start is None:
            return "only known to its tokenizer"
    return None


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_every_method_whatever_the_caller_is_in(vit: nn.Module, context: Any) -> None:
    x, tokens = images((32, 32)), captions()
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        for kind in METHODS:
            if refusal(kind, score, inputs is x) and kind is not RISE:
                continue
            if kind is RISE and inputs is tokens:
                continue
            method = kind(score) if kind is RISE else kind(score, kind.default_layers(score))
            options = {"n_masks": 5} if kind is RISE else {}
            expected = method.attribute(inputs, target=1, **options), method.attribute_targets(inputs, **options)
            with context():
                got = method.attribute(inputs, target=1, **options), method.attribute_targets(inputs, **options)
            assert all(relative(a, b) < 1e-6 for a, b in zip(got, expected)), kind.about.name


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_every_method_under_autocast(vit: nn.Module, kind: Any) -> None:
    """The model runs in bfloat16, what is made of its features does not."""
    x, tokens = images((32, 32)), captions()
    options: dict[str, Any] = {"n_masks": 300} if kind is RISE else {}
    for score, inputs in ((ImageTextScore(vit, tokens), x), (TextImageScore(vit, x), tokens)):
        if not (kind.about.image if inputs is x else kind.about.text):
            continue
        wide = kind.of(score).attribute(inputs, target=1, **options)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = kind.of(score).attribute(inputs, target=1, **options)
        assert narrow.dtype == torch.float32 and narrow.isfinite().all()
        both = torch.stack([wide.flatten(), narrow.flatten()])
        assert torch.corrcoef(both)[0, 1] > (0.9 if kind is M2IB else 0.99)
        if kind is RISE:
            assert relative(narrow, wide) < 0.02 and len(narrow.unique()) > 1000


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_as_many_examples_as_tokens(vit: nn.Module, kind: Any) -> None:
    """Then a tensor's shape does not tell which is which."""
    x = images((32, 32), 17)
    score = ImageTextScore(vit, captions())
    options: dict[str, Any] = {"n_masks": 2} if kind is RISE else {"copies": 1, "steps": 2} if kind is M2IB else {}
    if kind is MaskCLIP:
        options["key_weight"] = True
    maps = kind.of(score).attribute(x, target=1, **options)
    alone = kind.of(score).attribute(x[3:4], target=1, **options)
    assert relative(maps[3:4], alone) < 1e-3
    assert relative(maps[4:5], alone) > 1e-3 or kind is GradECLIP


def test_running_statistics_stay_what_they_are() -> None:
    """A model in training mode is refused before anything of it runs."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ResNet"].build())
    score, x = ImageTextScore(model, captions()), images((64, 64))
    methods = [kind.of(score) for kind in METHODS if kind.about.resnet]
    model.train()
    before = fingerprint(model)
    for run in (
        *(method.attribute for method in methods),
        *(method.attribute_targets for method in methods),
        *(lambda x, name=name: compare(score, x, [name]) for name in ("MaskCLIP", "Occlusion", "LayerGradCam")),
        lambda x: TextImageScore(model, x),
    ):
        with pytest.raises(ValueError, match="is in training mode"):
            run(x)
        assert fingerprint(model) == before


def test_what_methods_say_of_themselves() -> None:
    names = [kind.about.name for kind in METHODS]
    assert len(set(names)) == len(METHODS) and all(kind.about.paper for kind in METHODS)
    assert all(kind.attribute.__wrapped__ is not None for kind in METHODS)
