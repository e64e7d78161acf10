"""Every method keeps the contract, on every family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.adapters import Family
from captum_gradeclip.attr import CAPTUM, GAME, METHODS, Attention, NotDefinedError, Request, Targets, compare

from ..conftest import FAMILIES, TEXT, VIT, captions, fingerprint, images, stir
from ..covering import covered
from .contract import Contract
from .refusals import refusal

KINDS = {kind.__name__: kind for kind in METHODS}
ON_ALL_FAMILIES = ("check_form", "check_targets", "check_batch", "check_state")


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("check", Contract.checks())
def test_every_method(vit: nn.Module, check: str, method: str) -> None:
    getattr(Contract(KINDS[method], vit, FAMILIES["open_clip ViT"]), check)()


def explains(family: str, method: str) -> bool:
    """Whether a method explains the images or the texts of a family, so that more is to be seen than its refusal."""
    row = FAMILIES[family]
    return any(refusal(KINDS[method], row, image) is None for image in (True, False)[: 1 + row.text])


@pytest.mark.parametrize("check", ON_ALL_FAMILIES)
@pytest.mark.parametrize(
    ("family", "method"), covered(FAMILIES, KINDS, telling=explains), indirect=["family"], scope="module"
)
def test_every_family(model: nn.Module, family: Family, check: str, method: str) -> None:
    getattr(Contract(KINDS[method], model, family), check)()


def test_every_refusal(model: nn.Module, family: Family) -> None:
    """What the table says of a family: these methods refuse it, for this reason, and the others do not."""
    for kind in METHODS:
        Contract(kind, model, family).check_refusals()


@pytest.mark.parametrize("method", KINDS)
def test_with_patch_dropout(method: str) -> None:
    """Tokens that are dropped at random would make another map each time."""
    torch.manual_seed(0)
    model = stir(CLIP(24, {**VIT, "patch_dropout": 0.5}, TEXT))
    score, x = ImageTextScore(model, captions()), images((32, 32))
    contract = Contract(KINDS[method], model, FAMILIES["open_clip ViT"])
    assert len(KINDS[method].for_score(score).attribute(x, target=1, **contract.few)) == 2
    model.train()
    contract.refused(KINDS[method].for_score(score), x, "drops patches at random")


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("check", ["check_training_mode", "check_scores_that_are_not_finite"])
def test_with_batch_norm(check: str, method: str) -> None:
    torch.manual_seed(0)
    name = "open_clip ResNet"
    getattr(Contract(KINDS[method], stir(FAMILIES[name].build()), FAMILIES[name]), check)()


def test_running_statistics_stay_what_they_are() -> None:
    """A model in training mode is refused before anything of it runs, also by what is no method of ours."""
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ResNet"].build())
    score, x = ImageTextScore(model, captions()), images((64, 64))
    model.train()
    before = fingerprint(model)
    for run in (
        *(lambda x, kind=kind: compare(score, x, [kind]) for kind in (*METHODS, *CAPTUM)),
        lambda x: TextImageScore(model, x),
    ):
        with pytest.raises(ValueError, match="is in training mode"):
            run(x)
        assert fingerprint(model) == before


def test_what_methods_say_of_themselves() -> None:
    names = [kind.info.name for kind in METHODS]
    assert len(set(names)) == len(METHODS) and all(kind.info.paper for kind in METHODS)
    assert all(kind.attribute.__wrapped__ is not None for kind in METHODS)
    for kind in METHODS:
        assert kind.Options() == kind.Options() and kind.Options.__doc__
        assert kind.info.image or kind.info.text


class OfTheBatch(GAME):
    """Divides by the highest value of all examples."""

    def explain(self, evidence: Attention, targets: Targets, options: Any) -> Tensor:
        values = super().explain(evidence, targets, options)
        return values / values.amax()


class BlindToTargets(GAME):
    """Gives the first target's map to all."""

    def explain(self, evidence: Attention, targets: Targets, options: Any) -> Tensor:
        values = super().explain(evidence, targets, options)
        return values[:1].expand_as(values)


class LeavesAHook(GAME):
    """Forgets to take its hook off."""

    def observe(self, request: Request, options: Any) -> Attention:
        request.layers[0].register_forward_hook(lambda module, inputs, output: None)
        return super().observe(request, options)


class SaysNothing(GAME):
    """Zero everywhere."""

    def explain(self, evidence: Attention, targets: Targets, options: Any) -> Tensor:
        return 0 * super().explain(evidence, targets, options)


class TakesOurNameForAFact(GAME):
    """Reads a grid off the user's own model."""

    def observe(self, request: Request, options: Any) -> Attention:
        evidence = super().observe(request, options)
        grid = getattr(request.function, "grid", None)
        return evidence if not isinstance(grid, tuple) else replace(evidence, output=2 * evidence.output)


class RefusesForNoReason(GAME):
    """Not defined for what the table says that it explains."""

    def observe(self, request: Request, options: Any) -> Attention:
        raise NotDefinedError("layer: not today")


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (OfTheBatch, "check_batch"),
        (BlindToTargets, "check_targets"),
        (LeavesAHook, "check_state"),
        (SaysNothing, "check_form"),
        (TakesOurNameForAFact, "check_foreign_attributes"),
        (RefusesForNoReason, "check_refusals"),
    ],
)
def test_the_contract_can_fail(kind: type[Any], check: str) -> None:
    torch.manual_seed(0)
    family = FAMILIES["open_clip ViT"]
    with pytest.raises((AssertionError, NotDefinedError)):
        getattr(Contract(kind, stir(family.build()), family), check)()
