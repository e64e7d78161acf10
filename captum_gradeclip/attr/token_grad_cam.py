"""Grad-CAM on tokens: the features that enter a layer, weighted with their mean gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from captum.log import log_usage
from torch import Tensor

from ..attention import LayerInput, examples_axis, model_heads, single_head
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    check_kind,
    content_slice,
    key_tokens,
    over_targets,
    refuse_layer_input,
    select,
)

Average = Literal["tokens", "patches"]


def grad_cam(feature: Tensor, gradient: Tensor, first: int = 0) -> Tensor:
    r"""The map before its ReLU.

    .. math:: H_i = \sum_c \alpha_c F_{ic}, \quad \alpha_c = \operatorname*{mean}_j \frac{\partial S}{\partial F_{jc}}

    Args:
        feature: F, ``(N, L, C)``.
        gradient: of the score at it, ``([T,] N, L, C)``.
        first: the mean over ``j`` begins with this token.

    Returns:
        ``([T,] N, L)``.

    >>> grad_cam(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    tensor([[3., 3.]])
    """
    return (gradient[..., first:, :].mean(dim=-2, keepdim=True) * feature).sum(dim=-1)


class TokenGradCam(TokenAttribution):
    """Grad-CAM of a transformer's tokens, or of the feature map before an attention pool.

    Captum's own LayerGradCam averages over the wrong dimension of tokens, and its maps have no place.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: the block (or attention pool) whose input is looked at, the last one; of a score module, a part of a block
            stands for the block.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> TokenGradCam(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Selvaraju et al.: "Grad-CAM", ICCV 2017; on tokens as in arXiv 2502.18816.
    """

    about = About(
        name="Grad-CAM",
        image=True,
        text=False,
        resnet=True,
        needs_text=True,
        stochastic=False,
        gradient=True,
        layers=1,
        text_layers=1,
        paper="Selvaraju et al., ICCV 2017",
    )

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        heads: Literal["model", "single"] = "model",
        average: Average = "tokens",
        relu_attributions: bool = True,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)``.
            target: which score to explain, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``.
            attribute_to_layer_input: accepted as ``False``; it is the layer's input that is looked at.
            heads: of the layer, the model's own, or ``"single"`` as in the released code of Grad-ECLIP.
            average: of the gradient over all ``"tokens"``, class token included, as in that code, or ``"patches"``.
            relu_attributions: keep positive evidence only.

        Returns:
            ``(N, 1, h, w)``.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, several layers, and as :meth:`captum_gradeclip.GradECLIP.attribute`.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs, output, feature, as_tokens = self._prepare(inputs, additional_forward_args, heads, average)
        scores = select(output, target, len(inputs))
        (gradient,) = torch.autograd.grad(scores, feature, torch.ones_like(scores))
        return self._finish(as_tokens(feature), as_tokens(gradient), inputs, average, relu_attributions)

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        heads: Literal["model", "single"] = "model",
        average: Average = "tokens",
        relu_attributions: bool = True,
    ) -> Tensor:
        """The maps of many targets from one forward pass, ``(N, T, h, w)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`, and so are the options.
        """
        inputs, output, feature, as_tokens = self._prepare(inputs, additional_forward_args, heads, average)

        def explain(seeds: Tensor) -> Tensor:
            return torch.autograd.grad(output, feature, seeds, is_grads_batched=True, retain_graph=True)[0]

        gradient = over_targets(output, targets, len(inputs), 32, explain)
        return self._finish(as_tokens(feature), as_tokens(gradient), inputs, average, relu_attributions)

    def _prepare(
        self, inputs: Any, additional_forward_args: Any, heads: str, average: str
    ) -> tuple[Tensor, Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """Inputs, output, the layer's input where the graph begins, and what makes tokens of it."""
        for name, value, known in (("heads", heads, ("model", "single")), ("average", average, get_args(Average))):
            if value not in known:
                raise ValueError(f"{name}: expected one of {known}, got {value!r}")
        inputs = check_inputs(inputs)
        check_kind(self, inputs)
        layers = self._layers()
        if len(layers) != 1:
            raise ValueError(f"layer: Grad-CAM looks at one layer, got {len(layers)}")
        block = self._block(layers[0])
        entry = LayerInput(block)
        rule = model_heads if heads == "model" else single_head
        output, records = self._pass([block], inputs, additional_forward_args, rule, entry)
        feature, length = entry.tensor, key_tokens(records)
        axis = self._layout(block, inputs, additional_forward_args) if feature.dim() == 3 else None
        return inputs, output, feature, partial(_as_tokens, length=length, batch=len(inputs), axis=axis)

    def _finish(self, feature: Tensor, gradient: Tensor, inputs: Tensor, average: Average, relu: bool) -> Tensor:
        content, _ = content_slice(feature.shape[-2], inputs, getattr(self._owner(), "grid", None))
        values = grad_cam(feature, gradient, content.start if average == "patches" else 0)
        values = values.relu() if relu else values
        return self._fold(values if values.dim() == 2 else values.transpose(0, 1), feature.shape[-2], inputs)


def _as_tokens(x: Tensor, length: int, batch: int, axis: int | None) -> Tensor:
    """A layer's input, or gradients at it, as ``([T,] N, L, C)``."""
    x = x.detach()
    if x.dim() >= 4 and x.shape[-2] * x.shape[-1] == length - 1:
        return x.flatten(-2).mT  # the feature map before an attention pool, which adds its mean
    axis = examples_axis(x if x.dim() == 3 else x[0], batch) if axis is None else axis
    return x.transpose(-3, axis - 3)
