"""The logits of an image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from ..quoting import quoted
from .base import ModelScore, wide
from .class_names import find_class
from .image_text import ImageScore


class ClassScore(ImageScore):
    """Logits of an image classifier of timm, transformers or torchvision: ``target`` is the class.

    The same as the classifier itself, but it takes images of any size (positions are interpolated on a view; the model
    stays as it is), always returns a tensor, and knows its layers.

    Args:
        model: a classifier that an adapter knows; used as it is and never changed.

    Raises:
        UnsupportedModelError: if no adapter knows the model.
        TypeError: for a model whose output are features, of which no number is a class.

    >>> import torch
    >>> from captum_gradeclip import adapters
    >>> model = adapters.families()["timm ViT"].build().eval()
    >>> ClassScore(model)(torch.zeros(2, 3, 40, 24)).shape
    torch.Size([2, 50])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if not self.tower.classes:
            raise TypeError(
                f"model: expected a classifier, got {type(model).__name__}, whose output are features without classes;"
                " compare images with texts by ImageTextScore, or give the model a head (num_classes) first"
            )

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, or ``None`` if the model does not carry them."""
        return self.tower.labels()

    def find(self, target: int | str) -> int:
        """The index of a class that is given by its index, name or WordNet id.

        Args:
            target: as :func:`captum_gradeclip.scores.find_class` reads it.

        Raises:
            TypeError: for anything but an integer or a string.
            ValueError: if there is no such class, or if several are called so.
        """
        return find_class(target, self.tower.classes, self.labels)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to logits ``(N, classes)``, in single precision at least."""
        return wide(self.features(images))


def columns_of(score: ModelScore, targets: str | Sequence[int | str] | Tensor | None) -> Sequence[int] | Tensor | None:
    """The columns of a score that are meant, with an index in the place of each name of a class.

    Args:
        score: a score module.
        targets: indices, T of them or a tensor ``(T,)`` or ``(N, T)``; or, of a :class:`ClassScore`, names or WordNet ids of
            classes as well; ``None`` for all columns.

    Returns:
        The targets themselves if there is no name among them; whether an index is there, is not asked.

    Raises:
        ValueError: for a name of no class or of several, or for a score without classes.

    >>> from captum_gradeclip import adapters
    >>> score = ClassScore(adapters.families()["transformers ViT"].build().eval())
    >>> columns_of(score, ["class 3", 7])
    [3, 7]
    """
    several = [targets] if isinstance(targets, str) else targets
    names = [one for one in several if isinstance(one, str)] if isinstance(several, (list, tuple)) else []
    if not names:
        return cast("Sequence[int] | Tensor | None", several)
    if not isinstance(score, ClassScore):
        raise ValueError(f"targets: expected indices, got {quoted(names[0])}; only the classes of a ClassScore have names")
    return [score.find(one) if isinstance(one, str) else one for one in cast("Sequence[int | str]", several)]
