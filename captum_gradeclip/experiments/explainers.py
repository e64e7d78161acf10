"""What is compared: every method on a score, and the maps that every method should be measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attr import (
    M2IB,
    METHODS,
    RISE,
    AttentionRollout,
    CLIPSurgery,
    GradECLIP,
    MaskCLIP,
    RawAttention,
    TokenGradCam,
)
from ..attr.comparison import CAPTUM, find_method

NO_WEIGHT = "Grad-ECLIP w/o weight"
RANDOM, CENTRE, ORACLE = "random map", "centre prior", "oracle (mask)"


@dataclass(frozen=True)
class Question:
    """A batch to be explained.

    Attributes:
        score: a score module.
        inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
        targets: the column that is asked for, for each.
        seeds: of each input's random numbers.
        masks: the truth ``(N, H, W)``, if there is one.
    """

    score: Any
    inputs: Tensor
    targets: Sequence[int]
    seeds: Sequence[int]
    masks: Tensor | None = None


@dataclass(frozen=True)
class Explainer:
    """A method by its name.

    Attributes:
        name: as tables print it.
        explain: maps ``(N, 1, h, w)`` or ``(N, L)`` of a question.
        needs_text: whether it looks at the target.
        all_targets: maps ``(N, T, h, w)`` of a question whose targets are asked for every input, if it can do that at once.
    """

    name: str
    explain: Callable[[Question], Tensor]
    needs_text: bool = True
    all_targets: Callable[[Question], Tensor] | None = None


RELEASED: dict[type[Any], dict[str, Any]] = {
    RawAttention: {"heads": "single"},
    TokenGradCam: {"heads": "single"},
    MaskCLIP: {"key_weight": True},
    CLIPSurgery: {"normalisation": "tokens"},
}
"""How the code of Grad-ECLIP ran its rivals on images; beside this, Rollout has the last layer alone.

