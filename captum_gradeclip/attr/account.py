"""The whole of a score, divided: what patches or words, other tokens and the residual path contribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..attention import one_call
from ..scores import Columns, ModelScore, Targets
from ..scores.checks import check_scores
from ..scores.targets import parse_columns
from .base import joined
from .grad_eclip import GradECLIP, GradECLIPOptions


@dataclass(frozen=True)
class Account:
    """The signed contributions to scores ``(N, T)``, which add up to them.

    Attributes:
        maps: those of the patches ``(N, T, h, w)``, or of the tokens of texts ``(N, T, L)``, float32; by head,
            ``(N, T, layers, heads, h, w)`` or ``(N, T, layers, heads, L)``.
        others: those of the P tokens beside them in their order, ``(N, T, P)``, or ``(N, T, layers, heads, P)`` by head:
            class and register tokens. P is 0 where there are none, as in most texts.
        residual: that of the residual path ``(N, T)``: all of the score that is not linear in what the explained layers
            attend to, so what goes past their attention, and biases.
        scores: the scores ``(N, T)`` of the model itself.

    >>> score, residual = torch.tensor([[0.25]]), torch.tensor([[-0.25]])
    >>> found = Account(torch.full((1, 1, 2, 2), 0.125), torch.zeros(1, 1, 1), residual, score)
    >>> found.maps.sum() + found.others.sum() + found.residual == found.scores
    tensor([[True]])
    """

    maps: Tensor
    others: Tensor
    residual: Tensor
    scores: Tensor


@one_call
def account(
    score: ModelScore,
    inputs: Tensor,
    targets: Columns = None,
    layers: nn.Module | Sequence[nn.Module] | None = None,
    by_head: bool = False,
) -> Account:
    r"""Divides a score completely, to first order in what some layers attend to.

    .. math:: S = \sum_i a_i + R, \quad a_i = \sum_{l, h} \alpha^{lh}_i \, \frac{\partial S}{\partial o^{lh}} \cdot v^{lh}_i,
        \quad \sum_i a_i = \sum_l \frac{\partial S}{\partial o^l} \cdot o^l

    with the model's own heads, attention weights :math:`\alpha`, values :math:`v` and attention outputs :math:`o`. The
    contributions of the patches are the signed map of :class:`~captum_gradeclip.GradECLIP` with ``heads="model"`` and
    ``spatial_weight="softmax"``; :math:`R` is what they and the other tokens leave over.

    Args:
        score: a score of this package, of images or texts.
        inputs: images ``(N, C, H, W)`` or token ids ``(N, L)``.
        targets: columns of the scores, as for :meth:`~captum_gradeclip.GradECLIP.attribute_targets`; ``None`` (default) for
            all of them.
        layers: the layers whose attention is followed; ``None`` (default) for those that Grad-ECLIP is meant for, the last
            one for images and the last eight for texts.
        by_head: whether the contributions of each head of each layer are kept apart (default false: they are added up).
            Layers then need the same number of heads.

    Returns:
        The account. Its parts may be much larger than the score where they cancel.

    Raises:
        TypeError, ValueError, AssertionError: as :meth:`~captum_gradeclip.GradECLIP.attribute_targets`; ValueError for
            layers of different numbers of heads that are to be kept apart.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score, images = ImageTextScore(model, ["a red circle", "two stars"], tokenizer), torch.rand(1, 3, 96, 96)
    >>> found = account(score, images)
    >>> total = found.maps.sum(dim=(2, 3)) + found.others.sum(dim=2) + found.residual
    >>> found.maps.shape, found.others.shape, torch.allclose(total, score(images), atol=1e-5)
    (torch.Size([1, 2, 12, 12]), torch.Size([1, 2, 1]), True)

    Source: equations 12 and 16 of arXiv 2502.18816, for the model's own heads.
    """
    method = GradECLIP.for_score(score) if layers is None else GradECLIP(score, layers)
    options = GradECLIPOptions(heads="model", spatial_weight="softmax", relu_attributions=False)
    options = replace(options, heads="each") if by_head else options
    request = method._request(inputs, None, None)
    evidence = method.observe(request, options)
    asked = Targets.columns(parse_columns(targets, len(request.inputs)), evidence.output)
    scores = asked.pick(evidence.output).detach()
    check_scores(scores)
    with torch.inference_mode(False), torch.no_grad():
        parts = [method.effects(evidence, some, options) for some in asked.split(evidence.fit(2**28, len(asked)))]
    signed, content = joined(parts), evidence.tokens.content
    effects = signed.movedim(2, 0) if by_head else signed.sum(dim=1).transpose(0, 1)
    others = torch.cat([effects[..., : content.start], effects[..., content.stop :]], dim=-1)
    total = scores.T.to(effects.dtype)
    rest = total - effects.flatten(2).sum(dim=-1)
    return Account(evidence.tokens.fold(effects).float(), others.float(), rest.float(), total.float().contiguous())
