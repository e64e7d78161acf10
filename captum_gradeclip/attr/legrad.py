"""LeGrad: the gradient at the attention of the last blocks, each read out on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor, nn

from ..attention import Interception, LayerOutput, Record, kept_attention
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    check_kind,
    check_self_attention,
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

    where :math:`S_l` is what the model would say if it read the mean of all tokens that block :math:`l` hands on. Of a tower
    with an attention pool behind its blocks, :math:`S_l` is what the model says if the pool is given these tokens, and
    :math:`A^l` what the pool's first query then attends to.

    Args:
        forward_func: a score module of images whose tower reads its class token or an attention pool.
        layer: the last two blocks; whole blocks.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> LeGrad(score, score.layers[-2:]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Bousselham, Boggust, Chaybouti, Strobelt, Kuehne: "LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity", arXiv 2404.03214. Its code for SigLIP also sets to zero where the map of "a photo of a"
    is above 0.8 of its range; that is not done here.
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

    @classmethod
    def default_layers(cls, score: Any) -> list[nn.Module]:
        """The last two blocks, in front of an attention pool."""
        layers: list[nn.Module] = score.layers
        return layers[-3:-1] if getattr(score, "reads_pool", False) else layers[-2:]

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
        total = torch.zeros((), device=inputs.device)
        for output, sensitivity in self._read_out(inputs, additional_forward_args):
            scores = select(output, target, len(inputs))
            total = total + sensitivity(scores, torch.ones_like(scores), batched=False)
        return self._fold(total, total.shape[-1], inputs)

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
        total = torch.zeros((), device=inputs.device)
        for output, sensitivity in self._read_out(inputs, additional_forward_args):
            explain = partial(sensitivity, output, batched=True)
            # A gradient is as large as the attention itself, so only a few targets at once.
            total = total + over_targets(output, targets, len(inputs), 8, explain)
        return self._fold(total.transpose(0, 1), total.shape[-1], inputs)

    def _read_out(self, inputs: Tensor, additional_forward_args: Any) -> list[tuple[Tensor, Callable[..., Tensor]]]:
        """What the model says of the tokens of each chosen block ``(N, T)``, with what makes ``([T,] N, L)`` of it."""
        check_kind(self, inputs)
        owner, chosen, count = self._owner(), self._layers(), len(inputs)
        check_self_attention(self, owner)
        pool = getattr(owner, "reads_pool", False)
        last = owner.layers[-2] if pool else last_block(self, owner)
        blocks = owner.layers[:-1] if pool else owner.layers
        if not all(any(layer is block for block in blocks) for layer in chosen):
            raise ValueError("layer: LeGrad reads what whole blocks hand on; choose among score.layers")
        kept: dict[nn.Module, Tensor] = {}

        def remember(layer: nn.Module) -> Callable[[Tensor], Tensor]:
            def change(tokens: Tensor) -> Tensor:
                kept[layer] = tokens if pool else tokens.mean(dim=1, keepdim=True)
                # Behind the last block, the tokens of each go on, or their mean as if it were the class token.
                return torch.cat([kept[one] for one in chosen]) if layer is last else tokens

            return change

        watched = [*chosen, *([] if any(layer is last for layer in chosen) else [last])]
        axis = self._layout(last, inputs, additional_forward_args)

        def keep(record: Record) -> Tensor:
            mask = record.mask
            if mask is not None and mask.dim() == 4 and len(record.query) > len(mask) == count > 1:
                record.mask = mask.repeat(len(chosen), 1, 1, 1)  # of the images, for the tokens of each block
            return kept_attention(record)

        seen = Interception(owner.layers[-1:] if pool else chosen, keep)
        outputs = [LayerOutput(layer, count, remember(layer), axis) for layer in watched]
        output = self._forward(inputs, additional_forward_args, *outputs, seen)
        records = seen.records() * (len(chosen) if pool else 1)
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
            parts = output.split(count)
        own = [slice(number * count, (number + 1) * count) if pool else slice(None) for number in range(len(chosen))]
        queries = slice(1) if pool else slice(None)
        return [
            (part, partial(_sensitivity, record, examples, queries)) for part, record, examples in zip(parts, records, own)
        ]


def _sensitivity(record: Record, examples: slice, queries: slice, scores: Tensor, seeds: Tensor, batched: bool) -> Tensor:
    """Of these examples and queries of an attention, all of whose gradient is asked for."""
    assert record.attention is not None
    (gradient,) = torch.autograd.grad(scores, record.attention, seeds, is_grads_batched=batched, retain_graph=True)
    return attention_sensitivity(gradient[..., examples, :, queries, :])
