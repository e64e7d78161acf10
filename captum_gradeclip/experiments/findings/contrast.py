"""Contrast: does the map of one thing rather than another one tell the two apart?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn import functional as F

from ...adapters.base import Foreign
from ...attr import GradECLIP
from ...scenes import SceneDataset
from ...scenes.world import Split
from ...scores import ContrastScore
from .finding import Chosen, Finding, HeldOut, batches, finding, pair_score

_SIGNED = {"relu_attributions": False}
_READINGS: dict[str, Mapping[str, Foreign]] = {
    "single head": _SIGNED,
    "own heads, softmax": {"heads": "model", "spatial_weight": "softmax", **_SIGNED},
}


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """Signed maps of one of two things that differ in their color, with and without contrast."""
    yield from contrast(model, Lookalikes(held_out.count, held_out.split, held_out.seed, held_out.size))


class Lookalikes(Chosen):
    """Scenes of two things that have one shape and two colors: those among all scenes of two things."""

    def __init__(self, length: int, split: Split, seed: int, size: int) -> None:
        super().__init__(
            length, split, seed, size, lambda one, other: one.shape == other.shape and one.colour != other.colour
        )


def contrast(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """Signed maps of prompts such as "red circle" where a blue circle is as well: of its score, and of the difference.

    A map is positive on a thing if its mean over the thing's mask is. Both things of a picture are named, each in turn.

    Args:
        model: the model.
        data: scenes of two things, of two kinds.
    """
    score = pair_score(model)
    signs: dict[str, list[tuple[bool, bool]]] = {}
    for items, pixels in batches(model, data, "contrast"):
        pairs = [[thing.pair for thing in item.scene.things] for item in items]
        for named, other in ((0, 1), (1, 0)):
            # One contrast for each pair that something is held against, and all pictures for which it is.
            for against in sorted({pair[other] for pair in pairs}):
                chosen = [number for number, pair in enumerate(pairs) if pair[other] == against]
                asked = [pairs[number][named] for number in chosen]
                masks = torch.stack([items[number].masks for number in chosen])
                for row, method in (
                    ("", GradECLIP.for_score(score)),
                    (", rather than the other", GradECLIP.for_score(ContrastScore(score, against))),
                ):
                    for name, options in _READINGS.items():
                        maps = method.attribute(pixels[chosen], target=asked, **options)
                        means = _mean_inside(maps, masks)
                        signs.setdefault(name + row, []).extend(
                            zip(means[:, named].gt(0).tolist(), means[:, other].lt(0).tolist())
                        )
    for row, some in signs.items():
        for column, values in (
            ("positive on the named thing", [positive for positive, _ in some]),
            ("negative on the other", [negative for _, negative in some]),
            ("both", [positive and negative for positive, negative in some]),
        ):
            yield from finding(f"{column}: {row}", values, (row, column))


def _mean_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The mean of maps ``(N, 1, h, w)`` over each of the masks ``(N, things, H, W)``, ``(N, things)``."""
    large = F.interpolate(maps, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    inside = masks.to(large.dtype)
    return (large * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp(min=1)
