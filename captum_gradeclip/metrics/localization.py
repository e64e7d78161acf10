"""Does a map lie on the object? Maps against masks, as in the papers' localisation tables.

In all of these, maps ``(N, h, w)`` or ``(N, 1, h, w)`` are enlarged bilinearly to the masks ``(N, H, W)``, which hold 1 or
True on the object, 0 elsewhere, and -1 on pixels that count for nothing. An empty mask is never a hit and has an energy, an
accuracy and an overlap of 0.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision

from ..maps import normalize

Threshold = float | Literal["mean", "otsu"]
Accuracy = Literal["all", "foreground"]
Overlap = Literal["foreground", "mean"]
Pool = Literal["image", "dataset"]
Classes = Literal["both", "foreground"]


def pointing_game(maps: Tensor, masks: Tensor, tolerance: float = 0.0) -> Tensor:
    """Whether the highest pixel of each map lies on the object.

    Of several highest pixels the first in raster order counts, so a constant map points at the top left corner.

    Args:
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``.
        masks: ``(N, H, W)``.
        tolerance: how far beside the object still counts, in pixels of the mask; the classical protocol allows 15.

    Returns:
        ``(N,)``, boolean.

    >>> pointing_game(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([[[0, 1]], [[0, 1]]]))
    tensor([ True, False])
    """
    maps, masks = _aligned(maps, masks)
    highest = maps.masked_fill(masks < 0, float("-inf")).flatten(1).argmax(dim=1)
    rows, columns = (torch.arange(side, device=maps.device) for side in masks.shape[1:])
    y, x = highest // masks.shape[2], highest % masks.shape[2]
    distance = (rows[None] - y[:, None]).square()[:, :, None] + (columns[None] - x[:, None]).square()[:, None]
    return ((masks == 1) & (distance <= tolerance**2)).flatten(1).any(dim=1)


def energy_pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's sum that lies on the object; maps are stretched to [0, 1] before, since signed ones have no sum.

    Args:
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``.
        masks: ``(N, H, W)``.

    Returns:
        ``(N,)`` from 0 to 1; 0 for a constant map.

    >>> energy_pointing_game(torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[[0, 0, 1]]]))
    tensor([0.7500])
    """
    heat, masks = _stretched(maps, masks)
    heat = heat * (masks >= 0)
    total = heat.sum(dim=(1, 2))
    inside = (heat * (masks == 1)).sum(dim=(1, 2))
    return torch.where(total > 0, inside / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def binarised(maps: Tensor, threshold: Threshold = "mean") -> Tensor:
    """Maps of [0, 1] as foreground and background.

    Args:
        maps: ``(N, H, W)``.
        threshold: above which a pixel is foreground: a number, the map's ``"mean"``, or the one of ``"otsu"``, which parts a
            histogram of 256 bins with the largest variance between the parts.

    Returns:
        ``(N, H, W)``, boolean.

    >>> binarised(torch.tensor([[[0.0, 0.2, 1.0]]]), "otsu")
    tensor([[[False, False,  True]]])
    """
    if threshold == "mean":
        return maps > maps.mean(dim=(1, 2), keepdim=True)
    if threshold == "otsu":
        return maps > torch.stack([_otsu(one) for one in maps])[:, None, None]
    if isinstance(threshold, str):
        raise ValueError(f"threshold: expected a number, 'mean' or 'otsu', got {threshold!r}")
    return maps > threshold


def pixel_counts(maps: Tensor, masks: Tensor, threshold: Threshold = "mean") -> dict[str, Tensor]:
    """How many pixels of each example are rightly and wrongly foreground and background.

    Returns:
        ``(N,)`` each: ``true_foreground``, ``false_foreground``, ``true_background``, ``false_background``.

    >>> {name: int(n) for name, n in pixel_counts(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0, 1]]])).items()}
    {'true_foreground': 1, 'false_foreground': 0, 'true_background': 1, 'false_background': 0}
    """
    heat, masks = _stretched(maps, masks)
    found = binarised(heat, threshold)
    parts = {
        "true_foreground": found & (masks == 1),
        "false_foreground": found & (masks == 0),
        "true_background": ~found & (masks == 0),
        "false_background": ~found & (masks == 1),
    }
    return {name: part.sum(dim=(1, 2)) for name, part in parts.items()}


def pixel_accuracy(maps: Tensor, masks: Tensor, threshold: Threshold = "mean", accuracy: Accuracy = "all") -> Tensor:
    """Share of the pixels that are rightly told apart, of ``"all"`` or of the ``"foreground"`` only (its recall), ``(N,)``.

    >>> pixel_accuracy(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0, 0, 1]]]))
    tensor([0.6667])
    """
    _one_of("accuracy", accuracy, Accuracy)
    right, labelled = _accuracy(pixel_counts(maps, masks, threshold), accuracy)
    return _ratio(right, labelled)


def mask_iou(maps: Tensor, masks: Tensor, threshold: Threshold = 0.5, overlap: Overlap = "foreground") -> Tensor:
    """Intersection over union of the ``"foreground"``, or the ``"mean"`` of that and the background's, ``(N,)``.

    >>> mask_iou(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0, 0, 1]]]))
    tensor([0.5000])
    """
    _one_of("overlap", overlap, Overlap)
    foreground, background = _overlaps(pixel_counts(maps, masks, threshold))
    return _ratio(*foreground) if overlap == "foreground" else (_ratio(*foreground) + _ratio(*background)) / 2


def heatmap_average_precision(maps: Tensor, masks: Tensor, classes: Classes = "both") -> Tensor:
    """Area under the precision-recall curve of the pixels of each map.

    Args:
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``, stretched to [0, 1].
        masks: ``(N, H, W)``.
        classes: ``"both"`` counts every pixel twice, by its heat as foreground and by one minus it as background, as the
            reference protocol of segmentation tests does; ``"foreground"`` once.

    Returns:
        ``(N,)``; 0 for an empty mask.

    >>> heatmap_average_precision(torch.tensor([[[0.0, 1.0, 0.6]]]), torch.tensor([[[0, 1, 1]]]))
    tensor([1.])
    """
    _one_of("classes", classes, Classes)
    heat, masks = _stretched(maps, masks)
    results = []
    for one, mask in zip(heat, masks):
        kept, truth = one[mask >= 0], mask[mask >= 0]
        if not (truth == 1).any():
            results.append(kept.new_zeros(()))
            continue
        if classes == "both":
            kept, truth = torch.cat([1 - kept, kept]), torch.cat([1 - truth, truth])
        results.append(binary_average_precision(kept, truth))
    return torch.stack(results)


class _Mean(Metric):
    """The mean over examples of what a function says of each."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    examples: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def _add(self, values: Tensor) -> None:
        self.total += values.double().sum()
        self.examples += len(values)

    def compute(self) -> Tensor:
        """The mean, or NaN without any example."""
        return (self.total / self.examples).float()


class PointingGame(_Mean):
    """Share of the maps whose highest pixel lies on the object, see :func:`pointing_game`.

    Args:
        tolerance: in pixels of the mask.
        settings: of :class:`torchmetrics.Metric`.

    >>> metric = PointingGame()
    >>> metric.update(torch.rand(2, 1, 7, 7), torch.ones(2, 14, 14, dtype=torch.bool))
    >>> metric.compute()
    tensor(1.)

    Source: Zhang et al.: "Top-down Neural Attention by Excitation Backprop", ECCV 2016; table IV of arXiv 2502.18816.
    """

    def __init__(self, tolerance: float = 0.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.tolerance = tolerance

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``."""
        self._add(pointing_game(maps, masks, self.tolerance))


class EnergyPointingGame(_Mean):
    """Mean share of a map's energy that lies on the object, see :func:`energy_pointing_game`.

    >>> metric = EnergyPointingGame()
    >>> metric.update(torch.rand(2, 1, 7, 7), torch.ones(2, 14, 14, dtype=torch.bool))
    >>> metric.compute()
    tensor(1.)

    Source: Wang et al.: "Score-CAM", CVPR Workshops 2020; table IV of arXiv 2502.18816.
    """

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``."""
        self._add(energy_pointing_game(maps, masks))


class HeatmapAveragePrecision(_Mean):
    """Mean average precision of the pixels, see :func:`heatmap_average_precision`.

    Args:
        classes: ``"both"`` or ``"foreground"``; the two are different figures.
        settings: of :class:`torchmetrics.Metric`.

    >>> metric = HeatmapAveragePrecision("foreground")
    >>> metric.update(torch.tensor([[[0.0, 1.0, 0.5]]]), torch.tensor([[[0, 1, 1]]]))
    >>> metric.compute()
    tensor(1.)

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization".
    """

    def __init__(self, classes: Classes = "both", **settings: Any) -> None:
        super().__init__(**settings)
        self.classes = _one_of("classes", classes, Classes)

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``."""
        self._add(heatmap_average_precision(maps, masks, self.classes))


class _Pooled(Metric):
    """A ratio of pixel counts, over all pixels of the data set, or as a mean over the images."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    above: Tensor
    below: Tensor
    ratios: Tensor
    examples: Tensor

    def __init__(self, parts: int, pool: Pool, threshold: Threshold, **settings: Any) -> None:
        super().__init__(**settings)
        self.pool, self.threshold = _one_of("pool", pool, Pool), threshold
        for name in ("above", "below"):
            self.add_state(name, torch.zeros(parts, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("ratios", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def _add(self, *parts: tuple[Tensor, Tensor]) -> None:
        self.above += torch.stack([above.sum() for above, _ in parts])
        self.below += torch.stack([below.sum() for _, below in parts])
        self.ratios += torch.stack([_ratio(*part) for part in parts]).double().mean(dim=0).sum()
        self.examples += len(parts[0][0])

    def compute(self) -> Tensor:
        """The ratio, or NaN without any example."""
        if self.pool == "image" or not self.examples:
            return (self.ratios / self.examples).float()
        return _ratio(self.above, self.below).mean()


class PixelAccuracy(_Pooled):
    """Share of rightly labelled pixels.

    Args:
        threshold: above which a pixel is foreground, see :func:`binarised`.
        accuracy: of ``"all"`` pixels, as the reference protocol has it, or of the ``"foreground"`` (its recall), the reading
            under which the figures of table IV of arXiv 2502.18816 are possible. The two are different figures.
        pool: ``"dataset"`` counts all pixels alike, ``"image"`` all images.
        settings: of :class:`torchmetrics.Metric`.

    >>> metric = PixelAccuracy()
    >>> metric.update(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0, 1]]]))
    >>> metric.compute()
    tensor(1.)
    """

    def __init__(
        self, threshold: Threshold = "mean", accuracy: Accuracy = "all", pool: Pool = "dataset", **settings: Any
    ) -> None:
        super().__init__(1, pool, threshold, **settings)
        self.accuracy = _one_of("accuracy", accuracy, Accuracy)

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``."""
        self._add(_accuracy(pixel_counts(maps, masks, self.threshold), self.accuracy))


