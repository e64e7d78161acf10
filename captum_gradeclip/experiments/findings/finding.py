"""Findings: one figure each about a model of scenes, and the held-out scenes that all of them are measured on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from open_clip import CLIP
from torch import Tensor

from ... import adapters, scenes
from ...adapters.base import execution_device
from ...metrics import bootstrap_interval, paired_t_test
from ...progress import track
from ...scenes import PAIRS, Phrase, Scene, SceneDataset, SceneItem, Thing, sample_scene
from ...scenes.world import Split
from ...scores import ImageTextScore
from ..setups import InputSpec

BATCH = 64
"""Largest number of scenes that are measured together."""


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        what: what was measured.
        value: mean over all cases.
        cases: number of cases.
        group: the key in :data:`~captum_gradeclip.experiments.findings.FIGURES` of those that it was measured with (default:
            none).
        place: row and column in the table of its group, for figures that only say something beside others; ``None``
            (default) for a line of its own.
        interval: the bootstrap interval of 95 % of the mean; ``None`` (default) where it was not asked for.
        p_value: of the paired t-test, two-sided, that the mean is that of what it was compared with, not corrected for the
            number of comparisons; ``None`` (default) where it was compared with nothing.
    """

    what: str
    value: float
    cases: int
    group: str = ""
    place: tuple[str, str] | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None


def finding(
    what: str,
    values: Sequence[float],
    place: tuple[str, str] | None = None,
    against: Sequence[float] | None = None,
) -> Iterator[Finding]:
    """The mean of some values as a finding; none if there was no case.

    Args:
        what: what was measured.
        values: one value for each case.
        place: see :class:`Finding` (default ``None``).
        against: the values that others have for the same cases, so that the finding has an interval and, unless these are
            the values themselves, a p-value; ``None`` (default) for a finding without them.

    >>> list(finding("hits", [True, False])), list(finding("hits", []))
    ([Finding(what='hits', value=0.5, cases=2, group='', place=None, interval=None, p_value=None)], [])
    """
    if not len(values):
        return
    interval = p_value = None
    if against is not None:
        numbers = [float(value) for value in values]
        interval = bootstrap_interval(numbers)
        compared = against is not values and len(values) > 1
        p_value = paired_t_test(numbers, [float(value) for value in against]).p_value if compared else None
    yield Finding(what, float(np.mean(values)), len(values), place=place, interval=interval, p_value=p_value)


@dataclass(frozen=True)
class HeldOut:
    """Series of scenes that a model has not been trained on, one for each choice of the numbers of things.

    Attributes:
        count: number of scenes of each series, at least 1.
        split: ``"evaluation"`` or ``"validation"``.
        seed: seed of the scenes.
        size: side of the pictures in pixels.
        coalitions: largest number of coalitions that a game is asked for, of each scene; 0 (default) leaves games out.
    """

    count: int
    split: Split
    seed: int
    size: int
    coalitions: int = 0
    _series: dict[tuple[int, ...], SceneDataset] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def for_model(cls, model: CLIP, count: int, split: Split, seed: int, coalitions: int = 0) -> HeldOut:
        """Scenes at the size of a model's images."""
        return cls(count, split, seed, adapters.image_tower(model).size[0], coalitions)

    def of(self, *counts: int) -> SceneDataset:
        """The scenes that have one of these numbers of things; the same object for the same numbers."""
        if counts not in self._series:
            self._series[counts] = _Arranged(self.count, self.split, self.seed, self.size, counts)
        return self._series[counts]

    def others(self, count: int, *counts: int) -> SceneDataset:
        """As many scenes of another series, none of which is among the first one."""
        return SceneDataset(count, self.split, self.seed + 1, self.size, counts)


class _Arranged(SceneDataset):
    """Scenes that are arranged once, since finding room for all things takes far longer than drawing them."""

    @cached_property
    def _known(self) -> dict[int, Scene]:
        return {}

    def scene(self, index: int) -> Scene:
        if index not in self._known:
            self._known[index] = super().scene(index)
        return self._known[index]


class Chosen(SceneDataset):
    """The first scenes of two things for which something holds, among all scenes of two things.

    Args:
        length: number of scenes, at least 1.
        split: the part of the scenes that they are drawn from.
        seed: seed of the scenes.
        size: side of the pictures in pixels.
        wanted: whether two things make a scene that is wanted.
    """

    def __init__(self, length: int, split: Split, seed: int, size: int, wanted: Callable[[Thing, Thing], bool]) -> None:
        super().__init__(length, split, seed, size, counts=(2,))
        drawn = (sample_scene(seed, index, self.split, (2,)) for index in itertools.count())
        self._known = list(itertools.islice((one for one in drawn if wanted(*one.things)), length))

    def scene(self, index: int) -> Scene:
        """A scene by its number, from 0."""
        return self._known[index]


def batches(model: CLIP, data: SceneDataset, what: str, size: int = BATCH) -> Iterator[tuple[list[SceneItem], Tensor]]:
    """The scenes in batches, with the model's inputs ``(N, 3, H, W)`` on its device.

    Args:
        model: the model, which says how its images are prepared.
        data: the scenes.
        what: what the progress bar says.
        size: largest number of scenes in a batch, at least 1 (default :data:`BATCH`).
    """
    tower = adapters.image_tower(model)
    spec, device = InputSpec(tower.size, tower.patch, tower.mean, tower.std), execution_device(model)
    for start in track(range(0, len(data), size), what):
        items = [data[index] for index in range(start, min(start + size, len(data)))]
        yield items, torch.cat([spec.prepare(item.image, "crop").pixels for item in items]).to(device)


def pair_score(model: CLIP) -> ImageTextScore:
    """The score of pictures with ``"red circle"`` and so on, a column for each of :data:`~captum_gradeclip.scenes.PAIRS`."""
    return ImageTextScore(model, [Phrase(*pair).words() for pair in PAIRS], scenes.tokenizer())
