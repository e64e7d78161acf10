"""Raw attention: what the read-out token attends to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..attention import model_heads, single_head
from ..quoting import quoted
from .base import Attention, MethodInfo, Options, Request, Targets, TokenAttribution, number

AttentionHeads = Literal["model", "single"]


@dataclass(frozen=True)
class RawAttentionOptions(Options):
    """The options of :class:`RawAttention`.

    Attributes:
        heads: ``"model"`` (default), the mean over the model's heads, or ``"single"``, the one head of the paper's pass,
            which is far sparser and is what its figures show.
        single_blocks: with ``heads="single"``, how many of the last layers run with that one head: those that are explained
            (``None``, default), or a number of them, at least that many. The released code for texts explains the last one
            of eight.
    """

    heads: AttentionHeads = "model"
    single_blocks: int | None = number(None, least=1)


class RawAttention(TokenAttribution[RawAttentionOptions, Attention]):
    r"""Attention of the read-out token to the patches or words; it does not depend on the target.

    .. math:: H_i = \sum_l \frac{1}{h} \sum_j a^{l,j}_{ri}

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: the attention layer, or a list of layers whose maps are added up; the paper looks at the last layer.
        device_ids: accepted for Captum's sake.

    Maps are not negative.

    >>> import torch
    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> RawAttention(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 8, 8])

    Source: a baseline of arXiv 2502.18816, whose code takes it from the single-head pass.
    """

    info = MethodInfo(
        "raw attention",
        "baseline, arXiv 2502.18816",
        text=True,
        convolutional=True,
        cross_attention=True,
        class_discriminative=False,
    )
    Options = RawAttentionOptions

    def observe(self, request: Request, options: RawAttentionOptions) -> Attention:
        """The attention of the chosen layers, with one head or the model's own."""
        if options.single_blocks is None:
            return request.front().intercept_tail(single_head if options.heads == "single" else model_heads)
        running = [site.module for site in request.score.sites][-options.single_blocks :]
        asked = [request.site(layer).module for layer in request.layers]
        if options.heads != "single" or not set(running).issuperset(asked):
            raise ValueError(
                'single_blocks: it counts the last layers that run with one head, for heads="single", and the layers that'
                f" are explained have to be among them; got {options.single_blocks} with heads={quoted(options.heads)}"
            )
        seen = request.front().intercept(single_head, layers=running)
        return replace(seen, records=[seen.records[running.index(module)] for module in asked])

    def explain(self, evidence: Attention, targets: Targets, options: RawAttentionOptions) -> Tensor:
        """The attention of the tokens that are read, summed over the layers; the same for every target."""
        rows = evidence.rows(targets)
        maps = []
        for record in evidence.records:
            view = record if options.heads == "model" else record.merged()
            read = rows if evidence.same_queries(record) else None
            maps.append(view.mean_row(view.probabilities().mean(dim=1), read))
        return torch.stack(maps).sum(dim=0).expand(len(targets), -1, -1)
