"""GAME: generic attention explainability, attention weighted with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor

from ..attention import Record, kept_attention
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    check_self_attention,
    key_tokens,
    over_targets,
    refuse_layer_input,
    select,
    take_rows,
)


def relevance(attention: Sequence[Tensor], gradient: Sequence[Tensor]) -> Tensor:
    r"""Relevance of each token for each, from the first layer to the last.

    .. math:: R \leftarrow R + E R, \quad E = \frac1h \sum_j \mathrm{ReLU}\Big(\frac{\partial S}{\partial A^j} \odot A^j\Big)

    beginning with the identity. An attention pool ends it: its queries are no tokens, so there :math:`R \leftarrow E R`.

    Args:
        attention: of each layer, ``(N, H, Lq, L)``.
        gradient: of the score at it, of the same shape, or with the targets in front.

    Returns:
        ``([T,] N, Lq, L)``.

    >>> relevance([torch.ones(1, 2, 2, 2)], [torch.zeros(1, 2, 2, 2)])
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    result: Tensor | None = None
    for one, its_gradient in zip(attention, gradient):
        weighted = (its_gradient * one).relu().mean(dim=-3)
        if result is None:
            result = torch.eye(one.shape[-1], dtype=one.dtype, device=one.device).expand(*weighted.shape[:-2], -1, -1)
        change = weighted @ result
        result = result + change if weighted.shape[-2] == weighted.shape[-1] else change
    assert result is not None
    return result


class GAME(TokenAttribution):
    """Generic attention-model explainability: how relevant each patch or word is for the read-out token.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: the last one, as the released code for CLIP has it, or all, ``score.layers``, the general rule.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> GAME(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Chefer, Gur, Wolf: "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", ICCV 2021, equations 5 and 6.
    """

    about = About(
        name="GAME",
        image=True,
        text=True,
        resnet=False,
        needs_text=True,
        stochastic=False,
        gradient=True,
        layers=1,
        text_layers=1,
        paper="Chefer et al., ICCV 2021",
    )

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        scale: float = 1.0,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
            target: which score to explain, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``.
            attribute_to_layer_input: refused.
            scale: factor on the score, above 0. The released code explains CLIP's logits, about 100 times the cosine; with
                several layers that gives more weight to what is passed on from one to the next, with one layer it only
                scales the map.

        Returns:
            ``(N, 1, h, w)`` or ``(N, L)``, not negative.

        Raises:
            AssertionError: for a wrong target.
            ValueError: as :meth:`captum_gradeclip.GradECLIP.attribute`.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs, output, records, rows = self._prepare(inputs, additional_forward_args, scale)
        scores = select(output, target, len(inputs))
        return self._fold(
            _map(records, scores, torch.ones_like(scores), rows, scale, batched=False), key_tokens(records), inputs
        )

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        scale: float = 1.0,
    ) -> Tensor:
        """The maps of many targets from one forward pass, ``(N, T, h, w)`` or ``(N, T, L)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`, and so is the option.
        """
        inputs, output, records, rows = self._prepare(inputs, additional_forward_args, scale)

        def explain(seeds: Tensor) -> Tensor:
            return _map(records, output, seeds, rows, scale, batched=True)

        # A gradient is as large as the attention itself, so only a few targets at once.
        maps = over_targets(output, targets, len(inputs), 8, explain)
        return self._fold(maps.transpose(0, 1), key_tokens(records), inputs)

    def _prepare(
        self, inputs: Any, additional_forward_args: Any, scale: float
    ) -> tuple[Tensor, Tensor, list[Record], Tensor | None]:
        """Inputs, output, what the layers were given, and which row is read."""
        check_self_attention(self, self._owner())
        if not scale > 0:
            raise ValueError(f"scale: expected a positive number, got {scale}")
        inputs = check_inputs(inputs)
        output, records = self._run(inputs, additional_forward_args, kept_attention, short=False)
        return inputs, output, records, self._row(output, records, inputs)


def _map(records: list[Record], scores: Tensor, seeds: Tensor, rows: Tensor | None, scale: float, batched: bool) -> Tensor:
    """Relevance of all tokens for those that are read, ``([T,] N, L)``."""
    ordered = sorted(records, key=lambda record: record.order)
    attention = [record.attention for record in ordered if record.attention is not None]
    gradient = torch.autograd.grad(scores, attention, seeds, is_grads_batched=batched, retain_graph=True)
    with torch.autocast(scores.device.type, enabled=False):
        result = relevance([one.detach() for one in attention], [one * scale for one in gradient])
    return take_rows(result, rows).mean(dim=-2)
