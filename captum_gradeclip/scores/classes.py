"""The logits of an image classifier."""

from __future__ import annotations

from torch import Tensor, nn

from .base import wide
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

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to logits ``(N, classes)``, in single precision at least."""
        return wide(self.features(images))
