"""MaskCLIP: every patch says for itself what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from ..attention import Branches, LayerOutput, Record, each_token, value_only
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    check_kind,
    last_block,
    refuse_layer_input,
)


class MaskCLIP(TokenAttribution):
    r"""The score of every patch, if attention in the last layer is replaced by the patch's own value.

    .. math:: H_i = S\big(g_i\big), \quad g_i = G\big(x_i + v_i W_o + b_o\big)

    where :math:`G` is the rest of the block and of the model, which reads the token in place of the class token. With
    ``key_weight``, as in the code of Grad-ECLIP, it is multiplied with the cosine of the token's key and the class token's,
    both after the output projection.

    Args:
        forward_func: a score module of images whose tower reads its class token, or has an attention pool over
            convolutions.
        layer: the last one, ``score.layers[-1]``.
        device_ids: accepted for Captum's sake.

    >>> import torch
    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> MaskCLIP(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022.
    """

    about = About(
        name="MaskCLIP",
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

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        key_weight: bool = False,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)``.
            target: which score to map, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``; no tensors.
            attribute_to_layer_input: refused.
            key_weight: multiply with the cosine of the projected keys, the released behaviour that the figures of arXiv
                2502.18816 come from; two negative factors then make a positive value.

        Returns:
            ``(N, 1, h, w)``, signed: the scores themselves.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, and for towers that do not read a class token.
        """
        refuse_layer_input(attribute_to_layer_input)
        inputs = check_inputs(inputs)
        return self._dense_map(self._dense(inputs, additional_forward_args, key_weight), target, inputs)

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        key_weight: bool = False,
    ) -> Tensor:
        """The maps of many targets from one forward pass, ``(N, T, h, w)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`, and so is the option.
        """
        inputs = check_inputs(inputs)
        return self._dense_maps(self._dense(inputs, additional_forward_args, key_weight), targets, inputs)

    def _dense(self, inputs: Tensor, additional_forward_args: Any, key_weight: bool) -> Tensor:
        """Scores of all tokens, ``(N, L, T)``."""
        check_kind(self, inputs)
        layers, owner, count = self._layers(), self._owner(), len(inputs)
        if getattr(owner, "pooled", False):
            if key_weight:
                raise ValueError(
                    "key_weight: an attention pool over convolutions has one query and no residual stream; leave it out"
                )
            last, axis = owner.layers[-1], None
            rule, others = _values, []
        else:
            last = last_block(self, owner)
            axis = self._layout(last, inputs, additional_forward_args)
            rule, others = value_only, [LayerOutput(last, count, each_token, axis)]
        if len(layers) != 1 or self._block(layers[0]) is not last:
            raise ValueError(
                "layer: MaskCLIP replaces the attention of the last layer, score.layers[-1], whose tokens the model reads"
                " next; an earlier one would leave them to attend to each other"
            )
        keys = Branches([last] if key_weight else [], _keys, count, axis)
        output, (record,) = self._pass([last], inputs, additional_forward_args, rule, *others, keys)
        dense: Tensor = output.detach().unflatten(0, (count, record.key.shape[-2]))
        if key_weight:
            similarity: Tensor = F.cosine_similarity(keys.added[0][:, :1].float(), keys.added[0].float(), dim=-1)
            dense = dense * similarity[..., None].to(dense.dtype)
        return dense


def _keys(record: Record) -> Tensor:
    return record.key


def _values(record: Record) -> Tensor:
    """The values of a pool's tokens, each as if it were the one answer to an example of its own."""
    return record.value.transpose(1, 2).flatten(0, 1)[:, :, None]
