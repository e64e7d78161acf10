"""LeGrad: the gradient at the attention of the last blocks, each read out on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..attention import Bypass, Interception, Record, ReplaceOutput, kept_attention
from ..scores import ImageScore, ImageTextScore, ModelScore
from ..scores.base import products
from .base import Evidence, MethodInfo, Options, Request, Targets, TokenAttribution
from .dense import last_block


@dataclass(frozen=True)
class ReadOut(Evidence):
    """The scores that the model gives to the tokens of each chosen block.

    Attributes:
        scores: scores ``(N, T)`` of each block, with their graph.
        attention: the attention weights ``(B, H, Lq, L)`` that each block's scores are differentiated at.
        pooled: whether the weights are those of one attention pool, whose examples are those of the blocks side by side.
    """

    scores: Sequence[Tensor]
    attention: Sequence[Tensor]
    pooled: bool

    @property
    def at(self) -> Sequence[Tensor]:
        """The attention weights."""
        return self.attention


def attention_sensitivity(gradient: Tensor) -> Tensor:
    r"""How much more attention to each token would raise the score.

    .. math:: E_i = \operatorname*{mean}_{j, r} \mathrm{ReLU}\Big(\frac{\partial S}{\partial A^j_{ri}}\Big)

    Args:
        gradient: gradient of the score at the attention weights, ``(..., H, Lq, L)``.

    Returns:
        A tensor ``(..., L)``, not negative: the mean over heads and all queries.

    >>> attention_sensitivity(torch.tensor([[[1.0, -1.0], [3.0, 0.0]]]))
    tensor([2., 0.])
    """
    return gradient.relu().mean(dim=(-3, -2))


@dataclass(frozen=True)
class LeGradOptions(Options):
    """The options of :class:`LeGrad`, both of towers with an attention pool behind their blocks.

    Attributes:
        pool_norm: whether the norm in front of the pool (of SigLIP), or behind it (of CoCa), stays where it is (default
            True). The released code leaves both of them out.
        unit_length: whether the score is a cosine (default True), or the product of the image features as they are with the
            unit text features, as the released code has it for CoCa.
    """

    pool_norm: bool = True
    unit_length: bool = True


class LeGrad(TokenAttribution[LeGradOptions, ReadOut]):
    r"""Layerwise explainability by the gradient at the attention maps, summed over the chosen blocks.

    .. math:: H_i = \sum_l \operatorname*{mean}_{j, r} \mathrm{ReLU}\Big(\frac{\partial S_l}{\partial A^{l,j}_{ri}}\Big)

    where :math:`S_l` is what the model would say if it read the mean of all tokens that block :math:`l` hands on. Of a tower
    with an attention pool behind its blocks, :math:`S_l` is what the model says if the pool is given these tokens, and
    :math:`A^l` what the pool's first query then attends to.

    Args:
        forward_func: a score module of images whose tower reads its class token or an attention pool.
        layer: a block, or a list of blocks; the last two are the method's.
        device_ids: accepted for Captum's sake.

    Maps are not negative. Tensors among ``additional_forward_args`` are not possible.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> LeGrad(score, score.layers[-2:]).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Bousselham, Boggust, Chaybouti, Strobelt, Kuehne: "LeGrad: An Explainability Method for Vision Transformers via
    Feature Formation Sensitivity", arXiv 2404.03214. Its code for SigLIP also sets to zero where the map of "a photo of a"
    is above 0.8 of its range; that is not done here.
    """

    info = MethodInfo("LeGrad", "Bousselham et al., arXiv 2404.03214", gradient=True, layers=2)
    Options = LeGradOptions

    @classmethod
    def default_layers(cls, score: ModelScore) -> list[nn.Module]:
        """The last two blocks, in front of an attention pool if there is one."""
        return score.layers[-3:-1] if score.readout.kind == "pool" else score.layers[-2:]

    def observe(self, request: Request, options: LeGradOptions) -> ReadOut:
        """The scores of the tokens that each chosen block outputs, and the attention that they are differentiated at."""
        layers = [site.module for site in request.score.sites]
        chosen, count, pool = request.layers, len(request.inputs), request.score.readout.kind == "pool"
        last, blocks = (layers[-2], layers[:-1]) if pool else (last_block(request), layers)
        if not all(any(layer is block for block in blocks) for layer in chosen):
            raise ValueError("layer: LeGrad reads what whole blocks hand on; choose among score.layers")
        kept: dict[nn.Module, Tensor] = {}

        def remember(layer: nn.Module) -> Callable[[Tensor], Tensor]:
            def change(tokens: Tensor) -> Tensor:
                kept[layer] = tokens if pool else tokens.mean(dim=1, keepdim=True)
                # Behind the last block, the tokens of each go on, or their mean as if it were the class token.
                return torch.cat([kept[one] for one in chosen]) if layer is last else tokens

            return change

        def keep(record: Record) -> Tensor:
            mask = record.mask
            if mask is not None and mask.dim() == 4 and len(record.query) > len(mask) == count > 1:
                record.mask = mask.repeat(len(chosen), 1, 1, 1)  # the masks of the images, for the tokens of each block
            return kept_attention(record)

        axis = request.examples_axis(last)
        watched = [*chosen, *([] if any(layer is last for layer in chosen) else [last])]
        seen = Interception(layers[-1:] if pool else chosen, keep)
        contexts = [ReplaceOutput(layer, count, remember(layer), axis) for layer in watched]
        function = None if options.unit_length else _products(request)
        output = request.forward(*contexts, *_left_out(request, options), seen, function=function)
        attention = [record.attention for record in seen.records() if record.attention is not None]
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
            scores = output.split(count)
        return ReadOut(request, scores[-1], request.keys(attention[0].shape[-1]), scores, attention, pool)

    def explain(self, evidence: ReadOut, targets: Targets, options: LeGradOptions) -> Tensor:
        """The sensitivity to the attention, summed over the blocks."""
        count, total = len(evidence.request.inputs), []
        for number, scores in enumerate(evidence.scores):
            (gradient,) = evidence.gradient(targets, scores, [evidence.attention[0 if evidence.pooled else number]])
            if evidence.pooled:  # the block's own examples, and the query that is read
                gradient = gradient[:, number * count : (number + 1) * count, :, :1]
            total.append(attention_sensitivity(gradient))
        return torch.stack(total).sum(dim=0)


def _left_out(request: Request, options: LeGradOptions) -> list[Bypass]:
    """The norm of the pool, if it is to be left out."""
    if options.pool_norm:
        return []
    norm = request.score.tower.pool_norm if isinstance(request.score, ImageScore) else None
    if norm is None:
        raise ValueError("pool_norm: this tower has no norm beside an attention pool behind its blocks; leave it out")
    return [Bypass(norm)]


def _products(request: Request) -> Callable[[Tensor], Tensor]:
    """Products of image features as they are with unit text features."""
    score = request.score
    if not isinstance(score, ImageTextScore) or score.directions is None or score.readout.kind != "pool":
        raise ValueError("unit_length: only an ImageTextScore of a tower with an attention pool has it; leave it out")
    return lambda images: products(score.features(images), score.text_features)
