"""RISE: the score of randomly masked images, summed up over the masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor
from torch.nn import functional as F

from ..progress import track
from ..scores import ModelScore, Tokens
from .base import Evidence, Method, MethodInfo, Options, Request, Targets, number


@dataclass(frozen=True)
class RISEOptions(Options):
    """The options of :class:`RISE`.

    Attributes:
        n_masks: number of masks, at least 1 (default 2000).
        cells: number of cells of a mask's grid along each side, at least 1 (default 8).
        probability: probability with which a cell stays visible, above 0 and at most 1 (default 0.5).
        masks_per_eval: number of masks for each forward pass, at least 1. All examples are masked alike, so a pass has N
            times as many images. The result does not depend on it. ``None`` (default) stands for 50, or on a CPU for as
            many as make sixteen images of 224 x 224.
        seed: seed of the masks (default 0); the global generator is left alone.
        subtract_mean: whether masks are weighed with the score above the mean score (default False), since cosines vary
            little and masks a lot.
        tolerance: a map is done when the next hundred masks change it by less than this share of its largest value, at least
            0; ``None`` (default) runs all masks.
        show_progress: whether a progress bar is drawn (default False).
    """

    n_masks: int = number(2000, least=1)
    cells: int = number(8, least=1)
    probability: float = number(0.5, above=0, most=1)
    masks_per_eval: int | None = number(None, least=1)
    seed: int = number(0)
    subtract_mean: bool = False
    tolerance: float | None = number(None, least=0)
    show_progress: bool = False


def smooth_masks(flips: Tensor, shifts: Tensor, size: Sequence[int]) -> Tensor:
    """Upsamples each grid bilinearly to the image plus one cell, then crops it at an offset of its own.

    Beyond its outer centers, a grid is continued by its mirror image.

    Args:
        flips: grids ``(count, cells, cells)``, 1 where a cell stays visible and 0 elsewhere.
        shifts: share of a cell that is cut off above and to the left, from 0 to 1, ``(count, 2)``.
        size: height and width of the image in pixels.

    Returns:
        ``(count, height, width)`` between 0 and 1.

    >>> smooth_masks(torch.ones(1, 4, 4), torch.zeros(1, 2), (8, 12)).shape
    torch.Size([1, 8, 12])
    """
    cells = flips.shape[1]
    places = []
    for side, shift in zip(size, shifts.T):
        cell = math.ceil(side / cells)
        # rand is below 1, but the product with a large cell may round up to it
        start = (shift * cell).long().clamp(max=cell - 1)
        pixels = start[:, None] + torch.arange(side, device=flips.device)
        centers = (pixels.float() + 0.5) * cells / ((cells + 1) * cell) - 0.5  # in cells, from the center of the first
        places.append(2 * centers / max(cells - 1, 1) - 1)
    rows, columns = places
    shape = (-1, len(rows[0]), len(columns[0]))
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(flips[:, None], grid, padding_mode="reflection", align_corners=True)[:, 0]


class RISE(Method[RISEOptions, Evidence], PerturbationAttribution):
    r"""Randomized input sampling: pixels that are visible when the score is high.

    .. math:: H_i = \frac{1}{N p} \sum_j S(x \odot M_j) \, M_{j,i}

    Any forward function of images will do; no layer is looked at. Masked pixels take the value 0, which is the mean colour
    of a normalised image.

    Args:
        forward_func: a score module, or any callable that returns ``(N,)`` or ``(N, T)``.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> RISE(score).attribute(torch.rand(1, 3, 64, 64), target=1, n_masks=20).shape
    torch.Size([1, 1, 64, 64])

    Source: Petsiuk, Das, Saenko: "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.
    """

    info = MethodInfo("RISE", "Petsiuk et al., BMVC 2018", convolutional=True, stochastic=True, layers=0)
    Options = RISEOptions

    @classmethod
    def passes(cls, score: ModelScore, inputs: Tensor, targets: int, options: RISEOptions) -> float:
        """One for each mask."""
        return 1.0 + options.n_masks

    def observe(self, request: Request, options: RISEOptions) -> Evidence:
        """The scores of the whole images."""
        height, width = request.inputs.shape[-2:]
        return Evidence(request, request.forward(), Tokens("patches", (height, width)))

    def explain(self, evidence: Evidence, targets: Targets, options: RISEOptions) -> Tensor:
        """The masks, weighed with the scores, for every pixel."""
        request, inputs = evidence.request, evidence.request.inputs
        # The flips and places of all masks are small; the masks themselves are made for one pass only.
        generator = torch.Generator().manual_seed(options.seed)
        draws = torch.rand(options.n_masks, options.cells**2 + 2, generator=generator, dtype=torch.float32).to(inputs.device)
        flips = (draws[:, 2:] < options.probability).float().unflatten(1, (options.cells, options.cells))
        shifts = draws[:, :2]
        size = max(1, request.at_once(50 * len(inputs)) // len(inputs))
        # Whether a map has settled is asked where a pass ends.
        looks = _SETTLING if options.tolerance is not None else options.n_masks
        passes = _passes(options.n_masks, options.masks_per_eval or size, looks)
        visible = weighted = total = torch.zeros((), dtype=torch.float32, device=inputs.device)
        maps: Tensor | None = None
        running = torch.ones((), dtype=torch.bool, device=inputs.device)
        for part in track(passes, "RISE", disable=not options.show_progress):
            masks = smooth_masks(flips[part], shifts[part], inputs.shape[-2:])
            many = request.repeat(len(masks))
            seen = many.inputs * masks.to(inputs.dtype).repeat(len(inputs), 1, 1)[:, None]
            picked = targets.pick(replace(many, inputs=seen).forward()).float()
            scores = picked.unflatten(1, (len(inputs), len(masks))).permute(1, 2, 0)  # (N, masks, T)
            with torch.autocast(inputs.device.type, enabled=False):
                weighted = weighted + torch.einsum("nmt,mhw->nthw", scores, masks)
            visible, total = visible + masks.sum(dim=0), total + scores.sum(dim=1)
            done = part.stop
            if done < options.n_masks and done % looks:
                continue
            now = weighted - (total / done)[..., None, None] * visible if options.subtract_mean else weighted
            now = now / (done * options.probability)
            if maps is None:
                maps = now
            elif options.tolerance is not None:
                # Each map by itself, so that a batch gives what its items give.
                before, maps = maps, torch.where(running[..., None, None], now, maps)
                moved = (maps - before).abs().amax(dim=(-2, -1))
                running = running & (moved >= options.tolerance * maps.abs().amax(dim=(-2, -1)))
                if not running.any():
                    break
        assert maps is not None
        return maps.flatten(-2).transpose(0, 1)


_SETTLING = 100  # number of masks between two looks at whether a map has settled


def _passes(masks: int, size: int, looks: int) -> list[slice]:
    """The masks of each forward pass, one of which ends at every ``looks``."""
    blocks = [range(start, min(start + looks, masks)) for start in range(0, masks, looks)]
    return [slice(start, min(start + size, block.stop)) for block in blocks for start in block[::size]]
