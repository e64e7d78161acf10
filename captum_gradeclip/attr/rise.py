"""RISE: the score of randomly masked images, summed up over the masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from captum._utils.common import _run_forward
from captum.attr._utils.attribution import PerturbationAttribution
from captum.log import log_usage
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from ..scores import check_mode
from .base import (
    About,
    check_arguments,
    check_inputs,
    check_kind,
    check_output,
    repeat_arguments,
    repeat_target,
    select,
    select_columns,
    variants_at_once,
)

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class _Options:
    """The choices of one explanation, checked."""

    n_masks: int
    cells: int
    probability: float
    masks_per_eval: int | None
    seed: int
    subtract_mean: bool
    tolerance: float | None
    show_progress: bool

    def __post_init__(self) -> None:
        for name in ("n_masks", "cells", "masks_per_eval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability: expected above 0 and at most 1, got {self.probability}")


def smooth_masks(flips: Tensor, shifts: Tensor, size: Sequence[int]) -> Tensor:
    """Small grids as smooth masks: each enlarged bilinearly to one cell more than the image, and cut at its own place.

    Beyond its outer centres, a grid is continued by its mirror image.

    Args:
        flips: ``(count, cells, cells)``, 1 where a cell stays visible.
        shifts: ``(count, 2)`` from 0 to 1, the share of a cell that is cut off above and to the left.
        size: height and width of the image.

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
        centres = (pixels + 0.5) * cells / ((cells + 1) * cell) - 0.5  # in cells, from the centre of the first
        places.append(2 * centres / max(cells - 1, 1) - 1)
    rows, columns = places
    shape = (-1, len(rows[0]), len(columns[0]))
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(flips[:, None], grid, padding_mode="reflection", align_corners=True)[:, 0]


class RISE(PerturbationAttribution):  # type: ignore[misc]  # captum is not typed
    r"""Randomised input sampling: pixels that are visible when the score is high.

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

    about: ClassVar[About] = About(
        name="RISE",
        image=True,
        text=False,
        resnet=True,
        needs_text=True,
        stochastic=True,
        gradient=False,
        layers=0,
        text_layers=0,
        paper="Petsiuk et al., BMVC 2018",
    )
    forward_func: Callable[..., Any]

    @classmethod
    def of(cls, score: Any) -> Self:
        """The method on a score module; it looks at no layers."""
        return cls(score)

    def get_name(self) -> str:
        """The name of the method."""
        return self.about.name

    @log_usage()  # type: ignore[untyped-decorator]  # outermost: Captum reaches through it by __wrapped__
    @torch.no_grad()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        n_masks: int = 2000,
        cells: int = 8,
        probability: float = 0.5,
        masks_per_eval: int | None = None,
        seed: int = 0,
        subtract_mean: bool = False,
        tolerance: float | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """One map per example.

        Args:
            inputs: images ``(N, 3, H, W)``.
            target: which score to explain, any of Captum's kinds.
            additional_forward_args: passed to ``forward_func``.
            n_masks: how many masks.
            cells: of the masks' grid, along each side.
            probability: of a cell to stay visible.
            masks_per_eval: masks for each forward pass; all examples are masked alike, so a pass has ``N`` times as many
                images. The result does not depend on it; by default, 50, but on a CPU as many as make sixteen images of
                224 x 224.
            seed: of the masks; the global generator is left alone.
            subtract_mean: weigh with the score above the mean score, since cosines vary little and masks a lot.
            tolerance: a map is done when a hundred masks more change it by less than this share of its largest value.
            show_progress: draws a bar.

        Returns:
            ``(N, 1, H, W)``, in float32.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, images that are not finite, or options out of range.
        """
        options = _Options(n_masks, cells, probability, masks_per_eval, seed, subtract_mean, tolerance, show_progress)
        inputs = self._check(inputs, additional_forward_args)

        def pick(output: Tensor, count: int) -> Tensor:
            return select(output, repeat_target(target, count // len(inputs)), count)[:, None]

        return self._sum(inputs, additional_forward_args, pick, options)

    @torch.no_grad()
    def attribute_targets(
        self,
        inputs: Tensor | tuple[Tensor],
        targets: Sequence[int] | Tensor | None = None,
        additional_forward_args: Any = None,
        *,
        n_masks: int = 2000,
        cells: int = 8,
        probability: float = 0.5,
        masks_per_eval: int | None = None,
        seed: int = 0,
        subtract_mean: bool = False,
        tolerance: float | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """The maps of many targets from the same forward passes, ``(N, T, H, W)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`, and so are the options.
        """
        options = _Options(n_masks, cells, probability, masks_per_eval, seed, subtract_mean, tolerance, show_progress)
        inputs = self._check(inputs, additional_forward_args)

        def pick(output: Tensor, count: int) -> Tensor:
            return output[:, select_columns(output, targets, count)]

        return self._sum(inputs, additional_forward_args, pick, options)

    def _check(self, inputs: Any, additional_forward_args: Any) -> Tensor:
        images = check_inputs(inputs)
        check_kind(self, images)
        check_mode(getattr(self.forward_func, "__self__", self.forward_func))
        check_arguments(additional_forward_args, len(images))
        return images

    def _sum(
        self, inputs: Tensor, additional_forward_args: Any, pick: Callable[[Tensor, int], Tensor], options: _Options
    ) -> Tensor:
        # The flips and places of all masks are small; the masks themselves are made for one pass only.
        generator = torch.Generator().manual_seed(options.seed)
        draws = torch.rand(options.n_masks, options.cells**2 + 2, generator=generator).to(inputs.device)
        flips = (draws[:, 2:] < options.probability).float().unflatten(1, (options.cells, options.cells))
        shifts = draws[:, :2]
        size = max(1, variants_at_once(inputs, 50 * len(inputs)) // len(inputs))
        # Whether a map has settled is asked where a pass ends.
        looks = _SETTLING if options.tolerance is not None else options.n_masks
        passes = _passes(options.n_masks, options.masks_per_eval or size, looks)
        visible = weighted = total = torch.zeros((), device=inputs.device)
        maps: Tensor | None = None
        running = torch.ones((), dtype=torch.bool, device=inputs.device)
        for part in track(passes, "RISE", transient=True, disable=not options.show_progress):
            masks = smooth_masks(flips[part], shifts[part], inputs.shape[-2:])
            many = (inputs[:, None] * masks[:, None].to(inputs.dtype)).flatten(0, 1)
            arguments = repeat_arguments(additional_forward_args, len(masks))
            output = check_output(_run_forward(self.forward_func, many, None, arguments))
            scores = pick(output, len(many)).float().unflatten(0, (len(inputs), len(masks)))  # (N, masks, T)
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
        return maps.contiguous()


_SETTLING = 100  # masks between two looks at whether a map has settled


def _passes(masks: int, size: int, looks: int) -> list[slice]:
    """The masks of each forward pass, one of which ends at every ``looks``."""
    blocks = [range(start, min(start + looks, masks)) for start in range(0, masks, looks)]
    return [slice(start, min(start + size, block.stop)) for block in blocks for start in block[::size]]
