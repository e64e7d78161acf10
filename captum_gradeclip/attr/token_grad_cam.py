"""Grad-CAM on tokens: the features that enter a layer, weighted with their mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..attention import CaptureInput, examples_axis, model_heads, single_head
from .base import Evidence, MethodInfo, Options, Request, Targets
from .linear import LinearAttribution

Average = Literal["tokens", "patches"]


@dataclass(frozen=True)
class TokenGradCamOptions(Options):
    """The options of :class:`TokenGradCam`.

    Attributes:
        heads: heads of the layer, ``"model"`` (default) for the model's own, or ``"single"`` as in the released code of
            Grad-ECLIP.
        average: what the gradient is averaged over, all ``"tokens"`` (default), class token included, as in that code, or
            the ``"patches"``.
        relu_attributions: whether only positive evidence is kept (default True).
    """

    heads: Literal["model", "single"] = "model"
    average: Average = "tokens"
    relu_attributions: bool = True


@dataclass(frozen=True)
class LayerFeature(Evidence):
    """The features that enter a layer.

    Attributes:
        feature: the layer's input, with its graph, as the layer was given it.
        rows: number of tokens of the layer.
        axis: dimension of the examples in it, if it is known.
    """

    feature: Tensor
    rows: int
    axis: int | None

    @property
    def at(self) -> Sequence[Tensor]:
        """The feature."""
        return [self.feature]

    def as_tokens(self, x: Tensor) -> Tensor:
        """The feature, or gradients at it, as ``([T,] N, L, C)``."""
        if x.dim() >= 4 and x.shape[-2] * x.shape[-1] == self.rows - 1:
            return x.flatten(-2).mT  # the feature map in front of an attention pool, which adds its mean
        axis = examples_axis(x if x.dim() == 3 else x[0], len(self.output)) if self.axis is None else self.axis
        return x.transpose(-3, axis - 3)


def grad_cam(feature: Tensor, gradient: Tensor, first: int = 0) -> Tensor:
    r"""The map before its ReLU.

    .. math:: H_i = \sum_c \alpha_c F_{ic}, \quad \alpha_c = \operatorname*{mean}_j \frac{\partial S}{\partial F_{jc}}

    Args:
        feature: features F of the tokens, ``(N, L, C)``.
        gradient: gradient of the score at the features, ``([T,] N, L, C)``.
        first: index of the first token that the mean over ``j`` includes, at least 0 (default 0).

    Returns:
        ``([T,] N, L)``.

    >>> import torch
    >>> grad_cam(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    tensor([[3., 3.]])
    """
    return (gradient[..., first:, :].mean(dim=-2, keepdim=True) * feature).sum(dim=-1)


class TokenGradCam(LinearAttribution[TokenGradCamOptions, LayerFeature]):
    """Grad-CAM of a transformer's tokens, or of the feature map before an attention pool.

    Captum's own LayerGradCam takes the tokens ``(N, L, C)`` for channels and gives ``(N, 1, C)``, which has no place in the
    picture.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: the block (or attention pool) whose input is looked at, usually the last one. With a score module, a part of
            a block stands for the block.
        device_ids: accepted for Captum's sake.

    >>> import torch
    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> TokenGradCam(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Selvaraju et al.: "Grad-CAM", ICCV 2017; on tokens as in arXiv 2502.18816.
    """

    info = MethodInfo("Grad-CAM", "Selvaraju et al., ICCV 2017", convolutional=True, gradient=True)
    Options = TokenGradCamOptions

    def observe(self, request: Request, options: TokenGradCamOptions) -> LayerFeature:
        """The input of the layer, where the graph begins."""
        if len(request.layers) != 1:
            raise ValueError(f"layer: Grad-CAM looks at one layer, got {len(request.layers)}")
        block = request.site(request.layers[0]).module
        entry = CaptureInput(block)
        rule = single_head if options.heads == "single" else model_heads
        seen = request.intercept(rule, entry, layers=[block])
        feature, rows = entry.tensor, seen.records[0].key.shape[-2]
        if feature.dim() == 3:
            return LayerFeature(request, seen.output, seen.tokens, feature, rows, request.examples_axis(block))
        # A feature map in front of a pool has one token less than the pool, which adds the mean of all.
        return LayerFeature(request, seen.output, request.keys(rows - 1), feature, rows, None)

    def effects(self, evidence: LayerFeature, targets: Targets, options: TokenGradCamOptions) -> Tensor:
        """The features, weighted with their mean gradient, ``(T, 1, N, L)``."""
        (gradient,) = evidence.gradient(targets)
        feature, gradient = evidence.as_tokens(evidence.feature), evidence.as_tokens(gradient)
        return grad_cam(feature, gradient, evidence.tokens.start if options.average == "patches" else 0)[:, None]

    def conclude(self, effects: Tensor, options: TokenGradCamOptions) -> Tensor:
        """The effects, or what is positive of them, ``(T, N, L)``."""
        return effects[:, 0].relu() if options.relu_attributions else effects[:, 0]
