"""How well texts match images that are bound: the score that explains words."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import adapters
from ..adapters import TextTower
from ..adapters.base import execution_device
from ..adapters.training import steady
from ..arguments import check_finite, check_tensor
from .base import ModelScore, cosines, unit_features
from .checks import check_ids
from .texts import CHUNK


class TextImageScore(ModelScore):
    """Cosines of texts with images that are bound in the module: explain *words*, ``target`` is the image's index.

    Args:
        model: a model that an adapter knows; used as it is and never changed.
        images: images ``(M, C, H, W)`` as the model takes them, or their features ``(M, D)``.

    Raises:
        TypeError: for anything but a tensor.
        ValueError: for images that are not finite or have another shape, or features of another width.
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
        check_finite("images", check_tensor("images", images, "(M, C, H, W)", f"(M, {width})", kind="floats"))
        images = images.to(execution_device(model))
        if images.dim() == 2:
            features = images
        else:
            encoder = adapters.image_tower(model)
            with torch.inference_mode(False), torch.no_grad(), steady([model], images.device):
                features = torch.cat([encoder.encode(part.to(encoder.dtype)) for part in images.split(CHUNK)])
        self.register_buffer("image_features", unit_features(features, "images"))

    @property
    def tower(self) -> TextTower:
        """The facts of the text encoder."""
        return adapters.text_tower(self.model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids ``(N, L)`` to cosines ``(N, M)``."""
        tower = self.tower
        check_ids("inputs", tokens, tower.vocabulary)
        return self.compare(tower.encode(tokens))

    def front(self, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The front of texts that their scores depend on, and a function of it; see :meth:`ModelScore.front`."""
        if not self.runs(TextImageScore.forward):
            return inputs, self
        tower = self.tower
        check_ids("inputs", inputs, tower.vocabulary)
        tokens, encode = adapters.front(tower, inputs)
        return tokens, lambda tokens: self.compare(encode(tokens))

    def compare(self, features: Tensor) -> Tensor:
        """Features of texts ``(N, D)``, not normalized, to cosines ``(N, M)``."""
        return cosines(features, self.image_features)
