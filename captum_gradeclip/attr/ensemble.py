"""Several readings of a model in one map: their sum, each over its standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from ..maps import ensemble
from .base import Evidence, Options, Request, Targets, TokenAttribution
from .checks import check_defined
from .grad_eclip import GradECLIP
from .registry import BASELINES, AnyMethod, Kind

_O = TypeVar("_O", bound=Options)
Reading = tuple[Kind, Mapping[str, object]]
"""A method with some of its options by name."""


@dataclass(frozen=True)
class Several(Evidence):
    """What the passes of several readings have shown.

    Attributes:
        parts: each method with its options and its evidence.
    """

    parts: Sequence[tuple[AnyMethod, Options, Evidence]]

    @property
    def at(self) -> Sequence[Tensor]:
        """The tensors at which all readings are differentiated."""
        return [tensor for _, _, part in self.parts for tensor in part.at]


class Ensemble(TokenAttribution[_O, Several]):
    """The base of maps that are the sum of several readings, see :func:`captum_gradeclip.maps.ensemble`.

    A subclass declares ``info`` and says in :meth:`readings` which methods it adds up. Each runs on its own, on the layers
    of this one if it looks at layers, so that the ensemble costs what its readings cost together. Maps of different layers,
    or maps that are there already, are added up by :func:`captum_gradeclip.maps.ensemble` itself. The explained scores are
    those of the first reading.

    Args:
        layer: a block or its attention module, or a list of these, on which every reading looks.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> from captum_gradeclip.attr import GAME
    >>> class Both(Ensemble[Options]):
    ...     info = replace(GradECLIP.info, name="Grad-ECLIP and GAME")
    ...     def readings(self, options):
    ...         return [(GradECLIP, {}), (GAME, {})]
    >>> model, preprocess, tokenizer = scenes.load()
    >>> Both.for_score(ImageTextScore(model, "a red circle", tokenizer)).attribute(torch.rand(2, 3, 64, 64), target=0).shape
    torch.Size([2, 1, 8, 8])
    """

    def readings(self, options: _O) -> Sequence[Reading]:
        """The methods that are added up, with their options; the first one's pass gives the explained scores."""
        raise NotImplementedError

    def observe(self, request: Request, options: _O) -> Several:
        """What each reading observes."""
        parts: list[tuple[AnyMethod, Options, Evidence]] = []
        for kind, given in self.readings(options):
            method: AnyMethod = (
                kind(self.forward_func, self.layer) if issubclass(kind, TokenAttribution) else kind(self.forward_func)
            )
            check_defined(kind.info, request.score, request.inputs)
            chosen = kind.checked(given)
            own = replace(request, info=kind.info, layers=method._layers())
            parts.append((method, chosen, method.observe(own, chosen)))
        first = parts[0][2]
        return Several(request, first.output, first.tokens, parts)

    def _maps(self, evidence: Several, targets: Targets, options: _O) -> Tensor:
        maps = [method._maps(part, targets, chosen) for method, chosen, part in evidence.parts]
        image = evidence.request.is_image
        with torch.inference_mode(False), torch.set_grad_enabled(evidence.request.keeps_graph):
            return ensemble(maps, dims=2 if image else 1, centered=image)


@dataclass(frozen=True)
class ReadingsOptions(Options):
    """The options of :class:`GradECLIPReadings`.

    Attributes:
        relu_attributions: whether each reading keeps only positive evidence (default True).
    """

    relu_attributions: bool = True


@BASELINES.register
class GradECLIPReadings(Ensemble[ReadingsOptions]):
    r"""Both readings of Grad-ECLIP: one head with the loosened weight, and the model's own heads with their attention.

    .. math:: H_i = \frac{A_i}{\sigma(A)} + \frac{B_i}{\sigma(B)}

    The first, :math:`A`, finds things well, and explains a network with one head in place of the model's own. The second,
    :math:`B`, explains the model itself, and says how its score divides.

    Source: ours; the readings are those of Zhao et al., ICML 2024 (arXiv 2502.18816).

    Args:
        layer: a block or its attention module, or a list of these.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> GradECLIPReadings.for_score(score).attribute(torch.rand(2, 3, 64, 64), target=1).shape
    torch.Size([2, 1, 8, 8])
    """

    info = replace(GradECLIP.info, name="Grad-ECLIP, both readings", paper="this package", unit="standard deviations")
    Options = ReadingsOptions

    def readings(self, options: ReadingsOptions) -> Sequence[Reading]:
        """The paper's reading, and the model's own."""
        return [
            (GradECLIP, {"relu_attributions": options.relu_attributions}),
            (
                GradECLIP,
                {"heads": "model", "spatial_weight": "softmax", "relu_attributions": options.relu_attributions},
            ),
        ]
