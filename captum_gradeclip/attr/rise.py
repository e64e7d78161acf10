"""RISE: the score of randomly masked images, summed up over the masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from captum._utils.common import _run_forward
from captum.attr._utils.attribution import PerturbationAttribution
from captum.log import log_usage
from torch import Tensor
from torch.nn import functional as F

from .base import About, check_arguments, check_inputs, check_kind, check_mode, repeat_target, select, select_columns


def random_masks(count: int, size: Sequence[int], cells: int, probability: float, generator: torch.Generator) -> Tensor:
    """Smooth random masks.

    A grid of ``cells x cells`` coin flips is enlarged bilinearly to one cell more than the image, and cut at a random place.

    Args:
        count: how many.
        size: height and width.
        cells: of the grid, along each side.
        probability: of a cell to stay.
        generator: on the CPU.

    Returns:
        ``(count, 1, height, width)`` between 0 and 1.

    >>> masks = random_masks(3, (8, 12), 4, 1.0, torch.Generator().manual_seed(0))
    >>> masks.shape, torch.allclose(masks, torch.ones(()))
    (torch.Size([3, 1, 8, 12]), True)
    """
    height, width = size
    cell = math.ceil(height / cells), math.ceil(width / cells)
    flips = (torch.rand(count, 1, cells, cells, generator=generator) < probability).float()
    enlarged = (cells + 1) * cell[0], (cells + 1) * cell[1]
    large = F.interpolate(flips, size=enlarged, mode="bilinear", align_corners=False)
    tops = torch.randint(0, cell[0], (count,), generator=generator).tolist()
    lefts = torch.randint(0, cell[1], (count,), generator=generator).tolist()
    return torch.stack([one[:, y : y + height, x : x + width] for one, y, x in zip(large, tops, lefts)])


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

    def get_name(self) -> str:
        """The name of the method."""
        return "RISE"

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
        masks_per_eval: int = 50,
        seed: int = 0,
        subtract_mean: bool = False,
        tolerance: float | None = None,
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
                images. The result does not depend on it.
            seed: of the masks; the global generator is left alone.
            subtract_mean: weigh with the score above the mean score, since cosines vary little and masks a lot.
            tolerance: stop when a pass changes the map by less than this share of its largest value.

        Returns:
            ``(N, 1, H, W)``, in float32.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for texts, images that are not finite, or options out of range.
        """
        inputs = self._check(inputs, additional_forward_args, n_masks, cells, probability, masks_per_eval)

        def pick(output: Tensor) -> Tensor:
            scores: Tensor = select(output, repeat_target(target, len(output) // len(inputs)), len(output))
            return scores[:, None]

        options = (n_masks, cells, probability, masks_per_eval, seed, subtract_mean, tolerance)
        return self._sum(inputs, additional_forward_args, pick, *options)

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
        masks_per_eval: int = 50,
        seed: int = 0,
        subtract_mean: bool = False,
        tolerance: float | None = None,
    ) -> Tensor:
        """The maps of many targets from the same forward passes, ``(N, T, H, W)``.

        Args:
            inputs: as in :meth:`attribute`.
            targets: columns of the output ``(N, T)``; ``None`` for all of them.
            additional_forward_args: as in :meth:`attribute`, and so are the options.
        """
        inputs = self._check(inputs, additional_forward_args, n_masks, cells, probability, masks_per_eval)

        def pick(output: Tensor) -> Tensor:
            picked: Tensor = output @ select_columns(output, targets, len(output)).T
            return picked

        options = (n_masks, cells, probability, masks_per_eval, seed, subtract_mean, tolerance)
        return self._sum(inputs, additional_forward_args, pick, *options)

    def _check(
        self, inputs: Any, additional_forward_args: Any, n_masks: int, cells: int, probability: float, masks_per_eval: int
    ) -> Tensor:
        for name, value in (("n_masks", n_masks), ("cells", cells), ("masks_per_eval", masks_per_eval)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if not 0 < probability <= 1:
            raise ValueError(f"probability: expected above 0 and at most 1, got {probability}")
        images = check_inputs(inputs)
        check_kind(self, images)
        check_mode(getattr(self.forward_func, "__self__", self.forward_func))
        check_arguments(additional_forward_args, len(images))
        return images

    def _sum(
        self,
        inputs: Tensor,
        additional_forward_args: Any,
        pick: Callable[[Tensor], Tensor],
        n_masks: int,
        cells: int,
        probability: float,
        masks_per_eval: int,
        seed: int,
        subtract_mean: bool,
        tolerance: float | None,
    ) -> Tensor:
        weighted: Tensor | None = None
        visible = total = torch.zeros(())
        done = 0
        for masks in self._masks(n_masks, inputs, cells, probability, masks_per_eval, seed):
            many = (inputs[:, None] * masks.to(inputs.dtype)).flatten(0, 1)
            arguments = _repeated_arguments(additional_forward_args, len(masks))
            output = _run_forward(self.forward_func, many, None, arguments)
            scores = pick(output).float().unflatten(0, (len(inputs), len(masks)))  # (N, masks, T)
            change = torch.einsum("nmt,mhw->nthw", scores, masks[:, 0])
            visible, total = visible + masks.sum(dim=0), total + scores.sum(dim=1)
            before, weighted = weighted, change if weighted is None else weighted + change
            done += len(masks)
            if tolerance is not None and before is not None:
                moved = (weighted / done - before / (done - len(masks))).abs().amax()
                if moved < tolerance * (weighted / done).abs().amax():
                    break
        assert weighted is not None
        if subtract_mean:
            weighted = weighted - (total / done)[..., None, None] * visible
        maps: Tensor = weighted / (done * probability)
        return maps.contiguous()

    def _masks(
        self, n_masks: int, inputs: Tensor, cells: int, probability: float, masks_per_eval: int, seed: int
    ) -> Iterator[Tensor]:
        """Masks in the order of the seed, whatever the size of a pass: each is drawn on its own."""
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, n_masks, masks_per_eval):
            count = min(masks_per_eval, n_masks - start)
            size = inputs.shape[-2:]
            drawn = [random_masks(1, size, cells, probability, generator) for _ in range(count)]
            yield torch.cat(drawn).to(inputs.device)


def _repeated_arguments(arguments: Any, times: int) -> Any:
    def repeat(argument: Any) -> Any:
        return argument.repeat_interleave(times, dim=0) if isinstance(argument, Tensor) and argument.dim() else argument

    return tuple(map(repeat, arguments)) if isinstance(arguments, tuple) else repeat(arguments)
