"""Grad-ECLIP: which patches or words made an image and a text match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..attention import Record, SidePath, model_heads, single_head
from .base import Attention, MethodInfo, Options, Request, Targets, take_rows
from .linear import LinearAttribution

SpatialWeight = Literal["loosened", "softmax", "none"]
Similarity = Literal["cosine", "dot", "projected"]
Keys = Literal["visible", "all"]
Heads = Literal["single", "model", "each"]


@dataclass(frozen=True)
class GradECLIPOptions(Options):
    """The options of :class:`GradECLIP`.

    Attributes:
        spatial_weight: ``"loosened"`` (default, the paper's), ``"softmax"`` (the attention weights) or ``"none"``.
        similarity: similarity of query and keys in the loosened weight, ``"cosine"`` (default, as in the notebooks of the
            released code), ``"dot"``, as in the paper's text, or ``"projected"``, the cosine behind the output projection of
            the attention and its bias, as in the scripts that the paper's tables on ImageNet come from. The projection mixes
            the heads, so that ``heads="each"`` has no such weight, and neither has an attention pool.
        key_tokens: the tokens over which the loosened weight is stretched: ``"visible"`` (default), those that the read-out
            token may attend to, so that padding which the model never sees changes nothing, and all others weigh 0; or
            ``"all"``, as in the released code.
        heads: ``"single"`` (default) runs the chosen layers with one head over all channels, as the paper does, so that the
            explained score differs a little from the model's; ``"model"`` keeps the model's own heads and its own score;
            ``"each"`` returns one map for each head of that pass. The softmax weight of ``"model"`` is each head's own, and
            weighs that head's evidence.
        relu_attributions: whether only positive evidence is kept (default True).
        relu_before_sum: with several layers, whether ReLU is taken of each layer and the sum then (default True, as
            equation 19 is printed), or of the sum only, as the released code for texts has it. There the evidence against a
            word in one layer cancels what other layers have for it, so that words which the score needs may weigh nothing.
            With one layer both are the same.
    """

    spatial_weight: SpatialWeight = "loosened"
    similarity: Similarity = "cosine"
    key_tokens: Keys = "visible"
    heads: Heads = "single"
    relu_attributions: bool = True
    relu_before_sum: bool = True


def grad_eclip(weight: Tensor, value: Tensor, spatial: Tensor | float = 1.0) -> Tensor:
    r"""The map of one layer before its ReLU, equation 19 of the paper.

    .. math:: m_i = \sum_r \lambda_{ri} \sum_c w_{rc} v_{ic}

    Args:
        weight: channel weights ``w``, the gradient of the score at the attention output of the read-out
            token(s) ``r``, shape ``(..., R, C)``, or ``(T, ..., R, C)`` for many targets.
        value: values ``v`` of the tokens ``i``, ``(..., L, C)``.
        spatial: spatial weights ``lambda``, ``(..., R, L)``, or 1 to leave them out.

    Returns:
        ``(..., L)`` or ``(T, ..., L)``, signed.

    >>> grad_eclip(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    tensor([ 1., -2.])
    """
    if weight.dim() == value.dim():
        return (spatial * (weight @ value.mT)).sum(dim=-2)
    # Targets in front become rows of one product: broadcast, they would copy the values for each of them.
    rows = weight.movedim(0, -3)
    products: Tensor = (rows.flatten(-3, -2) @ value.mT).unflatten(-2, rows.shape[-3:-1])
    return (spatial * products.movedim(-3, 0)).sum(dim=-2)


def loosened_attention(
    query: Tensor, key: Tensor, similarity: Similarity = "cosine", visible: Tensor | None = None
) -> Tensor:
    r"""Spatial weights, equation 20: the similarity of query and keys, stretched to [0, 1] over the tokens.

    .. math:: \lambda_{ri} = \frac{s_{ri} - \min_j s_{rj}}{\max_j s_{rj} - \min_j s_{rj}},
        \quad s_{ri} = \cos(q_r, k_i) \text{ or } q_r \cdot k_i

    Args:
        query: ``(..., R, C)``.
        key: ``(..., L, C)``.
        similarity: ``"cosine"``, as in the released code, or ``"dot"``, as in the paper's text; of what is projected
            already, ``"projected"`` is the cosine.
        visible: the tokens ``j`` of the minimum and maximum, boolean, broadcasts to ``(..., R, L)``, at least one per row;
            all others weigh 0. ``None`` (default) stands for all.

    Returns:
        ``(..., R, L)`` between 0 and 1; all ones where the similarity is constant.

    >>> loosened_attention(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]))
    tensor([[1.0000, 0.0000, 0.6000]])
    """
    if similarity != "dot":
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    s = query @ key.mT
    seen = s if visible is None else s.where(visible, s.masked_fill(~visible, -torch.inf).amax(dim=-1, keepdim=True))
    low, high = seen.amin(dim=-1, keepdim=True), seen.amax(dim=-1, keepdim=True)
    span = high - low
    # Below the rounding error of the products there is nothing to stretch but noise.
    flat = span <= 8 * torch.finfo(s.dtype).eps * seen.abs().amax(dim=-1, keepdim=True)
    stretched = torch.where(flat, 1.0, (seen - low) / torch.where(flat, 1.0, span))
    return stretched if visible is None else stretched * visible


@dataclass(frozen=True)
class Projected(Attention):
    """What the attention of the chosen layers was given, with queries and keys behind the output projection.

    Attributes:
        compared: queries and keys ``(N, L, C)`` of each layer, projected, in the order of the records; ``None`` (default)
            for those that the layers compare themselves.
    """

    compared: Sequence[tuple[Tensor, Tensor]] | None = None


class GradECLIP(LinearAttribution[GradECLIPOptions, Attention]):
    r"""Gradient-based visual explanation of CLIP, as a Captum layer attribution.

    .. math:: H_i = \sum_l \mathrm{ReLU}\Big(\lambda^l_i \sum_c \frac{\partial S}{\partial o^l_c} v^l_{ic}\Big)

    for the score :math:`S` (the cosine of image and text, a logit), the chosen layers :math:`l`, the attention output
    :math:`o` of the token that is read out, the values :math:`v` and the loosened query-key similarity :math:`\lambda`. The
    released code takes ReLU of the sum for texts (``relu_before_sum=False``). The model stays as it is: for
    the duration of one forward pass the chosen layers, and only they, attend with one head over all channels, as the
    paper has it (or with their own heads, ``heads="model"``).

    ``multiplies_by_inputs`` is False, as for Grad-CAM: the values that multiply the gradient belong to the layer. Maps
    with ReLU are not complete; they do not add up to the score.

    Args:
        forward_func: an :class:`~captum_gradeclip.ImageTextScore` or :class:`~captum_gradeclip.TextImageScore`, or any
            callable that returns ``(N,)`` or ``(N, T)``.
        layer: the layer to explain, or a list of layers; each is a block or its attention module. The paper's choice is
            ``score.layers[-1:]`` for images and ``score.layers[-8:]`` for texts.
        device_ids: accepted for Captum's sake; a model under ``nn.DataParallel`` is refused.

    >>> from captum_gradeclip import GradECLIP, ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> images = torch.stack([preprocess(scenes.SceneDataset(2, "evaluation")[i].image) for i in range(2)])
    >>> score = ImageTextScore(model, ["a red circle", "something green"], tokenizer)
    >>> GradECLIP(score, score.layers[-1:]).attribute(images, target=1).shape
    torch.Size([2, 1, 12, 12])

    Source: Zhao, Wang, Zeng, Zhao, Chan: "Gradient-based Visual Explanation for Transformer-based CLIP", ICML 2024,
    and arXiv 2502.18816, equations 12 to 20.
    """

    info = MethodInfo(
        "Grad-ECLIP",
        "Zhao et al., ICML 2024, arXiv 2502.18816",
        text=True,
        convolutional=True,
        cross_attention=True,
        gradient=True,
        text_layers=8,
    )
    Options = GradECLIPOptions

    def observe(self, request: Request, options: GradECLIPOptions) -> Attention:
        """The attention of the chosen layers, with one head or the model's own."""
        asked = request.front() if options.key_tokens == "visible" and options.spatial_weight != "none" else request
        rule = single_head if options.heads == "single" else model_heads
        if options.similarity != "projected" or options.spatial_weight != "loosened":
            return asked.intercept_tail(rule)
        if options.heads == "each" or any(asked.site(layer).kind == "pool" for layer in asked.layers):
            raise ValueError(
                'similarity: "projected" compares whole tokens of a block, which neither single heads nor an attention pool'
                ' have; use "cosine"'
            )
        blocks, count = [asked.site(layer).module for layer in asked.layers], len(asked.inputs)
        axis = asked.examples_axis(blocks[-1])
        paths = [SidePath(blocks, kept, count, axis) for kept in (_queries, _keys)]
        seen = asked.intercept(rule, *paths)
        ran = list(zip(*(path.added for path in paths)))  # in the order in which the blocks ran
        compared = [ran[record.order] for record in seen.records]
        return Projected(seen.request, seen.output, seen.tokens, seen.records, compared)

    def effects(self, evidence: Attention, targets: Targets, options: GradECLIPOptions) -> Tensor:
        """Equation 19 before its ReLU, for each layer, ``(T, layers, N, L)`` or ``(T, layers, N, heads, L)``."""
        gradients = evidence.gradient(targets)
        rows = evidence.rows(targets, gradients)
        counts = sorted({record.heads for record in evidence.records})
        if options.heads == "each" and len(counts) > 1:
            raise ValueError(f'heads: "each" needs layers with as many heads, got layers with {counts}; choose one of them')
        maps = []
        compared = evidence.compared if isinstance(evidence, Projected) else None
        with torch.autocast(evidence.output.device.type, enabled=False):
            for number, (gradient, record) in enumerate(zip(gradients, evidence.records)):
                read = rows if evidence.same_queries(record) else None
                own = None if compared is None else compared[number]
                maps.append(_layer_map(gradient, record, read, evidence.tokens.content, options, own))
        return torch.stack(maps if options.heads == "each" else [one.squeeze(-2) for one in maps], dim=1)

    def conclude(self, effects: Tensor, options: GradECLIPOptions) -> Tensor:
        """The sum over the layers, with ReLU before or behind it, ``(T, N, L)`` or ``(T, N, heads, L)``."""
        positive, single = options.relu_attributions, effects.shape[1] == 1
        each = effects.relu() if positive and options.relu_before_sum else effects
        total = each[:, 0] if single else each.sum(dim=1)
        return total.relu() if positive and not options.relu_before_sum else total

    def carried(self, evidence: Attention, targets: Targets, options: GradECLIPOptions) -> Tensor:
        r"""What share of the first-order score the patches or words carry, ``(T, N)``; the rest lies on prefix tokens.

        .. math:: \frac{\sum_{i \in \mathrm{map}} a_i}{\sum_i a_i}, \quad
            a_i = \sum_{l, h} \alpha^{lh}_i \, \frac{\partial S}{\partial o^{lh}} \cdot v^{lh}_i, \quad
            \sum_i a_i = \sum_l \frac{\partial S}{\partial o^l} \cdot o^l

        with the attention weights :math:`\alpha` of the pass that was explained, whatever spatial weight the map has. NaN
        where all :math:`a_i` cancel, as they do behind a norm that follows the attention at once.
        """
        heads: Heads = "single" if options.heads == "single" else "model"
        account = self.effects(evidence, targets, replace(options, heads=heads, spatial_weight="softmax")).sum(dim=1)
        total, content = account.sum(dim=-1), account[..., evidence.tokens.content].sum(dim=-1)
        return (content / total).where(total.abs() > 1e-4 * account.abs().sum(dim=-1), torch.nan)


