"""Held-out scenes of the embedded model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import torch

from ... import scenes
from ...scenes import PAIRS, Phrase, SceneDataset
from ...scenes.world import Split
from .base import NOTHING, DataArguments, Sample


@dataclass(frozen=True)
class Scenes:
    """Scenes that the embedded model has not been trained on; the classes are the 48 pairs of color and shape.

    The label of a scene is the class of its first thing. Its first caption names up to three things; the second one says
    something about one or two of them.

    Args:
        length: number of scenes, at least 1.
        counts: the numbers of things in a scene, drawn with equal chance (default 2, 3 or 4).
        split: ``"evaluation"`` (default) to report figures, ``"validation"`` to choose a recipe by them.
        seed: seed of the scenes (default 0).
        templates: sentences around a class name; by default the name alone, which the model has been trained on.

    >>> data = Scenes(2)
    >>> data[0].id, len(data.classes), data.classes[0]
    ('evaluation-0-000000', 48, 'red circle')
    """

    length: int
    counts: tuple[int, ...] = (2, 3, 4)
    split: Split = "evaluation"
    seed: int = 0
    templates: Sequence[str] = ("{}",)

    name: ClassVar[str] = "scenes"
    segmented: ClassVar[bool] = True
    summary: ClassVar[str] = "held-out scenes of the embedded model"
    layout: ClassVar[str] = ""
    takes: ClassVar[tuple[str, ...]] = ("samples", "split", "seed", "counts")

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> Scenes:
        """By default 500 scenes."""
        length = 500 if arguments.samples is None else arguments.samples
        return cls(length, arguments.counts, arguments.split, arguments.seed)

    @property
    def about(self) -> Mapping[str, object]:
        """All arguments."""
        return asdict(self)

    @property
    def classes(self) -> Sequence[str]:
        """``"red circle"`` and so on."""
        return [Phrase(*kind).words() for kind in PAIRS]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        image, masks, scene = SceneDataset(self.length, self.split, self.seed, counts=self.counts)[index]
        segments = torch.full(masks.shape[1:], NOTHING)
        kinds = [thing.pair for thing in scene.things]
        for kind, mask in zip(kinds, masks):
            segments[mask] = kind
        named = scenes.name_all(scene).text
        other = scenes.sample_caption(scene, np.random.default_rng(index)).text
        return Sample(f"{self.split}-{self.seed}-{index:06d}", index, image, kinds[0], segments, (named, other))
