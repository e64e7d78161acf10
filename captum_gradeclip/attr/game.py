"""GAME: generic attention explainability, attention weighted with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention import kept_attention
from .base import Attention, MethodInfo, Options, Request, Targets, TokenAttribution, number


@dataclass(frozen=True)
class GAMEOptions(Options):
    """The options of :class:`GAME`.

    Attributes:
        scale: factor on the score, above 0 (default 1). The released code explains CLIP's logits, about 100 times the
            cosine. With several layers a larger factor gives more weight to what is passed on from one layer to the next;
            with one layer it only scales the map.
    """

    scale: float = number(1.0, above=0)


def relevance(attention: Sequence[Tensor], gradient: Sequence[Tensor]) -> Tensor:
    r"""Relevance of each token for each, from the first layer to the last.

    .. math:: R \leftarrow R + E R, \quad E = \frac1h \sum_j \mathrm{ReLU}\Big(\frac{\partial S}{\partial A^j} \odot A^j\Big)

    beginning with the identity. An attention pool ends it: its queries are no tokens, so there :math:`R \leftarrow E R`.

    Args:
        attention: attention weights of each layer, ``(N, H, Lq, L)``.
        gradient: gradient of the score at them, of the same shape, or with a dimension for the targets in front.

    Returns:
        Relevance ``([T,] N, Lq, L)``, not negative.

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


class GAME(TokenAttribution[GAMEOptions, Attention]):
    """Generic attention-model explainability: how relevant each patch or word is for the read-out token.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: the last one, as the released code for CLIP has it, or all, ``score.layers``, the general rule.
        device_ids: accepted for Captum's sake.

    Maps are not negative.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> GAME(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Chefer, Gur, Wolf: "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", ICCV 2021, equations 5 and 6.
    """

    info = MethodInfo("GAME", "Chefer et al., ICCV 2021", text=True, gradient=True, unit="relevance")
    Options = GAMEOptions

    def observe(self, request: Request, options: GAMEOptions) -> Attention:
        """The attention of the chosen layers, whose weights stay in the graph."""
        return request.front().intercept(kept_attention)

    def explain(self, evidence: Attention, targets: Targets, options: GAMEOptions) -> Tensor:
        """Relevance of all tokens for those that are read."""
        attention = [record.attention for record in evidence.ordered if record.attention is not None]
        gradients = evidence.gradient(targets, at=[*attention, *evidence.at])
        with torch.autocast(evidence.output.device.type, enabled=False):
            result = relevance(attention, [one * options.scale for one in gradients[: len(attention)]])
        return evidence.ordered[-1].mean_row(result, evidence.rows(targets, gradients[len(attention) :]))