class MaskIoU(_Pooled):
    """Overlap of the thresholded map with the mask.

    Args:
        threshold: above which a pixel is foreground, see :func:`binarised`.
        overlap: of the ``"foreground"``, the reading under which table IV of arXiv 2502.18816 is possible, or the ``"mean"``
            of foreground and background, as the reference protocol has it. The two are different figures.
        pool: ``"image"`` averages over images, ``"dataset"`` adds intersections and unions up.
        settings: of :class:`torchmetrics.Metric`.

    >>> metric = MaskIoU()
    >>> metric.update(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0, 0, 1]]]))
    >>> metric.compute()
    tensor(0.5000)
    """

    def __init__(
        self, threshold: Threshold = 0.5, overlap: Overlap = "foreground", pool: Pool = "image", **settings: Any
    ) -> None:
        super().__init__(1 if overlap == "foreground" else 2, pool, threshold, **settings)
        self.overlap = _one_of("overlap", overlap, Overlap)

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``."""
        foreground, background = _overlaps(pixel_counts(maps, masks, self.threshold))
        self._add(*([foreground] if self.overlap == "foreground" else [foreground, background]))


def _aligned(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``(N, H, W)`` in the size of their masks ``(N, H, W)``, which become integers.

    Raises:
        ValueError: for other shapes, other values in the masks, or maps that are not finite.
    """
    maps = maps[:, 0] if maps.dim() == 4 and maps.shape[1] == 1 else maps
    if maps.dim() != 3 or masks.dim() != 3 or len(maps) != len(masks):
        raise ValueError(
            "maps, masks: expected maps (N, h, w) or (N, 1, h, w) and masks (N, H, W) of as many examples, got"
            f" {tuple(maps.shape)} and {tuple(masks.shape)}"
        )
    if not torch.isfinite(maps).all():
        raise ValueError("maps: they hold NaN or infinite values")
    masks = masks.to(maps.device, torch.long)
    if len(masks) and not (int(masks.min()) >= -1 and int(masks.max()) <= 1):
        raise ValueError("masks: expected 1 on the object, 0 elsewhere, and -1 where nothing counts")
    maps = maps.float()
    if maps.shape[1:] != masks.shape[1:]:
        maps = F.interpolate(maps[:, None], size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return maps, masks


def _stretched(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    maps, masks = _aligned(maps, masks)
    return normalize(maps), masks


def _otsu(heat: Tensor) -> Tensor:
    counts = torch.histc(heat, bins=256, min=0.0, max=1.0)
    centres = (torch.arange(256, device=heat.device) + 0.5) / 256
    below = counts.cumsum(0)
    above = counts.sum() - below
    mass = (counts * centres).cumsum(0)
    means = mass / below.clamp(min=1), (mass[-1] - mass) / above.clamp(min=1)
    best = (below * above * (means[0] - means[1]).square()).argmax()
    return (best + 1) / 256  # the upper edge of the last bin that is background


def _accuracy(counts: dict[str, Tensor], accuracy: Accuracy) -> tuple[Tensor, Tensor]:
    foreground = counts["true_foreground"], counts["true_foreground"] + counts["false_background"]
    if accuracy == "foreground":
        return foreground
    return foreground[0] + counts["true_background"], sum(counts.values(), torch.zeros_like(foreground[0]))


def _overlaps(counts: dict[str, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    wrong = counts["false_foreground"] + counts["false_background"]
    return (
        (counts["true_foreground"], counts["true_foreground"] + wrong),
        (counts["true_background"], counts["true_background"] + wrong),
    )


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """0 where there is nothing to divide by."""
    return torch.where(below > 0, above / below.clamp(min=1), 0.0)


def _one_of(name: str, value: Any, known: Any) -> Any:
    if value not in get_args(known):
        raise ValueError(f"{name}: expected one of {get_args(known)}, got {value!r}")
    return value
