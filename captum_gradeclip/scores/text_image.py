"""How well texts match images that are bound: the score that explains words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import adapters
from ..adapters import TextTower
from ..adapters.base import execution_device
from .base import ModelScore, check_mode, cosines, unit_features
from .texts import CHUNK


class TextImageScore(ModelScore):
    """Cosines of texts with images that are bound in the module: explain *words*, ``target`` is the image's index.

    Args:
        model: a model that an adapter knows; used as it is and never changed.
        images: images ``(M, 3, H, W)`` of any size that is a multiple of the patch, or their features ``(M, D)``.

    Raises:
        ValueError: for images that are not finite, or features of another width.
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> TextImageScore(model, torch.zeros(2, 3, 64, 64))(tokenizer(["a red circle", "two stars", "something"])).shape
    torch.Size([3, 2])
    """

    image_features: Tensor

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        width = adapters.text_tower(model).width
        super().__init__(model)
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"images: expected a floating point tensor, got {kind}")
        if not torch.isfinite(images).all():
            raise ValueError("images: they hold NaN or infinite values")
        images = images.to(execution_device(model))
        if images.dim() == 2:
            features = images
            if images.shape[1] != width:
                raise ValueError(f"images: expected features (M, {width}), got shape {tuple(images.shape)}")
        else:
            check_mode(model)
            encoder = adapters.image_tower(model)
            with torch.inference_mode(False), torch.no_grad():
                features = torch.cat([encoder.encode(part.to(encoder.dtype)) for part in images.split(CHUNK)])
        self.register_buffer("image_features", unit_features(features, "images"))

    @property
    def tower(self) -> TextTower:
        """The facts of the text encoder."""
        return adapters.text_tower(self.model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids ``(N, L)`` to cosines ``(N, M)``."""
        return self.compare(self.tower.encode(tokens))

    def compare(self, features: Tensor) -> Tensor:
        """Features of texts ``(N, D)``, not normalized, to cosines ``(N, M)``."""
        return cosines(features, self.image_features)
