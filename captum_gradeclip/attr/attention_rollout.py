"""Attention Rollout: attention of all layers multiplied, with the residual connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor

from ..attention import model_heads
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    check_self_attention,
    key_tokens,
    refuse_layer_input,
    select,
    take_rows,
)


def rollout(attention: Sequence[Tensor]) -> Tensor:
    r"""The product of the layers' attention, from the first to the last.

    .. math:: R = \hat A_L \cdots \hat A_2 \hat A_1, \quad \hat A = \tfrac12 (A + I)

    An attention pool, whose queries are no tokens of the layer before it, has no residual connection: there
    :math:`\hat A = A`.

    Args:
        attention: mean over the heads of each layer, ``(N, Lq, L)``, rows adding up to 1.

    Returns:
        ``(N, Lq, L)``; its rows add up to 1.

    >>> rollout([torch.full((1, 2, 2), 0.5)] * 2)
    tensor([[[0.6250, 0.3750],
             [0.3750, 0.6250]]])
    """
    result: Tensor | None = None
    for one in attention:
        if one.shape[-2] == one.shape[-1]:
            one = (one + torch.eye(one.shape[-1], dtype=one.dtype, device=one.device)) / 2
        result = one if result is None else one @ result
    assert result is not None
    return result


class AttentionRollout(TokenAttribution):
    """How much of each patch or word reaches the read-out token, by attention alone; it does not depend on the target.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: all layers, ``score.layers``, as the method's paper has it; the released code of Grad-ECLIP gives it the last
            one only.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> AttentionRollout(score, score.layers).attribute(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 8, 8])

    Source: Abnar, Zuidema: "Quantifying Attention Flow in Transformers", ACL 2020.
    """

    about = About(
        name="Attention Rollout",
        image=True,
        text=True,
        resnet=False,
        needs_text=False,
        stochastic=False,
        gradient=False,
        layers=0,
        text_layers=0,
        paper="Abnar and Zuidema, ACL 2020",
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
            inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
            target: checked, and not used.
            additional_forward_args: passed to ``forward_func``.
            attribute_to_layer_input: refused.

        Returns:
            ``(N, 1, h, w)`` or ``(N, L)``, not negative, at most 1.

        Raises:
            AssertionError: for a wrong target.
            ValueError: as :meth:`captum_gradeclip.GradECLIP.attribute`.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs = check_inputs(inputs)
        maps, output = self._explain(inputs, additional_forward_args)
        if target is not None:
            select(output, target, len(inputs))
        return maps

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
    ) -> Tensor:
        """The same map for each of many targets, ``(N, T, h, w)`` or ``(N, T, L)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`.
        """
        inputs = check_inputs(inputs)
        maps, output = self._explain(inputs, additional_forward_args)
        return self._same_for_all(maps, output, targets, inputs)

    def _explain(self, inputs: Tensor, additional_forward_args: Any) -> tuple[Tensor, Tensor]:
        """The maps, and the output of the pass that they were seen in."""
        check_self_attention(self, self._owner())
        output, records = self._run(inputs, additional_forward_args, model_heads, short=False)
        rows = self._row(output, records, inputs)
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            ordered = sorted(records, key=lambda record: record.order)
            result = rollout([record.probabilities().mean(dim=1) for record in ordered])
        return self._fold(take_rows(result, rows).mean(dim=1), key_tokens(records), inputs), output
