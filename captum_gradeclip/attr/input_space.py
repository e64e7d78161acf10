"""A layer's map in the shape of the input, as Captum's metrics need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from ..adapters.base import Foreign
from ..scores import ImageScore
from ..scores.base import describe
from ..scores.image_text import enlarged
from .registry import AnyMethod

_Inputs = TypeVar("_Inputs", Tensor, tuple[Tensor])


class InputSpaceAttribution(Attribution):
    """The same method, its map returned in the input's shape: a tuple for a tuple, a tensor for a tensor.

    Captum's ``infidelity`` and ``sensitivity_max`` compare attributions with inputs element by element and are wrong for
    maps of another shape. Images: bilinear interpolation to height and width, each pixel's value shared equally among
    the channels, so that sums over the input are sums over pixels; pixels of no patch have 0. Token ids: unchanged.

    Args:
        method: for example ``GradECLIP(score, score.layers[-1:])``.

    >>> import torch
    >>> from captum_gradeclip import GradECLIP, ImageTextScore, InputSpaceAttribution, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> method = InputSpaceAttribution(GradECLIP(score, score.layers[-1:]))
    >>> method.attribute((torch.rand(2, 3, 64, 64),), target=0)[0].shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(self, method: AnyMethod) -> None:
        self.method = method

    @property
    def forward_func(self) -> Callable[..., Foreign]:
        """The wrapped method's forward function, whichever it has by now."""
        return self.method.forward_func

    def get_name(self) -> str:
        """The wrapped method's name."""
        name: str = self.method.get_name()
        return name

    @log_usage()  # outermost: Captum reaches through it by __wrapped__
    def attribute(self, inputs: _Inputs, **kwargs: Foreign) -> _Inputs:
        """The wrapped method's map in the shape of ``inputs``.

        Args:
            inputs: images ``(N, C, H, W)`` or token ids ``(N, L)``, or a tuple of one of them.
            kwargs: options of the wrapped method's ``attribute``.

        Raises:
            ValueError: for ``heads="each"``, whose maps have no single value per pixel; and for a method whose maps have no
                place in the image. Captum's own LayerGradCam gives ``(1, 1, C)`` for tokens, one value for each of their C
                channels: :class:`~captum_gradeclip.attr.TokenGradCam` is Grad-CAM on tokens.
        """
        if kwargs.get("heads") == "each":
            raise ValueError('heads: "each" gives several maps per input; use "single" or "model" in the input\'s space')
        x = inputs[0] if isinstance(inputs, tuple) else inputs
        attributions: Tensor = self.method.attribute(inputs, **kwargs)
        if x.dim() == 4 and attributions.dim() != 4:
            shape = tuple(attributions.shape)
            raise ValueError(f"method: expected maps (N, 1, h, w), got {shape}; instead of LayerGradCam, use TokenGradCam")
        if attributions.dim() == 4:
            score = describe(self.method.forward_func)
            size = x.shape[-2:]
            attributions = score.enlarged(attributions, x) if isinstance(score, ImageScore) else enlarged(attributions, size)
            attributions = (attributions / x.shape[1]).expand(-1, x.shape[1], -1, -1).contiguous()
        return (attributions,) if isinstance(inputs, tuple) else attributions