def _queries(record: Record) -> Tensor:
    return record.query


def _keys(record: Record) -> Tensor:
    return record.key


def _layer_map(
    gradient: Tensor,
    record: Record,
    rows: Tensor | None,
    content: slice,
    options: GradECLIPOptions,
    compared: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Signed map of one layer, ``(T, N, heads or 1, L)``."""
    spatial, value = weighing(record, rows, content, options, compared)
    evidence = grad_eclip(_per_head(take_rows(gradient.to(value.dtype), rows), value.shape[1]), value, spatial)
    return evidence if options.heads == "each" else evidence.sum(dim=-2, keepdim=True)


def weighing(
    record: Record,
    rows: Tensor | None,
    content: slice,
    options: GradECLIPOptions,
    compared: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor | float, Tensor]:
    """The spatial weights and the values of one layer, the two factors of equation 19 that do not depend on the target.

    Args:
        record: what the layer was given.
        rows: index of the row that is read in each example, ``(N,)``; ``None`` for all rows.
        content: the patches or words among the keys.
        options: how they are weighed, and by how many heads.
        compared: queries and keys ``(N, L, C)`` to compare in the place of the layer's own; ``None`` (default) for these.

    Returns:
        Spatial weights ``(N, heads or 1, R, L)``, or 1 for none, and values ``(N, heads or 1, L, d)``.
    """
    # The model's own softmax exists per head only; it weighs each head's evidence before these are added up.
    each = options.heads == "each"
    view = record if each or (options.heads == "model" and options.spatial_weight == "softmax") else record.merged()
    dtype = torch.promote_types(record.value.dtype, torch.float32)  # a cosine in half precision loses its gradient
    pair = [view.query, view.key] if compared is None else [x[:, None] for x in compared]
    query, key, value = (x.to(dtype) for x in (*pair, view.value))
    query = _per_head(take_rows(query.transpose(1, 2).flatten(2), rows), view.heads)
    spatial: Tensor | float = 1.0
    if options.spatial_weight == "loosened":
        visible = None if options.key_tokens == "all" else view.visible(rows)
        seen = None if visible is None else visible[..., content]
        loosened = loosened_attention(query, key[..., content, :], options.similarity, seen)
        # The similarity is stretched over the patches or words; tokens beside them weigh nothing.
        spatial = F.pad(loosened, (content.start, key.shape[-2] - content.stop))
    elif options.spatial_weight == "softmax":
        spatial = view.probabilities().to(dtype)
        if rows is not None:
            spatial = spatial.take_along_dim(rows.to(spatial.device)[:, None, None, None], dim=-2)
    return spatial, value


def _per_head(x: Tensor, heads: int) -> Tensor:
    """``(..., R, heads * d)`` to ``(..., heads, R, d)``."""
    apart: Tensor = x.unflatten(-1, (heads, -1))
    return apart.transpose(-3, -2)
