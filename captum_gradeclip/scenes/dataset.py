"""The scenes as a PyTorch dataset, seeded and of any length, with splits that share no scene."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from ..arguments import check_number, one_of
from .draw import draw
from .world import MOST_THINGS, Scene, Split, sample_scene, twin


class SceneItem(NamedTuple):
    """One item of :class:`SceneDataset`.

    Attributes:
        image: the picture, RGB.
        masks: ``(things, size, size)``, boolean, see :func:`captum_gradeclip.scenes.draw`.
        scene: what the picture shows.

    >>> from captum_gradeclip.scenes import name
    >>> item = SceneDataset(1, "evaluation")[0]
    >>> item.image.size, tuple(item.masks.shape), [name(thing).text for thing in item.scene.things]
    ((96, 96), (1, 96, 96), ['cyan triangle'])
    """

    image: Image.Image
    masks: Tensor
    scene: Scene


class SceneDataset(Dataset[SceneItem]):
    """The first ``length`` scenes of a split.

    Args:
        length: number of scenes, 0 or more.
        split: ``"train"`` (the default), ``"validation"`` or ``"evaluation"``; no arrangement occurs in two of them.
        seed: seed of the series of scenes (default 0).
        size: side of the pictures in pixels (default 96).
        counts: numbers of things per scene, 1 to 6, one of which is drawn with equal chance (default 1, 1, 1, 2, 3, 4, so
            that half of the scenes have one thing).

    Raises:
        TypeError, ValueError: if an argument is not as above.

    >>> item = SceneDataset(10, split="evaluation", counts=(2, 3, 4))[0]
    >>> item.image.size, len(item.masks) == len(item.scene.things)
    ((96, 96), True)
    """

    def __init__(
        self,
        length: int,
        split: Split = "train",
        seed: int = 0,
        size: int = 96,
        counts: tuple[int, ...] = (1, 1, 1, 2, 3, 4),
    ) -> None:
        check_number("length", length, whole=True, least=0)
        check_number("seed", seed, whole=True, least=0)
        check_number("size", size, whole=True, least=1)
        one_of("split", split, Split)
        if not counts:
            raise ValueError("counts: expected at least one number of things, got none")
        for count in counts:
            check_number("counts", count, whole=True, least=1, most=MOST_THINGS)
        self.length, self.split, self.seed, self.size, self.counts = length, split, seed, size, counts

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> Scene:
        """Gives a scene without drawing it.

        Args:
            index: number of the scene, from 0.

        Raises:
            IndexError: if there is no such scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"index: expected 0 to {self.length - 1}, got {index}")
        return sample_scene(self.seed, index, self.split, self.counts)

    def __getitem__(self, index: int) -> SceneItem:
        scene = self.scene(index)
        image, masks = draw(scene, self.size)
        return SceneItem(image, torch.from_numpy(masks), scene)


class TwinScenes(SceneDataset):
    """Training scenes in pairs: each scene of an odd number is the :func:`twin` of the one before.

    Arguments are those of :class:`SceneDataset`; ``length`` counts the twins too.
    """

    def scene(self, index: int) -> Scene:
        """Gives a scene without drawing it; errors are those of :meth:`SceneDataset.scene`."""
        scene = super().scene(index - index % 2)
        return twin(scene, self.seed) if index % 2 else scene
