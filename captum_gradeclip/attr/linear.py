"""Methods whose maps are linear in the gradient: they need no more gradients than the model has features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..options import Options
from ..scores import ModelScore, Targets
from ..scores.base import products
from ..scores.checks import check_scores
from .base import TokenAttribution, checked, joined
from .request import Evidence, Request

_O = TypeVar("_O", bound=Options)
_E = TypeVar("_E", bound=Evidence)


class LinearAttribution(TokenAttribution[_O, _E]):
    """The base of methods in which sums of gradients have sums of effects, from which a map is concluded in the end.

    Where a score is linear in D unit features (:attr:`~captum_gradeclip.scores.ModelScore.directions`), so is its gradient.
    Of more targets than features, it is the features that are differentiated; the effects of each target are the sum of
    theirs, which for all targets is one product of matrices.
    """

    def effects(self, evidence: _E, targets: Targets, options: _O) -> Tensor:
        """What the gradient of each target does, linearly: ``(T, parts, N, rows)`` or ``(T, parts, N, heads, rows)``."""
        raise NotImplementedError

    def conclude(self, effects: Tensor, options: _O) -> Tensor:
        """Maps ``(T, N, ...)`` of the effects ``(T, parts, N, ...)``, each value by itself."""
        raise NotImplementedError

    def explain(self, evidence: _E, targets: Targets, options: _O) -> Tensor:
        """What is concluded from the effects of the targets, ``(T, N, rows)`` or ``(T, N, heads, rows)``."""
        return self.conclude(self.effects(evidence, targets, options), options)

    def _observe(self, request: Request, options: _O, columns: Tensor | None) -> _E:
        score = request.score
        directions = score.directions if isinstance(score, ModelScore) else None
        if directions is None or not isinstance(score, ModelScore) or _few(columns, directions):
            return self.observe(request, options)
        evidence = self.observe(replace(request, function=score.unit_features), options)
        with torch.inference_mode(False), torch.enable_grad():
            scores = products(evidence.output, directions)
        return replace(evidence, output=scores, features=evidence.output)

    def _parts(
        self, evidence: _E, targets: Targets, options: _O, max_memory: int, most: int | None = None
    ) -> Iterator[Tensor]:
        score, features = evidence.request.score, evidence.features
        if features is None or not isinstance(score, ModelScore) or score.directions is None:
            yield from super()._parts(evidence, targets, options, max_memory, most)
            return
        check_scores(targets.pick(evidence.output))
        keeps_graph = evidence.request.keeps_graph
        with torch.inference_mode(False), torch.set_grad_enabled(keeps_graph):
            all_features, differentiated = Targets.columns(None, features), replace(evidence, output=features)
            some = all_features.split(evidence.fit(max_memory, len(all_features)))
            effects = evidence.tokens.fold(joined([self.effects(differentiated, one, options) for one in some]))
            effects = effects.movedim(2, 0)  # (N, D, parts, ...)
        # Beside the product there are what is concluded from it and its copy.
        size = min(most or len(targets), max_memory // (effects[:, 0].numel() * 4 * 3))
        index = targets.index[:, :1] if (targets.index == targets.index[:, :1]).all() else targets.index
        for columns in index.split(max(1, size)):
            with torch.inference_mode(False), torch.set_grad_enabled(keeps_graph):
                weights = score.directions[columns].to(effects.dtype).transpose(0, 1).expand(len(effects), -1, -1)
                sums = torch.bmm(weights, effects.flatten(2)).unflatten(2, effects.shape[2:])
                maps = checked(self.conclude(sums.movedim(0, 2), options), evidence)
            yield maps


def _few(columns: Tensor | None, directions: Tensor) -> bool:
    """Whether no more targets than features are asked for: columns ``(T,)`` or ``(N, T)``, or all of them."""
    return (len(directions) if columns is None else columns.shape[-1]) <= directions.shape[1]
