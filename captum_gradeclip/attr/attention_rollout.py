"""Attention Rollout: attention of all layers multiplied, with the residual connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention import model_heads
from .base import Attention, MethodInfo, Options, Request, Targets, TokenAttribution


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


class AttentionRollout(TokenAttribution[Options, Attention]):
    """How much of each patch or word reaches the read-out token, by attention alone; it does not depend on the target.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: all layers, ``score.layers``, as the method's paper has it; the released code of Grad-ECLIP gives it the last
            one only.
        device_ids: accepted for Captum's sake.

    Maps lie between 0 and 1.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> AttentionRollout(score, score.layers).attribute(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 8, 8])

    Source: Abnar, Zuidema: "Quantifying Attention Flow in Transformers", ACL 2020.
    """

    info = MethodInfo("Attention Rollout", "Abnar and Zuidema, ACL 2020", text=True, class_discriminative=False, layers=0)

    def observe(self, request: Request, options: Options) -> Attention:
        """The attention of the chosen layers."""
        return request.front().intercept(model_heads)

    def explain(self, evidence: Attention, targets: Targets, options: Options) -> Tensor:
        """The row of the rollout that is read; the same for every target."""
        with torch.autocast(evidence.output.device.type, enabled=False):
            result = rollout([record.probabilities().mean(dim=1) for record in evidence.ordered])
        return evidence.ordered[-1].mean_row(result, evidence.rows(targets)).expand(len(targets), -1, -1)
