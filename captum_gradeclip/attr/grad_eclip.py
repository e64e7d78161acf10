"""Grad-ECLIP: which patches or words made an image and a text match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointError

from ..attention import Record, Rule, model_heads, single_head
from .base import (
    About,
    TokenAttribution,
    check_inputs,
    chunks,
    content_slice,
    is_image,
    key_tokens,
    over_targets,
    readout_rows,
    refuse_layer_input,
    select,
    take_rows,
)

SpatialWeight = Literal["loosened", "softmax", "none"]
Similarity = Literal["cosine", "dot"]
Heads = Literal["single", "model", "each"]


@dataclass(frozen=True)
class _Options:
    """The choices of one explanation, checked."""

    spatial_weight: SpatialWeight
    similarity: Similarity
    heads: Heads
    relu_attributions: bool
    relu_before_sum: bool | None

    def __post_init__(self) -> None:
        for name, known in (("spatial_weight", SpatialWeight), ("similarity", Similarity), ("heads", Heads)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name}: expected one of {get_args(known)}, got {getattr(self, name)!r}")

    @property
    def rule(self) -> Rule:
        return single_head if self.heads == "single" else model_heads


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


def loosened_attention(query: Tensor, key: Tensor, similarity: Similarity = "cosine") -> Tensor:
    r"""Spatial weights, equation 20: the similarity of query and keys, stretched to [0, 1] over the tokens.

    .. math:: \lambda_{ri} = \frac{s_{ri} - \min_j s_{rj}}{\max_j s_{rj} - \min_j s_{rj}},
        \quad s_{ri} = \cos(q_r, k_i) \text{ or } q_r \cdot k_i

    Args:
        query: ``(..., R, C)``.
        key: ``(..., L, C)``.
        similarity: ``"cosine"``, as in the released code, or ``"dot"``, as in the paper's text.

    Returns:
        ``(..., R, L)`` between 0 and 1; all ones where the similarity is constant.

    >>> loosened_attention(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]))
    tensor([[1.0000, 0.0000, 0.6000]])
    """
    if similarity == "cosine":
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    s = query @ key.mT
    low, high = s.amin(dim=-1, keepdim=True), s.amax(dim=-1, keepdim=True)
    span = high - low
    # Below the rounding error of the products there is nothing to stretch but noise.
    flat = span <= 8 * torch.finfo(s.dtype).eps * s.abs().amax(dim=-1, keepdim=True)
    return torch.where(flat, 1.0, (s - low) / torch.where(flat, 1.0, span))


class GradECLIP(TokenAttribution):
    r"""Gradient-based visual explanation of CLIP, as a Captum layer attribution.

    .. math:: H_i = \mathrm{ReLU}\Big(\lambda_i \sum_c \frac{\partial S}{\partial o_c} v_{ic}\Big)

    for the score :math:`S` (the cosine of image and text, a logit), the attention output :math:`o` of the token that is
    read out, the values :math:`v` and the loosened query-key similarity :math:`\lambda`. The model stays as it is: for
    the duration of one forward pass the chosen layers, and only they, attend with one head over all channels, as the
    paper has it (or with their own heads, ``heads="model"``).

    ``multiplies_by_inputs`` is False, as for Grad-CAM: the values that multiply the gradient belong to the layer. Maps
    with ReLU are not complete; they do not add up to the score.

    Args:
        forward_func: an :class:`~captum_gradeclip.ImageTextScore` or :class:`~captum_gradeclip.TextImageScore`, or any
            callable that returns ``(N,)`` or ``(N, T)``.
        layer: the layer to explain, or a list; ``score.layers[-1:]`` for images and ``score.layers[-8:]`` for texts are
            the paper's choice. Each is a block or its attention module.
        device_ids: accepted for Captum's sake; a model under ``nn.DataParallel`` is refused.

    >>> from captum_gradeclip import GradECLIP, ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> images = torch.stack([preprocess(scenes.SceneDataset(2, "evaluation")[i].image) for i in range(2)])
    >>> score = ImageTextScore(model, ["a red circle", "something green"], tokenizer)
    >>> GradECLIP(score, score.layers[-1:]).attribute(images, target=1).shape
    torch.Size([2, 1, 8, 8])

    Source: Zhao, Wang, Zeng, Zhao, Chan: "Gradient-based Visual Explanation for Transformer-based CLIP", ICML 2024,
    and arXiv 2502.18816, equations 12 to 20.
    """

    about = About(
        name="Grad-ECLIP",
        image=True,
        text=True,
        resnet=True,
        needs_text=True,
        stochastic=False,
        gradient=True,
        layers=1,
        text_layers=8,
        paper="Zhao et al., ICML 2024, arXiv 2502.18816",
    )

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        spatial_weight: SpatialWeight = "loosened",
        similarity: Similarity = "cosine",
        heads: Heads = "single",
        relu_attributions: bool = True,
        relu_before_sum: bool | None = None,
        grad_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)``, floating point, or token ids ``(N, L)``, integer.
            target: which score of ``(N, T)`` to explain, any of Captum's kinds; ``None`` if there is one per example.
            additional_forward_args: passed to ``forward_func`` behind ``inputs``.
            attribute_to_layer_input: refused; what is recorded lies inside the layer.
            spatial_weight: ``"loosened"`` (the paper), ``"softmax"`` (the attention weights) or ``"none"``.
            similarity: of query and keys in the loosened weight, ``"cosine"`` or ``"dot"``.
            heads: ``"single"`` runs the chosen layers with one head over all channels (the paper), so the explained
                score differs a little from the model's; ``"model"`` keeps the model's own heads and its own score;
                ``"each"`` returns one map per head of that pass. The softmax weight of ``"model"`` is each head's own,
                applied to that head's evidence.
            relu_attributions: keep positive evidence only.
            relu_before_sum: with several layers, ReLU per layer (default for images) or after the sum (for texts).
            grad_kwargs: passed to :func:`torch.autograd.grad`.

        Returns:
            ``(N, 1, h, w)`` for images and ``(N, L)`` for texts, float32, finite, contiguous; with ``heads="each"``
            ``(N, heads, h, w)`` and ``(N, heads, L)``. All tokens of a text have a value, also SOS, EOS and padding;
            :func:`captum_gradeclip.maps.merge_words` leaves those out.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for inputs that are not finite or of another shape, unknown options, a layer that cannot be
                explained (:class:`~captum_gradeclip.attention.LayerError`), a score that is not finite, or a model whose
                training mode would change it.
        """
        refuse_layer_input(attribute_to_layer_input)
        options = _Options(spatial_weight, similarity, heads, relu_attributions, relu_before_sum)
        inputs = check_inputs(inputs)
        output, records = self._run(inputs, additional_forward_args, options.rule)
        scores = select(output, target, len(inputs))
        gradients = self._gradients(scores, records, None, grad_kwargs)
        return self._maps(gradients, records, inputs, options)

    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        spatial_weight: SpatialWeight = "loosened",
        similarity: Similarity = "cosine",
        heads: Heads = "single",
        relu_attributions: bool = True,
        relu_before_sum: bool | None = None,
        grad_kwargs: dict[str, Any] | None = None,
        chunk_size: int | None = None,
        max_memory: int = 2**28,
    ) -> Tensor:
        """The maps of many targets from one forward pass: equal to a loop of :meth:`attribute`, and much faster.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them. The same for every example.
            additional_forward_args: as in :meth:`attribute`, and so are the options up to ``grad_kwargs``.
            chunk_size: inputs for each forward pass; ``None`` for all at once.
            max_memory: bytes that the gradients of the targets that are differentiated together may take, roughly.

        Returns:
            ``(N, T, h, w)`` for images, ``(N, T, L)`` for texts; with ``heads="each"`` a dimension ``heads`` after T.

        >>> from captum_gradeclip import GradECLIP, TextImageScore, scenes
        >>> model, preprocess, tokenizer = scenes.load()
        >>> images = torch.stack([preprocess(scenes.SceneDataset(3, "evaluation")[i].image) for i in range(3)])
        >>> score = TextImageScore(model, images)
        >>> GradECLIP(score, score.layers[-8:]).attribute_targets(tokenizer(["two red stars"])).shape
        torch.Size([1, 3, 24])
        """
        options = _Options(spatial_weight, similarity, heads, relu_attributions, relu_before_sum)
        inputs = check_inputs(inputs)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size: expected at least one input for each forward pass, got {chunk_size}")
        parts = []
        for some, _, arguments in chunks(inputs, None, additional_forward_args, chunk_size or len(inputs)):
            output, records = self._run(some, arguments, options.rule)
            explain = partial(self._target_maps, output, records, some, options, grad_kwargs)
            maps = over_targets(output, targets, len(some), _targets_at_once(records, max_memory), explain)
            parts.append(maps.transpose(0, 1))
        result = torch.cat(parts)
        return result.squeeze(2) if heads != "each" and is_image(inputs) else result

    def _target_maps(
        self,
        output: Tensor,
        records: list[Record],
        inputs: Tensor,
        options: _Options,
        grad_kwargs: dict[str, Any] | None,
        seeds: Tensor,
    ) -> Tensor:
        """Maps ``(T, N, ...)`` of seeds ``(T, N, columns)``."""
        gradients = self._gradients(output, records, seeds, {"retain_graph": True, **(grad_kwargs or {})})
        return self._maps(gradients, records, inputs, options).transpose(0, 1)

    def _gradients(
        self, scores: Tensor, records: list[Record], seeds: Tensor | None, grad_kwargs: dict[str, Any] | None
    ) -> list[Tensor]:
        """dS/do per layer, ``(N, Lq, C)``; with seeds ``(T, N, T)`` one for each, ``(T, N, Lq, C)``."""
        if not torch.isfinite(scores).all():
            raise ValueError(
                "forward_func: it returned NaN or infinite scores for finite inputs; there is nothing to explain"
            )
        outputs = [record.output for record in records if record.output is not None]
        options = {"is_grads_batched": seeds is not None, **(grad_kwargs or {})}
        # Examples do not touch each other, so the gradient of the sum holds the gradient of each.
        seeds = torch.ones_like(scores) if seeds is None else seeds
        try:
            return list(torch.autograd.grad(scores, outputs, seeds, **options))
        except CheckpointError as error:
            raise ValueError(
                "layer: gradient checkpointing runs blocks a second time, outside the interception; switch it off for the"
                " explanation, model.set_grad_checkpointing(False)"
            ) from error
        except RuntimeError as error:
            if "appears to not have been used" not in str(error):
                raise
            raise ValueError(
                "layer: a chosen layer ran, but the score does not depend on it; choose layers on the way to the score"
            ) from error

    def _maps(self, gradients: list[Tensor], records: list[Record], inputs: Tensor, options: _Options) -> Tensor:
        """Gradients ``([T,] N, Lq, C)`` to maps ``(N, [T,] heads, ...)``, the sum over the layers."""
        owner = self._owner()
        content, shape = content_slice(key_tokens(records), inputs, getattr(owner, "grid", None))
        last = max(range(len(records)), key=lambda number: records[number].order)
        rows = readout_rows(gradients[last], getattr(owner, "readout", None), inputs)
        relu = options.relu_attributions
        before_sum = is_image(inputs) if options.relu_before_sum is None else options.relu_before_sum
        total: Tensor | None = None
        for gradient, record in zip(gradients, records):
            # The one query of an attention pool is no row of the blocks before it: all of these are read.
            same = record.query.shape[-2] == records[last].query.shape[-2]
            with torch.autocast(inputs.device.type, enabled=False):
                one = _layer_map(gradient.detach(), record, rows if same else None, content, options)
            one = one.relu() if relu and before_sum else one
            total = one if total is None else total + one
        assert total is not None
        total = (total.relu() if relu else total).float()
        if not torch.isfinite(total).all():
            raise ValueError("layer: its queries, keys, values or gradients overflowed; run the model in a wider dtype")
        if gradients[-1].dim() == 4:
            total = total.transpose(0, 1)
        if options.heads != "each" and not is_image(inputs):
            total = total.squeeze(-2)
        maps: Tensor = total.unflatten(-1, shape)
        return maps.contiguous()


