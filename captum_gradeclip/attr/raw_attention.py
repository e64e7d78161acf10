"""Raw attention: what the read-out token attends to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from captum.log import log_usage
from torch import Tensor

from ..attention import model_heads, single_head
from .base import About, TokenAttribution, check_inputs, key_tokens, refuse_layer_input, select, take_rows

AttentionHeads = Literal["model", "single"]


def mean_row(attention: Tensor, rows: Tensor | None) -> Tensor:
    """Attention ``(N, H, Lq, L)`` of the read-out token, mean over the heads; over all rows where several are read.

    Returns:
        ``(N, L)``.
    """
    return take_rows(attention.mean(dim=1), rows).mean(dim=1)


class RawAttention(TokenAttribution):
    r"""Attention of the read-out token to the patches or words; it does not depend on the target.

    .. math:: H_i = \sum_l \frac{1}{h} \sum_j a^{l,j}_{ri}

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`.
        layer: the paper looks at the last one.
        device_ids: accepted for Captum's sake.

    >>> import torch
    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle"], tokenizer)
    >>> RawAttention(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 1, 8, 8])

    Source: a baseline of arXiv 2502.18816, whose code takes it from the single-head pass.
    """

    about = About(
        name="raw attention",
        image=True,
        text=True,
        resnet=True,
        needs_text=False,
        stochastic=False,
        gradient=False,
        layers=1,
        text_layers=1,
        paper="baseline of arXiv 2502.18816",
    )

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        heads: AttentionHeads = "model",
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
            target: checked, and not used.
            additional_forward_args: passed to ``forward_func``.
            attribute_to_layer_input: refused.
            heads: ``"model"``, the mean over the model's heads, or ``"single"``, the one head of the paper's pass, which
                is far sparser and is what its figures show.

        Returns:
            ``(N, 1, h, w)`` or ``(N, L)``, not negative.

        Raises:
            AssertionError: for a wrong target.
            ValueError: as :meth:`captum_gradeclip.GradECLIP.attribute`.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs = check_inputs(inputs)
        maps, output = self._explain(inputs, additional_forward_args, heads)
        if target is not None:
            select(output, target, len(inputs))
        return maps

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        heads: AttentionHeads = "model",
    ) -> Tensor:
        """The same map for each of many targets, ``(N, T, h, w)`` or ``(N, T, L)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`, and so is the option.
        """
        inputs = check_inputs(inputs)
        maps, output = self._explain(inputs, additional_forward_args, heads)
        return self._same_for_all(maps, output, targets, inputs)

    def _explain(self, inputs: Tensor, additional_forward_args: Any, heads: AttentionHeads) -> tuple[Tensor, Tensor]:
        """The maps, and the output of the pass that they were seen in."""
        if heads not in get_args(AttentionHeads):
            raise ValueError(f"heads: expected one of {get_args(AttentionHeads)}, got {heads!r}")
        output, records = self._run(inputs, additional_forward_args, model_heads if heads == "model" else single_head)
        rows = self._row(output, records, inputs)
        last = max(records, key=lambda record: record.order)
        total = None
        for record in records:
            view = record if heads == "model" else record.merged()
            same = record.query.shape[-2] == last.query.shape[-2]
            one = mean_row(view.probabilities().detach(), rows if same else None)
            total = one if total is None else total + one
        assert total is not None
        return self._fold(total, key_tokens(records), inputs), output
