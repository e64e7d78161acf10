"""Heads: whose score does a map explain, and does the unmodified model need what it marks?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import get_args

import torch
from open_clip import CLIP
from torch import Tensor

from ...attr import GradECLIP, Oracle, RandomMap, RawAttention
from ...attr.grad_eclip import Heads, SpatialWeight
from ...maps import ensemble
from ...metrics import Schedule, baseline, curves, margin, mean_change, pearson_correlation, pointing_game, target_score
from ...scenes import PAIRS, SceneDataset, SceneItem
from ...scores import ImageTextScore
from .finding import Finding, HeldOut, batches, finding, pair_score
from .pointing import named, pairs_of

DEFAULT = "single head, loosened"
"""The row that all others are compared with: the paper's reading."""
COLUMNS = ("pointing game", "cosine lost by deletion", "margin lost by deletion")
_HEADS: dict[Heads, str] = {"single": "single head", "model": "own heads", "each": "mean over own heads"}
_STEPS = Schedule(points=5)
"""A tenth, two, three, four tenths and a half of the pixels."""


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """The heads and spatial weights of Grad-ECLIP, judged by the unmodified model."""
    yield from ranking(model, held_out.of(2, 3, 4))
    yield from agreement(model, held_out.of(2, 3, 4))
    yield from judgment(model, held_out.of(2, 3, 4))


def ranking(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """In what share of the scenes the single-head pass ranks the texts otherwise than the model itself.

    Args:
        model: the model.
        data: scenes of several things.
    """
    score = pair_score(model)
    method = GradECLIP.for_score(score)
    best: list[bool] = []
    order: list[bool] = []
    for items, pixels in batches(model, data, "ranking"):
        with torch.no_grad():
            own = score(pixels)
        single = method.outcome(pixels).explained_scores
        assert single is not None
        best += (own.argmax(dim=1) != single.argmax(dim=1)).tolist()
        for item, one, other in zip(items, own, single):
            shown = pairs_of(item)
            if len(shown) > 1:
                order.append(one[shown].argsort().tolist() != other[shown].argsort().tolist())
    yield from finding(f"the single-head pass has another best text, of {len(PAIRS)}", best)
    yield from finding("the single-head pass ranks the things of the scene otherwise", order)


def agreement(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """Pearson's correlation of signed maps of the single head with those of the model's own heads.

    Args:
        model: the model.
        data: scenes of several things.
    """
    score = pair_score(model)
    method = GradECLIP.for_score(score)
    found: dict[str, list[float]] = {}
    for items, pixels in batches(model, data, "agreement"):
        numbers, targets, _ = named(items)
        maps = {
            (heads, weight): method.attribute(
                pixels[numbers], targets, heads=heads, spatial_weight=weight, relu_attributions=False
            )[:, 0]
            for heads, weight in (("single", "loosened"), ("model", "loosened"), ("model", "softmax"))
        }
        single = maps["single", "loosened"]
        for weight in ("loosened", "softmax"):
            values = pearson_correlation(single, maps["model", weight]).nan_to_num(0.0).tolist()
            found.setdefault(f"correlation of {DEFAULT}, with own heads, {weight}", []).extend(values)
    for what, values in found.items():
        yield from finding(what, values)
        yield from finding(f"share below one half: {what}", [value < 0.5 for value in values])


def judgment(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """What the unmodified model loses with the pixels that each reading marks, and whether these lie on the thing.

    Up to half of the pixels are replaced by the picture's mean color, in five steps. The cosine with the named thing falls
    for every map of the foreground; its margin over the best of the other things in the scene only for maps that tell them
    apart. Each scene counts once, by the mean over its things. The intervals are bootstrap intervals of 95 %, and each
    reading is compared with the paper's by a paired t-test over scenes.

    Args:
        model: the model.
        data: scenes of several things; those whose things are all of one color and shape are left out.
    """
    score = pair_score(model)
    values: dict[tuple[str, str], list[float]] = {}
    for items, pixels in batches(model, data, "whose score"):
        items, pixels = _of_several(items, pixels)
        if not items:
            continue
        numbers, targets, masks = named(items)
        images, rivals = pixels[numbers], torch.zeros(len(numbers), len(PAIRS), dtype=torch.bool)
        for row, number, target in zip(rivals, numbers, targets):
            row[pairs_of(items[number])] = True
            row[target] = False
        asked = torch.tensor(targets)
        judges = {COLUMNS[1]: target_score(asked), COLUMNS[2]: margin(asked, rivals)}
        gray = baseline(images, "own-mean", (0.0,) * 3, (1.0,) * 3)
        for name, maps in readings(score, images, targets, masks):
            traced = curves(score, images, maps, judges, background=gray, schedule=_STEPS)
            found = {column: -mean_change(curve) for column, curve in traced.items()}
            found[COLUMNS[0]] = pointing_game(maps, masks).float()
            for column, one in found.items():
                values.setdefault((name, column), []).extend(_by_scene(one, numbers))
    for name, column in sorted(values, key=lambda place: COLUMNS.index(place[1])):
        against = values[DEFAULT, column]
        yield from finding(f"{column}, by scene: {name}", values[name, column], (name, column), against)


def readings(score: ImageTextScore, images: Tensor, targets: Sequence[int], masks: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Maps ``(N, 1, h, w)`` of all combinations of heads and spatial weight by name, of sums, and of what bounds them.

    Args:
        score: the score.
        images: ``(N, 3, H, W)``.
        targets: the column that each image is explained for.
        masks: the truth ``(N, H, W)``, boolean, for the oracle.
    """
    method, known = GradECLIP.for_score(score), {}
    for heads, weight in itertools.product(_HEADS, get_args(SpatialWeight)):
        maps = method.attribute(images, list(targets), heads=heads, spatial_weight=weight).mean(dim=1, keepdim=True)
        known[heads, weight] = maps
        yield f"{_HEADS[heads]}, {weight}", maps
    for weight in get_args(SpatialWeight):
        yield f"sum of single and own heads, {weight}", ensemble([known["single", weight], known["model", weight]])
    yield "both readings", ensemble([known["single", "loosened"], known["model", "softmax"]])
    yield "raw attention", RawAttention.for_score(score).attribute(images)
    yield "random map", RandomMap.for_score(score).attribute(images)
    yield "oracle (mask)", Oracle.for_score(score).attribute(images, list(targets), masks=masks.float())


def _of_several(items: Sequence[SceneItem], pixels: Tensor) -> tuple[list[SceneItem], Tensor]:
    """The scenes that show two pairs at least."""
    kept = [number for number, item in enumerate(items) if len(pairs_of(item)) > 1]
    return [items[number] for number in kept], pixels[kept]


def _by_scene(values: Tensor, numbers: Sequence[int]) -> list[float]:
    """The mean of the values of each scene, in the order of the scenes."""
    scenes = torch.tensor(numbers)
    return [float(values[scenes == number].double().mean()) for number in dict.fromkeys(numbers)]
