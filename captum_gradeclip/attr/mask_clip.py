"""MaskCLIP: every patch says for itself what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum._utils.common import _run_forward
from captum.log import log_usage
from torch import Tensor

from ..attention import EACH, Interception, Record, value_only
from .base import (
    About,
    TokenAttribution,
    check_arguments,
    check_inputs,
    check_kind,
    check_mode,
    refuse_layer_input,
    repeat_target,
    select,
    select_columns,
)


class MaskCLIP(TokenAttribution):
    r"""The score of every patch, if attention in the last layer is replaced by the patch's own value.

    .. math:: H_i = S\big(g_i\big), \quad g_i = G\big(x_i + v_i W_o + b_o\big)

    where :math:`G` is the rest of the block and of the model, which reads the token in place of the class token.

    Args:
        forward_func: a score module of images whose tower reads its class token, or has an attention pool over
            convolutions.
        layer: the last one, ``score.layers[-1]``.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> MaskCLIP(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022.
    """

    about = About(
        image=True,
        text=False,
        resnet=True,
        needs_text=True,
        stochastic=False,
        gradient=False,
        layers=1,
        text_layers=1,
        paper="Zhou et al., ECCV 2022",
    )

    def get_name(self) -> str:
        """The name of the method."""
        return "MaskCLIP"

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
            target: which score to map, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``; no tensors.
            attribute_to_layer_input: refused.

        Returns:
            ``(N, 1, h, w)``, signed: the scores themselves.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, and for towers that do not read a class token.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs = check_inputs(inputs)
        dense = self._dense(inputs, additional_forward_args)
        flat, tokens = dense.flatten(0, 1), dense.shape[1]
        scores = select(flat, repeat_target(target, tokens), len(flat)).view(dense.shape[:2])
        return self._grid(scores, inputs)[:, None].contiguous()

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
        dense = self._dense(inputs, additional_forward_args)
        chosen = select_columns(dense[:, 0], targets, len(inputs)).argmax(dim=-1)
        return self._grid(dense[..., chosen].transpose(1, 2), inputs).contiguous()

    def _dense(self, inputs: Tensor, additional_forward_args: Any) -> Tensor:
        """Scores of all tokens, ``(N, L, T)``."""
        check_kind(self, inputs)
        check_mode(self._owner())
        check_arguments(additional_forward_args, len(inputs))
        layers, owner = self._layers(), self._owner()
        pool = getattr(owner, "pooled", False)
        if len(layers) != 1 or not (pool or getattr(owner, "alone", False)):
            raise ValueError(
                "layer: MaskCLIP needs a score module of images and its last layer, of a tower that reads its class token"
                " (or has an attention pool over convolutions); this one reads several tokens, or mixes them afterwards"
            )
        rule = _values if pool else value_only
        with torch.inference_mode(False), torch.no_grad(), Interception(layers, rule, None if pool else EACH) as seen:
            output = _run_forward(self.forward_func, inputs.clone(), None, additional_forward_args)
        (record,) = seen.records()
        dense: Tensor = output.detach().unflatten(0, (len(inputs), record.key.shape[-2]))
        return dense

    def _grid(self, scores: Tensor, inputs: Tensor) -> Tensor:
        """``(..., L)`` to ``(..., h, w)``."""
        grid = self._owner().grid(inputs)
        maps: Tensor = scores[..., scores.shape[-1] - grid[0] * grid[1] :].float().unflatten(-1, grid)
        return maps


def _values(record: Record) -> Tensor:
    """The values of a pool's tokens, each as if it were the one answer to an example of its own."""
    return record.value.transpose(1, 2).flatten(0, 1)[:, :, None]
