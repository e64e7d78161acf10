"""Setups: what methods and model see, what is changed, and how the methods run.

=====================  ==========================================  =====================================================
what                   ``fair``                                    ``release``: as the published code of Grad-ECLIP
=====================  ==========================================  =====================================================
methods see            one input, of the model's size              the picture in whole patches, its shorter side at most
                                                                   640 pixels; Rollout, GAME, CLIP Surgery and M2IB its
                                                                   center
the model judges       that same input, changed                    the center of the changed picture
pixels changed         all, in ten steps                           half of them, in ten steps of 10 * (n // 200) pixels;
                                                                   an insertion ends with the whole picture and does not
                                                                   begin with none of it
in their place         the chosen baseline                         the chosen baseline; before an insertion, black
words changed          by fifths, from none to all                 one to five; the area leaves out the first point
methods run            as their own papers have it                 as that code runs them
a class is called      by the prompts of the data set              for GAME and M2IB by its bare name, for CLIP Surgery
                                                                   by 85 sentences, among 59 other nouns
RISE has               500 masks                                   2000 masks
a random map           gains as much as it loses                   loses
papers' figures        are not comparable                          stand in brackets beside ours
=====================  ==========================================  =====================================================

The task ``targeted``, which no paper has, changes half of the pixels in ten steps under both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .. import images
from ..attr import (
    GAME,
    M2IB,
    AttentionRollout,
    CLIPSurgery,
    GradECLIP,
    GradECLIPWithoutWeight,
    MaskCLIP,
    RawAttention,
    TokenGradCam,
)
from ..attr.registry import AnyMethod, Kind
from ..maps import Frame
from ..metrics import Baseline, Schedule, word_steps
from ..metrics.curves import Mode
from ..scores import ModelScore
from .prompt_score import PromptScore
from .released_texts import among_nouns, told, wrapper_features as wrapper_features

_LARGEST = 640  # pixels of the shorter side up to which the published code takes pictures as they are


@dataclass(frozen=True)
class InputSpec:
    """What the model expects of an image.

    Attributes:
        size: its native height and width in pixels.
        patch: side of a patch in pixels.
        mean: mean of each channel, by which pixels in [0, 1] are normalized.
        std: standard deviation of each channel, likewise.
    """

    size: tuple[int, int]
    patch: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def prepare(self, image: Image.Image, resize: images.Resize, scale: float = 1.0) -> images.Picture:
        """The image as the model's input, see :func:`captum_gradeclip.images.prepare`."""
        return images.prepare(
            image,
            size=self.size,
            patch=self.patch,
            mean=self.mean,
            std=self.std,
            resize=resize,
            scale=scale,
            max_tokens=2**14,
        )

    def in_patches(self, pixels: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` resized to the nearest whole number of patches on each side, at least one."""
        size = [max(1, math.floor(side / self.patch + 0.5)) * self.patch for side in pixels.shape[-2:]]
        if size == list(pixels.shape[-2:]):
            return pixels
        return F.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=True)

    def center(self, pixels: Tensor) -> Tensor:
        """The center of images ``(N, 3, H, W)``, at the model's size: resized by the shorter side, then cut."""
        factor = max(self.size[0] / pixels.shape[-2], self.size[1] / pixels.shape[-1])
        size = [max(side, round(old * factor)) for side, old in zip(self.size, pixels.shape[-2:])]
        top, left = (size[0] - self.size[0]) // 2, (size[1] - self.size[1]) // 2
        found = []
        # Some at a time: of a long picture, what is cut away is many times as large as what stays.
        for some in pixels.split(max(1, 2**24 // math.prod(size))):
            if size != list(pixels.shape[-2:]):
                some = F.interpolate(some, size=size, mode="bicubic", align_corners=False, antialias=True)
            found.append(some[..., top : top + self.size[0], left : left + self.size[1]])
        return torch.cat(found)


View = Callable[[Image.Image, InputSpec, images.Resize], images.Picture]


class Setup:
    """Everything in which one way of measuring differs from another one; as it stands here, the fair one.

    One input is shown to all methods and to the model that judges them, and everything is taken away and given back.

    >>> from captum_gradeclip.experiments import FAIR, RELEASED
    >>> FAIR.schedule.shares("insertion")[0], RELEASED.schedule.shares("insertion")[-1], FAIR.published, RELEASED.published
    (0.0, 1.0, False, True)
    """

    id: ClassVar[str] = "fair"
    """Key in :data:`SETUPS`; titles of tables carry it."""
    schedule: ClassVar[Schedule] = Schedule(share=1.0)
    """After how many changed pixels the model is asked."""
    first_word_point: ClassVar[int] = 0
    """Index of the first point of a word curve that counts for its area."""
    published: ClassVar[bool] = False
    """Whether figures are measured as in the papers, so that theirs may stand beside them."""
    rise_masks: ClassVar[int] = 500
    """The number of RISE's masks, unless the user says otherwise."""

    def view(self, image: Image.Image, spec: InputSpec, resize: images.Resize) -> images.Picture:
        """The input that is explained and changed; ``resize`` is the user's choice."""
        return spec.prepare(image, resize)

    def gallery_view(self, image: Image.Image, spec: InputSpec, resize: images.Resize) -> images.Picture:
        """The input of the unchanged pictures of a gallery, which captions are searched in."""
        return self.view(image, spec, resize)

    def seen(self, kind: Kind, pixels: Tensor, spec: InputSpec) -> Tensor:
        """What a method sees of an input ``(N, 3, H, W)``."""
        return pixels

    def judge(self, pixels: Tensor, spec: InputSpec) -> Tensor:
        """What the model sees of a changed input ``(N, 3, H, W)``."""
        return pixels

    def baseline(self, mode: Mode, chosen: Baseline) -> Baseline:
        """What stands in the place of hidden pixels; ``chosen`` is the user's choice."""
        return chosen

    def captions(self, caption: str, words: Sequence[tuple[str, float]], mode: Mode) -> list[str]:
        """The six texts of a word curve: those after none, one fifth, ... and all of the words.

        Args:
            caption: the caption.
            words: its words with their weights, in the order of the sentence.
            mode: ``"deletion"`` or ``"insertion"``.
        """
        return _changed(words, mode, [round(len(words) * step / 5) for step in range(6)])

    def method(self, kind: Kind, score: ModelScore) -> AnyMethod:
        """A method on the layers that it explains: those that its paper chooses."""
        return kind.for_score(score)

    def options(self, kind: Kind, score: ModelScore, inputs: Tensor) -> dict[str, object]:
        """Options of a method where they differ from its defaults.

        With a set of labels, CLIP Surgery subtracts what all of them share; otherwise it only has the empty text.
        """
        return {"redundancy": "labels"} if kind is CLIPSurgery and isinstance(score, PromptScore) else {}


class Released(Setup):
    """The inputs, steps, texts and rivals of the published code of Grad-ECLIP.

    Pixels are changed in the picture itself. What methods see of it is brought to whole patches, or is its center. Classes
    are named to most methods by an ensemble of prompts; to GAME by their bare names, to M2IB by these as its wrapper reads
    them, and to CLIP Surgery by an ensemble of its own, each among 59 other nouns.
    """

    id: ClassVar[str] = "release"
    schedule: ClassVar[Schedule] = Schedule(share=0.5, untouched=True, parts=200)
    rise_masks: ClassVar[int] = 2000
    first_word_point: ClassVar[int] = 1
    published: ClassVar[bool] = True

    cropped: ClassVar[frozenset[Kind]] = frozenset({AttentionRollout, GAME, CLIPSurgery, M2IB})
    """The methods that see the center of a picture only; their map is stretched over the whole picture."""

    def view(self, image: Image.Image, spec: InputSpec, resize: images.Resize) -> images.Picture:
        """The picture in its own size, its shorter side at most 640 pixels; it need not be whole patches."""
        factor = max(1.0, min(image.size) / _LARGEST)
        size = (int(image.width / factor), int(image.height / factor))
        shown = image if factor == 1 else image.resize(size, Image.Resampling.BICUBIC)
        whole = images.prepare(shown, size=spec.size, patch=1, mean=spec.mean, std=spec.std, max_tokens=size[0] * size[1])
        return replace(whole, image=image, frame=Frame.whole(image.size), patch=None)

    def gallery_view(self, image: Image.Image, spec: InputSpec, resize: images.Resize) -> images.Picture:
        """The center of the picture."""
        return spec.prepare(image, "crop")

    def seen(self, kind: Kind, pixels: Tensor, spec: InputSpec) -> Tensor:
        """The center for the methods in :attr:`cropped`, the whole in whole patches for the others."""
        return spec.center(pixels) if kind in self.cropped else spec.in_patches(pixels)

    def judge(self, pixels: Tensor, spec: InputSpec) -> Tensor:
        """The center."""
        return spec.center(pixels)

    def baseline(self, mode: Mode, chosen: Baseline) -> Baseline:
        """The user's choice for deletions, black for insertions."""
        return "black" if mode == "insertion" else chosen

    def captions(self, caption: str, words: Sequence[tuple[str, float]], mode: Mode) -> list[str]:
        """The whole caption, and the texts after one to five words."""
        return [caption, *_changed(words, mode, range(1, 6))]

    def method(self, kind: Kind, score: ModelScore) -> AnyMethod:
        """On the layers that its paper chooses, Rollout on the last one alone; with the names that the method is told."""
        score = told(kind, score) if isinstance(score, PromptScore) else score
        return kind(score, score.layers[-1]) if kind is AttentionRollout else super().method(kind, score)

    def options(self, kind: Kind, score: ModelScore, inputs: Tensor) -> dict[str, object]:
        """The options by which the methods, and Grad-ECLIP for texts, become those of the code."""
        options = super().options(kind, score, inputs)
        if score.sites[0].kind != "pool":  # the published code has no ResNet
            options |= (_IMAGE_OPTIONS if inputs.is_floating_point() else _TEXT_OPTIONS).get(kind, {})
        if score.readout.kind == "pool":
            options.pop("similarity", None)  # which needs blocks that add the attention to their input
        if kind is CLIPSurgery and isinstance(score, PromptScore):
            options["among"] = among_nouns(score)
        return options


FAIR, RELEASED = Setup(), Released()
"""The setup that treats all methods alike, and that of the code which the papers released."""
SETUPS: dict[str, Setup] = {setup.id: setup for setup in (FAIR, RELEASED)}
"""The setups by id."""

_IMAGE_OPTIONS: dict[Kind, Mapping[str, object]] = {
    GradECLIP: {"similarity": "projected"},
    RawAttention: {"heads": "single"},
    TokenGradCam: {"heads": "single"},
    MaskCLIP: {"key_weight": True},
    CLIPSurgery: {"normalization": "tokens"},
}
_TEXT_OPTIONS: dict[Kind, Mapping[str, object]] = {
    RawAttention: {"heads": "single", "single_blocks": 8},
    GradECLIP: {"key_tokens": "all", "relu_before_sum": False},
    GradECLIPWithoutWeight: {"relu_before_sum": False},
    M2IB: {"wrapper_bug": True},
}


def _changed(words: Sequence[tuple[str, float]], mode: Mode, counts: Sequence[int]) -> list[str]:
    return list(word_steps([word for word, _ in words], [weight for _, weight in words], mode, counts))