def _layer_map(gradient: Tensor, record: Record, rows: Tensor | None, content: slice, options: _Options) -> Tensor:
    """Signed map of one layer, ``([T,] N, heads or 1, L)``."""
    # The model's own softmax exists per head only; it weighs each head's evidence before these are added up.
    each = options.heads == "each"
    view = record if each or (options.heads == "model" and options.spatial_weight == "softmax") else record.merged()
    dtype = torch.promote_types(record.value.dtype, torch.float32)  # a cosine in half precision loses its gradient
    query, key, value = (x.detach().to(dtype) for x in (view.query, view.key, view.value))
    weight = _per_head(take_rows(gradient.to(dtype), rows), view.heads)
    query = _per_head(take_rows(query.transpose(1, 2).flatten(2), rows), view.heads)
    if options.spatial_weight == "loosened":
        spatial: Tensor | float = loosened_attention(query, key[..., content, :], options.similarity)
    elif options.spatial_weight == "softmax":
        probabilities = view.probabilities().detach().to(dtype)
        if rows is not None:
            probabilities = probabilities.take_along_dim(rows.to(probabilities.device)[:, None, None, None], dim=-2)
        spatial = probabilities[..., content]
    else:
        spatial = 1.0
    evidence = grad_eclip(weight, value[..., content, :], spatial)
    return evidence if each else evidence.sum(dim=-2, keepdim=True)


def _targets_at_once(records: list[Record], max_memory: int) -> int:
    """How many targets a batched backward pass may hold: one carries gradients as wide as the MLP behind each layer."""
    values = sum(record.output.numel() for record in records if record.output is not None)
    return max(1, max_memory // (values * 4 * _WIDTH_OF_A_BLOCK))


_WIDTH_OF_A_BLOCK = 8  # gradients alive at once in the backward pass of a block, in units of its width


def _per_head(x: Tensor, heads: int) -> Tensor:
    """``(..., R, heads * d)`` to ``(..., heads, R, d)``."""
    apart: Tensor = x.unflatten(-1, (heads, -1))
    return apart.transpose(-3, -2)
