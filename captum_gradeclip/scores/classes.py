"""The logits of an image classifier."""

from __future__ import annotations

from torch import Tensor

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

    >>> import torch
    >>> from captum_gradeclip import adapters
    >>> model = adapters.families()["timm ViT"].build().eval()
    >>> ClassScore(model)(torch.zeros(2, 3, 40, 24)).shape
    torch.Size([2, 50])
    """

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, or ``None`` if the model does not carry them."""
        return self.tower.labels()

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` to logits ``(N, classes)``, in single precision at least."""
        return wide(self.features(images))
