"""Maps that every method should be measured against: an ablation, chance, the center of the picture, the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from .base import Evidence, Method, MethodInfo, Options, Request, Targets
from .grad_eclip import GradECLIP, GradECLIPOptions, SpatialWeight
from .registry import BASELINES


@dataclass(frozen=True)
class WithoutWeightOptions(GradECLIPOptions):
    """The options of :class:`GradECLIPWithoutWeight`: those of Grad-ECLIP, with another default."""

    spatial_weight: SpatialWeight = "none"


@BASELINES.register
class GradECLIPWithoutWeight(GradECLIP):
    """Grad-ECLIP without the spatial weight, the ablation of its papers.

    Args:
        forward_func: as for :class:`~captum_gradeclip.GradECLIP`, and so is the rest.
        layer: the layer to explain, or a list of layers.
        device_ids: accepted for Captum's sake.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> method = GradECLIPWithoutWeight(score, score.layers[-1])
    >>> images = torch.rand(1, 3, 64, 64)
    >>> without = GradECLIP(score, score.layers[-1]).attribute(images, 1, spatial_weight="none")
    >>> torch.equal(method.attribute(images, 1), without)
    True

    Source: the rows "w/o lambda" of tables I to IV of arXiv 2502.18816.
    """

    info = replace(GradECLIP.info, name="Grad-ECLIP w/o weight")
    Options = WithoutWeightOptions


_INFO = MethodInfo("center prior", "baseline", convolutional=True, class_discriminative=False, layers=0, unit="weight")


_O = TypeVar("_O", bound=Options)


class Baseline(Method[_O, Evidence]):
    """The base of maps that look at no layer.

    Args:
        forward_func: a score of this package.
    """

    def observe(self, request: Request, options: _O) -> Evidence:
        """The scores of the inputs."""
        return Evidence(request, request.forward(), request.content())


@dataclass(frozen=True)
class RandomMapOptions(Options):
    """The options of :class:`RandomMap`.

    Attributes:
        seeds: seed of each input's map, N integers; ``None`` (default) for 0, 1, 2 and so on.
    """

    seeds: Sequence[int] | None = None


@BASELINES.register
class RandomMap(Baseline[RandomMapOptions]):
    """Uniform random numbers between 0 and 1: chance.

    Args:
        forward_func: a score of this package, of images or of texts.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> method, images = RandomMap(score), torch.rand(2, 3, 64, 64)
    >>> maps = method.attribute(images, seeds=[3, 3])
    >>> maps.shape, torch.equal(maps[0], maps[1])
    (torch.Size([2, 1, 8, 8]), True)

    Source: this package.
    """

    info = replace(_INFO, name="random map", text=True, stochastic=True, needs=("seeds",))
    Options = RandomMapOptions

    def explain(self, evidence: Evidence, targets: Targets, options: RandomMapOptions) -> Tensor:
        """The same numbers for every target."""
        first, count = evidence.request.first, len(evidence.output)
        seeds = range(first, first + count) if options.seeds is None else options.seeds[first : first + count]
        if len(seeds) != count:
            raise ValueError(f"seeds: expected one for each input, got {len(options.seeds or ())}")
        maps = [
            torch.rand(evidence.tokens.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
            for seed in seeds
        ]
        return torch.stack(maps).flatten(1).to(evidence.output.device).expand(len(targets), -1, -1)


@BASELINES.register
class CenterPrior(Baseline[Options]):
    r"""A bell over the center of the picture, where photographers put what they mean.

    .. math:: H_{xy} = \exp\left(-2 (x^2 + y^2)\right)

    with rows and columns from -1 to 1.

    Args:
        forward_func: a score of images of this package.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> bell = CenterPrior(score).attribute(torch.rand(1, 3, 24, 24))
    >>> bell[0, 0].round(decimals=3)
    tensor([[0.0180, 0.1350, 0.0180],
            [0.1350, 1.0000, 0.1350],
            [0.0180, 0.1350, 0.0180]])

    Source: this package; the prior is that of benchmarks of saliency, Judd et al.: "Learning to Predict Where Humans Look",
    ICCV 2009.
    """

    info = _INFO

    def explain(self, evidence: Evidence, targets: Targets, options: Options) -> Tensor:
        """The same bell for every image and target."""
        y, x = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in evidence.tokens.shape)
        prior = torch.exp(-2 * (y[:, None] ** 2 + x[None] ** 2)).flatten().to(evidence.output.device)
        return prior.expand(len(targets), len(evidence.output), -1)


@dataclass(frozen=True)
class OracleOptions(Options):
    """The options of :class:`Oracle`.

    Attributes:
        masks: the truth ``(N, H, W)`` at the size of the images, 1 on what is asked for.
    """

    masks: Tensor | None = None


@BASELINES.register
class Oracle(Baseline[OracleOptions]):
    """1 on the mask of what is asked for; outside it, a value below 1e-6 that decreases with distance.

    This orders the pixels outside the mask without changing any sum.

    Args:
        forward_func: a score of images of this package.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> mask = torch.zeros(1, 16, 16)
    >>> mask[0, 4:8, 4:8] = 1
    >>> best = Oracle(score).attribute(torch.rand(1, 3, 16, 16), target=0, masks=mask)
    >>> best.shape, best[0, 0, 5, 5].item(), best[0, 0, 3, 5].item() > best[0, 0, 15, 15].item()
    (torch.Size([1, 1, 16, 16]), 1.0, True)

    Source: this package.
    """

    info = replace(_INFO, name="oracle (mask)", class_discriminative=True, needs=("masks",))
    Options = OracleOptions

    def observe(self, request: Request, options: OracleOptions) -> Evidence:
        """The scores of the inputs, and their pixels."""
        evidence = super().observe(request, options)
        return replace(evidence, tokens=replace(evidence.tokens, shape=(*request.inputs.shape[-2:],)))

    def explain(self, evidence: Evidence, targets: Targets, options: OracleOptions) -> Tensor:
        """The same mask for every target."""
        from scipy.ndimage import distance_transform_edt

        wanted = (len(evidence.output), *evidence.tokens.shape)
        first = evidence.request.first
        masks = None if options.masks is None else options.masks[first : first + wanted[0]].cpu()
        if masks is None or masks.shape != wanted:
            raise ValueError(
                f"masks: expected the truth of the inputs {wanted}, got {None if masks is None else tuple(masks.shape)}"
            )
        maps = []
        for mask in masks == 1:
            away = torch.from_numpy(distance_transform_edt(~mask.numpy())).float()
            maps.append(torch.where(mask, 1.0, 1e-6 * (1 - away / away.max().clamp(min=1))))
        return torch.stack(maps).flatten(1).to(evidence.output.device).expand(len(targets), -1, -1)
