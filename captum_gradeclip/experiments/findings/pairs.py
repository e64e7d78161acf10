"""Pairs: does each word of a caption point at its own thing, also where the word stands twice, and at what price?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from open_clip import CLIP
from torch import Tensor

from ... import scenes
from ...attr import Stopwatch
from ...metrics import Schedule, curves, margin, pointing_game
from ...progress import track
from ...scenes import SceneDataset, Thing
from ...scores import ImageTextScore
from ..pairs import KINDS, Contender, PairBatch, caption, contenders, growing
from .finding import Chosen, Finding, HeldOut, batches, finding

SETTLED = 0.01
"""A budget is doubled until no figure of pointing moves by this much."""


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """Captions of two things that share neither color nor shape, and of two things that share one of them."""
    for shared in ("", "shape", "color"):
        yield from pairs(model, captioned(held_out, shared), shared, held_out.coalitions)


def captioned(held_out: HeldOut, shared: str = "") -> SceneDataset:
    """Scenes of two things that share ``"shape"`` or ``"color"`` and not the other, or neither (empty, the default)."""

    def wanted(one: Thing, other: Thing) -> bool:
        same = one.shape == other.shape, one.colour == other.colour
        return same == (shared == "shape", shared == "color")

    return Chosen(held_out.count, held_out.split, held_out.seed, held_out.size, wanted)


def pairs(model: CLIP, data: SceneDataset, shared: str = "", coalitions: int = 0) -> Iterator[Finding]:
    """How often the map of a word points at the word's thing, how much of what both do together it finds, and what it costs.

    A map points at its highest pixel. What a word and a region do together is what the region adds to the cosine with the
    whole caption, beyond what it adds to that without the word. Of each map the highest tenth of the pixels is painted in
    the mean color, and the fall of ``cosine(caption) - cosine(caption without the word)`` is measured: a second difference
    of the model's own score. For the map of the word alone, of the phrase and of the caption, Grad-ECLIP explains a prompt.

    A scene is one case of each figure: what is measured for its two words of one kind is averaged first. The cost of a
    contender is its time, as a ratio to one pass of each tower for the same scenes, the median over batches. Baselines with
    a budget are shown with every budget, which is doubled until no figure of pointing moves by :data:`SETTLED`.

    Args:
        model: the model.
        data: scenes of two things.
        shared: ``"shape"`` or ``"color"`` if both things have the same one, so that its word stands twice in the caption,
            and only this word counts; empty (default) if all words differ.
        coalitions: as for :class:`~captum_gradeclip.experiments.findings.HeldOut`.
    """
    shown = list(_judged(model, data))
    for name, explain in contenders(model).items():
        yield from _Measured.of(model, shown, explain, shared, name).findings(name)
    for one in growing(model, coalitions):
        before: _Measured | None = None
        for budget in one.budgets():
            name = one.name.format(budget)
            found = _Measured.of(model, shown, one.make(budget), shared, name)
            yield from found.findings(name)
            if before is not None and found.moved(before) < SETTLED:
                break
            before = found


@dataclass(frozen=True)
class _Judged:
    """Scenes with the score of their captions, and of their captions without each of the four words in turn."""

    batch: PairBatch
    score: ImageTextScore


def _judged(model: CLIP, data: SceneDataset) -> Iterator[_Judged]:
    tokenizer, first = scenes.tokenizer(), 0
    for items, pixels in batches(model, data, "scenes of two things"):
        tokens: Tensor = tokenizer([caption(item.scene.things) for item in items])
        batch = PairBatch(items, pixels, tokens.to(pixels.device), first)
        fewer = [one for number in range(4) for one in batch.captions(without=[number])]
        yield _Judged(batch, ImageTextScore(model, [*batch.captions(), *fewer], tokenizer))
        first += len(items)


@dataclass(frozen=True)
class _Measured:
    """What one contender was found to do, by kind of word, one value for each scene; and its ratios of time by batch."""

    pointing: dict[str, list[float]] = field(default_factory=dict)
    deletion: dict[str, list[float]] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, model: CLIP, shown: Sequence[_Judged], explain: Contender, shared: str, name: str) -> _Measured:
        """Measures a contender on all scenes."""
        kinds = [shared] if shared else ["color", "shape"]
        found = cls()
        for one in track(shown, f"pairs, {name}"):
            batch = one.batch
            with torch.no_grad(), Stopwatch(batch.pixels.device) as plain:
                model.encode_image(batch.pixels), model.encode_text(batch.tokens)
            with Stopwatch(batch.pixels.device) as watch:
                maps = explain(batch).to(batch.pixels.device)
            found.ratios.append(watch.seconds / plain.seconds)
            for kind in kinds:
                chosen = [number for number in range(4) if KINDS[number] == kind]
                key = f"{kind} that stands twice" if shared else kind
                hits = [pointing_game(maps[:, number].cpu(), batch.masks(number)).double() for number in chosen]
                falls = [_fall(one, maps[:, number], number).double() for number in chosen]
                for figures, values in ((found.pointing, hits), (found.deletion, falls)):
                    figures.setdefault(key, []).extend(torch.stack(values).mean(dim=0).tolist())
        return found

    def findings(self, name: str) -> Iterator[Finding]:
        """The figures, with their intervals."""
        for what, figures in (("pointing", self.pointing), ("deletion", self.deletion)):
            for kind, values in figures.items():
                yield from finding(f"pair {what}, {kind}: {name}", values, (name, f"{what}, {kind}"), against=values)
        what = f"cost, {' and '.join(self.pointing)}"
        yield Finding(f"pair {what}: {name}", statistics.median(self.ratios), len(self.ratios), place=(name, what))

    def moved(self, before: _Measured) -> float:
        """How far the figures of pointing are from those that were measured before, at most."""
        first, after = ([statistics.fmean(values) for values in one.pointing.values()] for one in (before, self))
        return max(abs(this - that) for this, that in zip(first, after))


def _fall(one: _Judged, maps: Tensor, number: int) -> Tensor:
    """How far what one of the four words adds to the cosine falls with the highest tenth of the pixels, ``(N,)``."""
    count = len(one.batch)
    target = torch.arange(count)
    rivals = torch.zeros(count, 5 * count, dtype=torch.bool)
    rivals[target, count * (1 + number) + target] = True
    margins: Tensor = curves(
        one.score,
        one.batch.pixels,
        maps,
        {"margin": margin(target, rivals)},
        background=torch.zeros_like(one.batch.pixels),
        schedule=Schedule(points=1, share=0.1),
    )["margin"]
    return margins[:, 0] - margins[:, 1]
