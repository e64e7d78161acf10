"""How well images match texts that are bound: the score that explains images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .. import adapters
from ..adapters import ImageTower
from ..adapters.base import execution_device
from ..adapters.tokenizers import Tokenizer
from .base import ModelScore, Tokens, cosines, unit, unit_features
from .texts import empty_text, encode_text, text_features, tokenize


class ImageScore(ModelScore):
    """The base of the scores of images: a model, and the facts of its image tower.

    Args:
        model: a model that an adapter knows; used as it is and never changed.

    Raises:
        UnsupportedModelError: if no adapter knows the model.

    >>> import torch
    >>> from captum_gradeclip import scenes
    >>> score, images = ImageScore(scenes.load()[0]), torch.rand(2, 3, 64, 48)
    >>> score.features(images).shape, score.grid(images)
    (torch.Size([2, 128]), (8, 6))
    """

    def __init__(self, model: nn.Module) -> None:
        adapters.image_tower(model)
        super().__init__(model)

    @property
    def tower(self) -> ImageTower:
        """The facts of the image encoder."""
        return adapters.image_tower(self.model)

    def features(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to the image tower's features ``(N, D)``, not normalized; of a classifier, its logits."""
        tower = self.tower
        return tower.encode(images.to(tower.dtype))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of the patches of images ``(N, C, H, W)``, the padded ones of a model that pads."""
        return self.tower.grid(images.shape[-2:])

    def enlarged(self, maps: Tensor, images: Tensor) -> Tensor:
        """Maps of images at the size of these, see :func:`enlarged`; those on the patch grid lie where the patches do."""
        rows, columns = self.grid(images)
        on_grid = tuple(maps.shape[-2:]) == (rows, columns)
        patch = self.tower.patch
        return enlarged(maps, images.shape[-2:], (rows * patch, columns * patch) if on_grid else None)

    def _keys(self, inputs: Tensor, rows: int) -> Tokens:
        height, width = self.grid(inputs)
        start = rows - height * width
        if start < 0:
            raise ValueError(f"layer: it attends over {rows} tokens, fewer than the image's {height} x {width} patches")
        return Tokens("patches", (height, width), start)


def enlarged(maps: Tensor, size: Sequence[int], covered: Sequence[int] | None = None) -> Tensor:
    """Enlarges maps bilinearly to the size of images.

    Args:
        maps: ``(N, T, h, w)``.
        size: height and width of the images in pixels.
        covered: height and width of what the maps cover from the corner at the left and above: less than the images, where a
            rest belongs to no patch and gets 0, or more, where the model pads; ``None`` (default) for the whole images.

    >>> import torch
    >>> enlarged(torch.ones(1, 1, 1, 1), (2, 3), (2, 2))
    tensor([[[[1., 1., 0.],
              [1., 1., 0.]]]])
    """
    height, width = covered or size
    found = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    return F.pad(found, (0, size[1] - width, 0, size[0] - height))  # which also cuts off


class ImageTextScore(ImageScore):
    r"""Cosines of images with prompts that are bound in the module: explain *images*, ``target`` is the prompt's index.

    .. math:: S_{nt} = \frac{\langle f_n, g_t \rangle}{|f_n| |g_t|}

    Args:
        model: a model that an adapter knows; used as it is and never changed.
        text: prompts as token ids ``(T, L)``, as features ``(T, D)``, or as strings together with ``tokenizer``. They are
            bound here since Captum's NoiseTunnel and metrics would repeat a tensor among the additional arguments.
        tokenizer: tokenizer of open_clip or transformers, needed for strings only (default ``None``).

    Raises:
        TypeError: for strings without a tokenizer, or a text of another kind.
        ValueError: for an empty text, one longer than the model's context, or features of another width.
        UnsupportedModelError: if no adapter knows the model.

    >>> import torch
    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> score(torch.zeros(3, 3, 64, 96)).shape
    torch.Size([3, 2])
    """

    text_features: Tensor
    _empty: Tensor | None

    def __init__(self, model: nn.Module, text: Tensor | str | Sequence[str], tokenizer: Tokenizer | None = None) -> None:
        super().__init__(model)
        if not isinstance(text, Tensor):
            features = text_features(model, tokenize(model, text, tokenizer))
        elif text.is_floating_point():
            features = text.to(execution_device(model))
            if text.dim() != 2 or text.shape[1] != self.tower.width:
                raise ValueError(f"text: expected features (T, {self.tower.width}), got shape {tuple(text.shape)}")
        else:
            features = text_features(model, text.to(execution_device(model)), name="text")
        self.register_buffer("text_features", unit_features(features, "text"))
        self.register_buffer("_empty", None, persistent=False)
        self.tokenizer = tokenizer

    @property
    def empty_features(self) -> Tensor:
        """Unit features ``(1, D)`` of a text without words, encoded once.

        Raises:
            ValueError: if only the tokenizer knows the marks around a text, and none was given.
        """
        if self._empty is None:
            known = self.tokenizer is not None
            tokens = tokenize(self.model, "", self.tokenizer, allow_empty=True) if known else empty_text(self.model)
            self._empty = encode_text(self.model, tokens)
        return self._empty

    @property
    def directions(self) -> Tensor | None:
        """The unit features ``(T, D)`` of the prompts; ``None`` if another forward pass than that of this class runs."""
        return self.text_features if self.runs(ImageTextScore.forward) else None

    def unit_features(self, inputs: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to unit features ``(N, D)``, whose products with :attr:`directions` are the cosines."""
        return unit(self.features(inputs))

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` of the native size, or of one that is a multiple of the patch, to cosines ``(N, T)``."""
        return cosines(self.features(images), self.text_features)