Not followed: M2IB's images met texts of its wrapper, GAME, Rollout and M2IB bare names of the classes, CLIP Surgery the
class among 59 other nouns. Here all meet the features that are bound in the score.
"""

RELEASED_TEXT: dict[type[Any], dict[str, Any]] = {RawAttention: {"heads": "single"}, M2IB: {"wrapper_bug": True}}
"""The same on texts."""


def explainers(
    names: str | Sequence[str] = "all",
    *,
    text: bool = False,
    masks: bool = False,
    rise_masks: int = 500,
    released: bool = False,
) -> list[Explainer]:
    """The methods of these names, in the order given.

    Args:
        names: ``"all"``, or names of methods, or of ``"w/o weight"``, ``"random"``, ``"centre"``, ``"oracle"``.
        text: those that explain texts.
        masks: whether there is a truth for the oracle.
        rise_masks: of RISE.
        released: run the rivals as the code of Grad-ECLIP does, where that departs from their papers.

    Raises:
        ValueError: for an unknown name.

    >>> [one.name for one in explainers("all", text=True)]
    ['Grad-ECLIP', 'Grad-ECLIP w/o weight', 'raw attention', 'Attention Rollout', 'GAME', 'M2IB', 'random map']
    """
    known: dict[str, Explainer] = {}
    for kind in METHODS:
        if not (kind.about.text if text else kind.about.image):
            continue
        known[kind.about.name] = _method(kind, rise_masks, released)
        if kind is GradECLIP:
            known[NO_WEIGHT] = Explainer(NO_WEIGHT, _without_weight)
    known |= {} if text or names == "all" else {name: _of_captum(name) for name in CAPTUM}
    known[RANDOM] = Explainer(RANDOM, _random, needs_text=False)
    if not text:
        known[CENTRE] = Explainer(CENTRE, _centre, needs_text=False)
    if masks and not text:
        known[ORACLE] = Explainer(ORACLE, _oracle)
    if names == "all":
        return list(known.values())
    short = {"w/o weight": NO_WEIGHT, "random": RANDOM, "centre": CENTRE, "oracle": ORACLE}
    chosen = []
    for name in [names] if isinstance(names, str) else names:
        full = short.get(name, name)
        if full in (NO_WEIGHT, RANDOM, CENTRE, ORACLE) and full not in known:
            continue  # no truth here, or no place
        if full not in known:
            found = find_method(full)
            full = found if isinstance(found, str) else found.about.name
        if full in known:
            chosen.append(known[full])
    if not chosen:
        raise ValueError(f"methods: none of {names} explains {'texts' if text else 'images'}")
    return chosen


def layers_of(count: int) -> Explainer:
    """Grad-ECLIP summed over the last ``count`` layers."""

    def explain(question: Question) -> Tensor:
        method = GradECLIP(question.score, question.score.layers[-count:])
        maps: Tensor = method.attribute(question.inputs, target=list(question.targets))
        return maps

    return Explainer(f"{count} layer{'s' if count > 1 else ''}", explain)


def _method(kind: Any, rise_masks: int, released: bool) -> Explainer:
    def prepared(question: Question) -> tuple[Any, dict[str, Any]]:
        score = question.score
        options: dict[str, Any] = {}
        if kind is RISE:
            options["n_masks"] = rise_masks
        # With a list of classes, CLIP Surgery takes off what all of them share; a caption has only the empty text.
        if kind is CLIPSurgery and getattr(score, "labels", False):
            options["redundancy"] = "labels"
        if not released:
            return kind.of(score), options
        method = kind(score, score.layers[-1]) if kind is AttentionRollout else kind.of(score)
        return method, options | _released(kind, question)

    def explain(question: Question) -> Tensor:
        method, options = prepared(question)
        maps: Tensor = method.attribute(question.inputs, target=list(question.targets), **options)
        return maps

    def all_targets(question: Question) -> Tensor:
        method, options = prepared(question)
        maps: Tensor = method.attribute_targets(question.inputs, list(question.targets), **options)
        return maps

    return Explainer(kind.about.name, explain, kind.about.needs_text, all_targets)


def _released(kind: Any, question: Question) -> dict[str, Any]:
    if getattr(question.score, "pooled", False):
        return {}  # that code has no ResNet
    return (RELEASED if question.inputs.is_floating_point() else RELEASED_TEXT).get(kind, {})


def _of_captum(name: str) -> Explainer:
    def explain(question: Question) -> Tensor:
        return CAPTUM[name](question.score, question.inputs, list(question.targets), {})

    return Explainer(name, explain)


def _without_weight(question: Question) -> Tensor:
    method = GradECLIP(question.score, GradECLIP.default_layers(question.score))
    maps: Tensor = method.attribute(question.inputs, target=list(question.targets), spatial_weight="none")
    return maps


def _shape(question: Question) -> tuple[int, ...]:
    inputs = question.inputs
    return (1, *question.score.grid(inputs)) if inputs.is_floating_point() else tuple(inputs.shape[1:])


def _random(question: Question) -> Tensor:
    maps = [torch.rand(_shape(question), generator=torch.Generator().manual_seed(seed)) for seed in question.seeds]
    return torch.stack(maps).to(question.inputs.device)


def _centre(question: Question) -> Tensor:
    _, rows, columns = _shape(question)
    y, x = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in (rows, columns))
    prior = torch.exp(-2 * (y[:, None] ** 2 + x[None] ** 2))
    return prior.expand(len(question.inputs), 1, -1, -1).to(question.inputs.device)


def _oracle(question: Question) -> Tensor:
    """The mask; beside it, the nearer the sooner, but by so little that no sum shows it."""
    from scipy.ndimage import distance_transform_edt

    assert question.masks is not None
    maps = []
    for mask in question.masks == 1:
        away = torch.from_numpy(distance_transform_edt(~mask.numpy())).float()
        maps.append(torch.where(mask, 1.0, 1e-6 * (1 - away / away.max().clamp(min=1))))
    return torch.stack(maps)[:, None].to(question.inputs.device)
