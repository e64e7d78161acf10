"""Grad-CAM on tokens: the features that enter a layer, weighted with their mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from captum._utils.common import _run_forward
from captum.log import log_usage
from torch import Tensor

from ..attention import Interception, LayerInput, Record, model_heads, single_head
from ..maps import infer_grid
from .base import (
    About,
    TokenAttribution,
    check_arguments,
    check_inputs,
    check_kind,
    check_mode,
    refuse_layer_input,
    select,
    select_columns,
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
        layer: the block (or attention pool) whose input is looked at, the last one; not its attention module, whose input
            carries the gradient of attention only.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> TokenGradCam(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Selvaraju et al.: "Grad-CAM", ICCV 2017; on tokens as in arXiv 2502.18816.
    """

    about = About(
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

    def get_name(self) -> str:
        """The name of the method."""
        return "Grad-CAM"

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
        inputs, output, feature, record = self._prepare(inputs, additional_forward_args, heads, average)
        scores = select(output, target, len(inputs))
        (gradient,) = torch.autograd.grad(scores, feature, torch.ones_like(scores))
        return self._finish(feature, gradient, record, inputs, average, relu_attributions)[:, None]

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
        inputs, output, feature, record = self._prepare(inputs, additional_forward_args, heads, average)
        seeds = select_columns(output, targets, len(inputs))[:, None].expand(-1, len(inputs), -1)
        parts = [
            torch.autograd.grad(output, feature, some, is_grads_batched=True, retain_graph=True)[0]
            for some in torch.split(seeds, 32)
        ]
        maps = self._finish(feature, torch.cat(parts), record, inputs, average, relu_attributions)
        return maps.transpose(0, 1).contiguous()

    def _prepare(
        self, inputs: Any, additional_forward_args: Any, heads: str, average: str
    ) -> tuple[Tensor, Tensor, Tensor, Record]:
        """Inputs, output, the layer's input where the graph begins, and what its attention was given."""
        for name, value, known in (("heads", heads, ("model", "single")), ("average", average, get_args(Average))):
            if value not in known:
                raise ValueError(f"{name}: expected one of {known}, got {value!r}")
        inputs = check_inputs(inputs)
        check_kind(self, inputs)
        layers = self._layers()
        if len(layers) != 1:
            raise ValueError(f"layer: Grad-CAM looks at one layer, got {len(layers)}")
        check_mode(self._owner())
        check_arguments(additional_forward_args, len(inputs))
        rule = model_heads if heads == "model" else single_head
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            LayerInput(layers[0]) as entry,
            Interception(layers, rule) as seen,
        ):
            output = _run_forward(self.forward_func, inputs.clone(), None, additional_forward_args)
        return inputs, output, entry.tensor, seen.records()[0]

    def _finish(
        self, feature: Tensor, gradient: Tensor, record: Record, inputs: Tensor, average: Average, relu: bool
    ) -> Tensor:
        feature, gradient = _as_tokens(feature.detach(), record), _as_tokens(gradient, record)
        owner = self._owner()
        length = feature.shape[-2]
        grid = owner.grid(inputs) if hasattr(owner, "grid") else infer_grid(length, inputs.shape[-2:])[1]
        first = length - grid[0] * grid[1]
        maps: Tensor = grad_cam(feature, gradient, first if average == "patches" else 0)[..., first:].unflatten(-1, grid)
        return (maps.relu() if relu else maps).float().contiguous()


def _as_tokens(x: Tensor, record: Record) -> Tensor:
    """A layer's input, or gradients at it, as ``([T,] N, L, C)``.

    Raises:
        ValueError: if as many tokens as examples hide which are which.
    """
    examples, tokens = record.key.shape[0], record.key.shape[-2]
    if x.dim() >= 4 and x.shape[-2] * x.shape[-1] == tokens - 1:
        return x.flatten(-2).mT  # the feature map before an attention pool, which adds its mean
    if examples == tokens:
        raise ValueError(f"inputs: {examples} examples of {tokens} tokens look alike; use another batch size")
    return x if x.shape[-3] == examples else x.transpose(-3, -2)
