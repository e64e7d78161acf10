"""Why this target rather than another one: the difference of two scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import adapters
from ..adapters import ImageTower, Readout, Site, TextTower
from ..arguments import check_number
from ..quoting import quoted
from .base import ModelScore, Tokens, cosines, unit_features
from .classes import ClassScore
from .image_text import ImageScore, ImageTextScore
from .texts import text_features, tokenize


class ContrastScore(ModelScore):
    r"""A score minus that of what it is held against: explain why an image matches one text *rather than* another.

    .. math:: C_{nt} = S_{nt} - S_{na}, \quad C_{nt} = S_{nt} - s_n, \quad
        C_{nt} = S_{nt} - \frac{1}{T - 1} \sum_{t' \neq t} S_{nt'}

    for another target :math:`a`, for the score :math:`s` of another text, and against the mean of the others. What both
    have in common cancels, so that a signed map (``relu_attributions=False``) is positive where the image speaks for the
    target, and negative where it speaks for the other. The gradient is that of the difference, so that one backward pass
    explains it, by every method that differentiates.

    Args:
        score: a score of this package with T targets. It is an :class:`ImageScore` itself if this one is.
        against: the index of another target, negative ones count from the end; another text, for the score of images and
            texts that were bound with their tokenizer (``""`` is the text without words, which needs no tokenizer); the name
            of a class, for a classifier; or ``None`` (default) for the mean of all other targets.

    Raises:
        TypeError: for a score that is not of this package, or ``against`` of another kind.
        ValueError: for a text where no texts are compared or no tokenizer is known, an index outside the targets, or
            ``None`` with one target only, which has no others.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "a blue circle", "two stars"], tokenizer)
    >>> contrast = ContrastScore(score, against=1)
    >>> contrast(torch.zeros(2, 3, 96, 96))[:, 1]
    tensor([0., 0.], grad_fn=<SelectBackward0>)
    """

    score: ModelScore
    other_features: Tensor | None

    def __new__(cls, score: ModelScore | None = None, against: int | str | None = None) -> ContrastScore:
        """The contrast of a score of images is one of images itself."""
        chosen = _ImageContrastScore if cls is ContrastScore and isinstance(score, ImageScore) else cls
        made: ContrastScore = object.__new__(chosen)
        return made

    def __init__(self, score: ModelScore, against: int | str | None = None) -> None:
        if not isinstance(score, ModelScore):
            raise TypeError(
                f"score: expected a score of this package, got {type(score).__name__}; of another callable, explain a"
                " function that returns the difference of its scores"
            )
        ModelScore.__init__(self, score.model)
        self.score = score
        other = None
        if isinstance(against, str):
            if isinstance(score, ClassScore):
                against = score.find(against)
            else:
                other, against = _features(score, against), None
        elif against is not None:
            check_number("against", against, whole=True)
        self.against: int | None = against
        """The index of the target that the others are held against; ``None`` for a text or the mean of the others."""
        self.register_buffer("other_features", other, persistent=False)

    @property
    def tower(self) -> ImageTower | TextTower:
        """The facts of the encoder whose inputs are explained."""
        return self.score.tower

    @property
    def sites(self) -> Sequence[Site]:
        """The attentions of the score."""
        return self.score.sites

    @property
    def readout(self) -> Readout:
        """How the score leaves the tokens of the last site."""
        return self.score.readout

    def tokens(self, site: Site, inputs: Tensor, rows: int) -> tuple[Tokens | None, Tokens]:
        """What the queries and the keys of a site stand for, see :meth:`Score.tokens`."""
        return self.score.tokens(site, inputs, rows)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs to differences ``(N, T)``."""
        if self.other_features is not None:
            assert isinstance(self.score, ImageTextScore)
            both = cosines(self.score.features(inputs), torch.cat([self.score.text_features, self.other_features]))
            return both[:, :-1] - both[:, -1:]
        scores: Tensor = self.score(inputs)
        count = scores.shape[1]
        if self.against is None:
            if count < 2:
                raise ValueError("against: None stands for the mean of the other targets, and the score has one target only")
            return (count * scores - scores.sum(dim=1, keepdim=True)) / (count - 1)
        if not -count <= self.against < count:
            raise ValueError(f"against: expected the index of one of {count} targets, got {self.against}")
        return scores - scores[:, self.against, None]


class _ImageContrastScore(ContrastScore, ImageScore):
    """The contrast of a score of images."""

    @property
    def tower(self) -> ImageTower:
        """The facts of the image encoder."""
        return adapters.image_tower(self.model)


def _features(score: ModelScore, text: str) -> Tensor:
    """Unit features ``(1, D)`` of another text.

    Raises:
        ValueError: if the score compares no images with texts, or knows no tokenizer.
    """
    if not isinstance(score, ImageTextScore):
        raise ValueError(
            f"against: expected the index of a target, got the text {quoted(text)}; only an ImageTextScore compares images"
            " with texts"
        )
    if not text.strip():
        return score.empty_features
    if score.tokenizer is None:
        raise ValueError(
            f"against: {quoted(text)} needs a tokenizer; give the model's own to ImageTextScore, or bind this text there as"
            " well and give its index"
        )
    return unit_features(text_features(score.model, tokenize(score.model, text, score.tokenizer)), "against")
