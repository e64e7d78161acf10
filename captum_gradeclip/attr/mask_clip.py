"""MaskCLIP: every patch says for itself what it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from ..attention import Record, ReplaceOutput, SidePath, tokens_as_batch, value_only
from ..scores import ImageTextScore
from ..scores.base import cosines
from .base import MethodInfo, Options, Request, Targets, TokenAttribution
from .dense import Dense, last_block, token_values


@dataclass(frozen=True)
class MaskCLIPOptions(Options):
    """The options of :class:`MaskCLIP`.

    Attributes:
        key_weight: whether the scores are multiplied with the cosine of the projected keys (default False), as in the
            released code that the figures of arXiv 2502.18816 come from. Two negative factors then make a positive value.
        positions: whether the tokens of a pool over convolutions keep the pool's positions, as the pool itself sees them
            (default True), or are the bare features, as in the head that the paper's authors released. Of other towers,
            positions are part of the features.
    """

    key_weight: bool = False
    positions: bool = True


class MaskCLIP(TokenAttribution[MaskCLIPOptions, Dense]):
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

    Maps are signed, since they are the scores themselves. Tensors among ``additional_forward_args`` are not possible.

    >>> import torch
    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> MaskCLIP(score, score.layers[-1]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022.
    """

    info = MethodInfo("MaskCLIP", "Zhou et al., ECCV 2022", convolutional=True)
    Options = MaskCLIPOptions

    def observe(self, request: Request, options: MaskCLIPOptions) -> Dense:
        """The scores of all tokens."""
        count, axis = len(request.inputs), None
        request = request if options.positions else _without_positions(request)
        if request.pools_convolutions:
            if options.key_weight:
                raise ValueError(
                    "key_weight: an attention pool over convolutions has one query and no residual stream; leave it out"
                )
            last, rule, contexts = request.score.sites[-1].module, token_values, []
        else:
            last = last_block(request)
            axis = request.examples_axis(last)
            rule, contexts = value_only, [ReplaceOutput(last, count, tokens_as_batch, axis)]
        if len(request.layers) != 1 or request.site(request.layers[0]).module is not last:
            raise ValueError(
                "layer: MaskCLIP replaces the attention of the last layer, score.layers[-1], whose tokens the model reads"
                " next; an earlier one would leave them to attend to each other"
            )
        keys = SidePath([last] if options.key_weight else [], _keys, count, axis)
        seen = request.intercept(rule, *contexts, keys, layers=[last])
        scores: Tensor = seen.output.unflatten(0, (count, seen.records[0].key.shape[-2]))
        if options.key_weight:
            similarity = F.cosine_similarity(keys.added[0][:, :1].float(), keys.added[0].float(), dim=-1)
            scores = scores * similarity[..., None].to(scores.dtype)
        return Dense(request, scores[:, 0], seen.tokens, scores)

    def explain(self, evidence: Dense, targets: Targets, options: MaskCLIPOptions) -> Tensor:
        """The scores of all tokens with the targets."""
        return targets.pick(evidence.scores)


def _without_positions(request: Request) -> Request:
    """The same question to the pass in which the pool's tokens have no positions."""
    score = request.score
    if isinstance(score, ImageTextScore) and score.directions is not None and score.tower.encode_bare is not None:
        encode, texts, dtype = score.tower.encode_bare, score.text_features, score.tower.dtype
        return replace(request, function=lambda images: cosines(encode(images.to(dtype)), texts))
    raise ValueError(
        "positions: only an ImageTextScore of a tower with an attention pool over convolutions has tokens without them;"
        " leave it out"
    )


def _keys(record: Record) -> Tensor:
    return record.key
