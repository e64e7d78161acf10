"""Every value of every option that a method declares: a batch is its items, many targets are a loop, or it is refused."""

from __future__ import annotations

import dataclasses
import typing
from types import UnionType
from typing import Any, Literal

import pytest
import torch
from torch import nn

from captum_gradeclip.adapters import Family
from captum_gradeclip.attr import METHODS

from ..conftest import FAMILIES, relative, stir
from ..covering import covered
from .contract import Contract
from .refusals import MARKS_UNKNOWN, NO_EMPTY_TEXT, NO_NORM_AT_POOL, reading, refusal

KINDS = {kind.__name__: kind for kind in METHODS}


def values(kind: object) -> list[object]:
    """The values of a type that has few of them."""
    if kind is bool:
        return [False, True]
    if typing.get_origin(kind) is Literal:
        return list(typing.get_args(kind))
    if typing.get_origin(kind) in (typing.Union, UnionType):
        return [value for part in typing.get_args(kind) for value in values(part)]
    return []


def variants() -> dict[str, tuple[type[Any], dict[str, Any]]]:
    """Each value but the default of each option of each method."""
    found = {}
    for kind in KINDS.values():
        hints = typing.get_type_hints(kind.Options)
        for field in dataclasses.fields(kind.Options):
            for value in values(hints[field.name]):
                if value != field.default and field.name not in ("show_progress", "normalisation"):
                    found[f"{kind.__name__}.{field.name}={value}"] = kind, {field.name: value}
    return found


VARIANTS = variants()


def refused(variant: str, family: Family, image: bool) -> str | None:
    """Why an option does not go with the images or texts of a family, or ``None`` if it does."""
    kind, options = VARIANTS[variant]
    convolutions = image and reading(family) == "a pool over convolutions"
    reason = refusal(kind, family, image)
    if options.get("similarity") == "projected" and image and "pool" in reading(family):
        return 'similarity: "projected" compares whole tokens of a block'
    unknown = ("only known to its tokenizer", NO_EMPTY_TEXT)
    if "redundancy" in options and reason in unknown:
        reason = None  # the empty text is not asked for
    if reason is None and "key_weight" in options and convolutions:
        return "key_weight: an attention pool over convolutions has one query"
    if "pool_query" in options and not convolutions and reason in (None, *unknown):
        return "pool_query: this tower has no attention pool over convolutions"
    if "pool_values" in options and not convolutions and reason in (None, *unknown):
        return "pool_values: this tower has no attention pool over convolutions"
    if image and "positions" in options and not convolutions:
        return "positions: only an ImageTextScore of a tower with an attention pool over convolutions"
    pool = reading(family) == "a pool"
    if reason is None and "pool_norm" in options and (not pool or family.name in NO_NORM_AT_POOL):
        return "pool_norm: this tower has no norm beside an attention pool behind its blocks"
    if reason is None and "unit_length" in options and not (pool and family.text):
        return "unit_length: only an ImageTextScore of a tower with an attention pool has it"
    if reason is None and "wrapper_bug" in options:
        return (
            "wrapper_bug: "  # none of the small models has a square projection; tests/attr/test_m2ib.py makes one that has
        )
    return reason


def telling(family: str, variant: str) -> bool:
    """Whether the option is used on the family, not refused."""
    return any(refused(variant, FAMILIES[family], image) is None for image in (True, False)[: 1 + FAMILIES[family].text])


@pytest.mark.parametrize(
    ("family", "variant"), covered(FAMILIES, VARIANTS, telling=telling), indirect=["family"], scope="module"
)
def test_every_option(model: nn.Module, family: Family, variant: str) -> None:
    kind, options = VARIANTS[variant]
    contract = Contract(kind, model, family)
    options = {**contract.few, **options}
    for score, inputs, image in contract.every():
        method, reason = kind.for_score(score), refused(variant, family, image)
        if reason:
            for call in (method.attribute, method.attribute_targets):
                with pytest.raises(ValueError, match=reason):
                    call(inputs, [1] * len(inputs), **options)
            continue
        maps = method.attribute(inputs, target=[2, 0, 1], **options)
        assert maps.dtype == torch.float32 and maps.isfinite().all() and maps.is_contiguous()
        heads = options.get("heads") == "each"
        assert maps.dim() == (4 if image else 3 if heads else 2) and len(maps) == len(inputs)
        assert (maps.shape[1] == 1) == (image and not heads)
        for item, target in enumerate((2, 0, 1)):
            alone = method.attribute(inputs[item : item + 1], target=target, **options)
            assert relative(maps[item : item + 1], alone) < 1e-3
        many = method.attribute_targets(inputs, [2, 0, 1], chunk_size=2, **options)
        loop = torch.stack([many[item, item] for item in range(3)])
        assert relative(loop if heads or not image else loop[:, None], maps) < 1e-3


ELSEWHERE = {
    "M2IB.wrapper_bug": "tests/attr/test_m2ib.py, on a model with a square projection",
    "CLIPSurgery.pool_query": "tests/attr/test_clip_surgery.py; it weighs labels, so alone it changes no map",
}


@pytest.mark.parametrize("option", sorted({variant.partition("=")[0] for variant in VARIANTS} - set(ELSEWHERE)))
def test_every_option_makes_a_difference(vit: nn.Module, option: str) -> None:
    """With one value at least, on images, texts or an attention pool; else it would do nothing."""
    torch.manual_seed(0)
    differences = []
    for name in ("open_clip ViT", "open_clip ResNet", "open_clip SigLIP"):
        model = vit if name == "open_clip ViT" else stir(FAMILIES[name].build())
        for variant, (kind, options) in VARIANTS.items():
            contract = Contract(kind, model, FAMILIES[name])
            for score, inputs, image in contract.every() if variant.startswith(f"{option}=") else []:
                if refused(variant, FAMILIES[name], image) is None:
                    # several layers, since some options say how layers are put together
                    method = kind(score, score.layers[-2:]) if kind.__name__ == "GradECLIP" else kind.for_score(score)
                    maps = [method.attribute(inputs, target=1, **contract.few, **some) for some in ({}, options)]
                    differences.append(maps[0].shape != maps[1].shape or relative(maps[1], maps[0]) > 1e-3)
    assert any(differences)


def test_options_are_read_off_the_declarations() -> None:
    assert {"GradECLIP.heads=each", "MaskCLIP.key_weight=True", "CLIPSurgery.redundancy=labels"} <= set(VARIANTS)
    assert set(FAMILIES) > MARKS_UNKNOWN
