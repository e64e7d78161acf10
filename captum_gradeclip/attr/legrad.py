"""LeGrad: the gradient at the attention of the last blocks, each read out on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor, nn

from ..attention import LayerOutput, Record, kept_attention
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    check_kind,
    check_self_attention,
    key_tokens,
    last_block,
    over_targets,
    refuse_layer_input,
    select,
)


def attention_sensitivity(gradient: Tensor) -> Tensor:
    r"""What a layer's attention to each token would add to the score.

    .. math:: E_i = \operatorname*{mean}_{j, r} \mathrm{ReLU}\Big(\frac{\partial S}{\partial A^j_{ri}}\Big)

    Args:
        gradient: at the attention weights, ``(..., H, Lq, L)``.

    Returns:
        ``(..., L)``, the mean over heads and all queries.

    >>> attention_sensitivity(torch.tensor([[[1.0, -1.0], [3.0, 0.0]]]))
    tensor([2., 0.])
    """
    return gradient.relu().mean(dim=(-3, -2))


class LeGrad(TokenAttribution):
    r"""Layerwise explainability by the gradient at the attention maps, summed over the chosen blocks.

    .. math:: H_i = \sum_l \operatorname*{mean}_{j, r} \mathrm{ReLU}\Big(\frac{\partial S_l}{\partial A^{l,j}_{ri}}\Big)

    where :math:`S_l` is what the model would say if it read the mean of all tokens that block :math:`l` hands on.

    Args:
        forward_func: a score module of images whose tower reads its class token.
        layer: the last two blocks, ``score.layers[-2:]``; whole blocks.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> LeGrad(score, score.layers[-2:]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Bousselham, Boggust, Chaybouti, Strobelt, Kuehne: "LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity", arXiv 2404.03214.
    """

    about = About(
        name="LeGrad",
        image=True,
        text=False,
        resnet=False,
        needs_text=True,
        stochastic=False,
        gradient=True,
        layers=2,
        text_layers=2,
        paper="Bousselham et al., arXiv 2404.03214",
    )

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)``.
            target: which score to explain, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``; no tensors.
            attribute_to_layer_input: refused.

        Returns:
            ``(N, 1, h, w)``, not negative.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, towers that do not read a class token, and layers that are no blocks.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs = check_inputs(inputs)
        outputs, records = self._read_out(inputs, additional_forward_args)
        total = torch.zeros((), device=outputs[0].device)
        for output, record in zip(outputs, records):
            scores = select(output, target, len(inputs))
            total = total + _sensitivity(scores, record, torch.ones_like(scores), batched=False)
        return self._fold(total, key_tokens(records), inputs)

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """The maps of many targets from one forward pass, ``(N, T, h, w)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`.
        """
        inputs = check_inputs(inputs)
        outputs, records = self._read_out(inputs, additional_forward_args)
        total = torch.zeros((), device=outputs[0].device)
        for output, record in zip(outputs, records):
            explain = partial(_sensitivity, output, record, batched=True)
            # A gradient is as large as the attention itself, so only a few targets at once.
            total = total + over_targets(output, targets, len(inputs), 8, explain)
        return self._fold(total.transpose(0, 1), key_tokens(records), inputs)

    def _read_out(self, inputs: Tensor, additional_forward_args: Any) -> tuple[tuple[Tensor, ...], list[Record]]:
        """What the model says of the mean token of each chosen block, ``(N, T)`` each, and what these were given."""
        check_kind(self, inputs)
        owner, layers, count = self._owner(), self._layers(), len(inputs)
        check_self_attention(self, owner)
        last = last_block(self, owner)
        if not all(any(layer is block for block in owner.layers) for layer in layers):
            raise ValueError("layer: LeGrad reads what whole blocks hand on; choose among score.layers")
        means: dict[nn.Module, Tensor] = {}

        def remember(layer: nn.Module) -> Callable[[Tensor], Tensor]:
            def change(tokens: Tensor) -> Tensor:
                means[layer] = tokens.mean(dim=1, keepdim=True)
                # Behind the last block, the mean of each is read as if it were the class token.
                return torch.cat([means[one] for one in layers]) if layer is last else tokens

            return change

        watched = [*layers, *([] if any(layer is last for layer in layers) else [last])]
        axis = self._layout(last, inputs, additional_forward_args)
        outputs = [LayerOutput(layer, count, remember(layer), axis) for layer in watched]
        output, records = self._pass(layers, inputs, additional_forward_args, kept_attention, *outputs)
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
            return output.split(count), records


def _sensitivity(scores: Tensor, record: Record, seeds: Tensor, batched: bool) -> Tensor:
    assert record.attention is not None
    (gradient,) = torch.autograd.grad(scores, record.attention, seeds, is_grads_batched=batched, retain_graph=True)
    return attention_sensitivity(gradient)
