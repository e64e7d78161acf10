"""Localization: does a map lie on the object? Maps are compared with masks, as in the tables of the papers.

In all of these functions, maps ``(N, h, w)`` or ``(N, 1, h, w)`` are enlarged bilinearly to the size of the masks
``(N, H, W)``. Masks hold 1 or True on the object, 0 elsewhere, and -1 on pixels that are not counted. An empty mask is never
a hit, and its energy, its foreground accuracy and its overlap are 0.

Masks may be of any real type, but what they hold counts as it is. Fractions, as resizing or antialiasing makes them, say how
much of a pixel lies on the object. The energy on the object takes them as weights. Whether a pixel was hit or labelled
rightly is not defined for a part of it, so all other functions refuse them: the user chooses where the object ends, by
``masks > 0.5`` for example. Maps are compared in their own precision, float64 included.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_average_precision

from ..arguments import check_number, check_tensor, one_of
from ..maps import stretched
from ..quoting import quoted
from .examples import check_maps
from .precision import lossless
from .ungrouped import Ungrouped

Threshold = float | Literal["mean", "otsu"]
Accuracy = Literal["all", "foreground"]
Overlap = Literal["foreground", "mean"]
Pool = Literal["image", "dataset"]
Classes = Literal["both", "foreground"]


def pointing_game(maps: Tensor, masks: Tensor, tolerance: float = 0.0) -> Tensor:
    """Whether the highest pixel of each map lies on the object.

    Of several highest pixels the first in raster order counts, so a constant map points at the top left corner.

    Args:
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite.
        masks: ``(N, H, W)``: 1 on the object, 0 elsewhere, -1 where nothing counts.
        tolerance: distance from the object, in pixels of the mask, up to which the highest pixel still hits it (default 0;
            the classical protocol allows 15).

    Returns:
        ``(N,)``, boolean.

    Raises:
        TypeError, ValueError: if maps or masks have another shape or other values.

    >>> pointing_game(torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]), torch.tensor([[[0, 1]], [[0, 1]]]))
    tensor([ True, False])

    Source: Zhang et al.: "Top-down Neural Attention by Excitation Backprop", ECCV 2016; table IV of arXiv 2502.18816.
    """
    check_number("tolerance", tolerance, least=0)
    maps, masks = _aligned(maps, masks)
    highest = maps.masked_fill(masks < 0, float("-inf")).flatten(1).argmax(dim=1)
    rows, columns = (torch.arange(side, device=maps.device) for side in masks.shape[1:])
    y, x = highest // masks.shape[2], highest % masks.shape[2]
    distance = (rows[None] - y[:, None]).square()[:, :, None] + (columns[None] - x[:, None]).square()[:, None]
    # The squares are integers, which float32 could not tell apart in a large picture.
    return ((masks == 1) & (distance <= int(min(tolerance * tolerance, 2**62)))).flatten(1).any(dim=1)


def energy_pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's sum that lies on the object.

    The maps are stretched to [0, 1] first, since the sum of a signed map says nothing.

    Args:
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite.
        masks: ``(N, H, W)``: 1 on the object, 0 elsewhere, -1 where nothing counts; a fraction between 0 and 1 is the share
            of the pixel that lies on the object.

    Returns:
        ``(N,)``, 0 to 1; 0 for a constant map. It is float32, or float64 where maps or fractions are.

    Raises:
        TypeError, ValueError: if maps or masks have another shape or other values.

    >>> energy_pointing_game(torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[[0, 0, 1]]]))
    tensor([0.7500])
    >>> energy_pointing_game(torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[[0.0, 0.0, 0.5]]]))
    tensor([0.3750])

    Source: Wang et al.: "Score-CAM", CVPR Workshops 2020; table IV of arXiv 2502.18816.
    """
    values, masks = _normalized(maps, masks, fractions=True)
    values = values * (masks >= 0)
    total = values.sum(dim=(1, 2))
    inside = (values * masks).sum(dim=(1, 2))
    return torch.where(total > 0, inside / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def binarize(maps: Tensor, threshold: Threshold = "mean") -> Tensor:
    """Divides maps into foreground and background by a threshold.

    Args:
        maps: attributions ``(N, H, W)``, 0 to 1.
        threshold: the value above which a pixel is foreground: a number; ``"mean"`` (the default), the mean of the map; or
            ``"otsu"``, Otsu's threshold, which divides a histogram of 256 bins so that the variance between its two parts is
            largest.

    Returns:
        ``(N, H, W)``, boolean: True on the foreground.

    Raises:
        ValueError: if the threshold is none of these.

    >>> binarize(torch.tensor([[[0.0, 0.2, 1.0]]]), "otsu")
    tensor([[[False, False,  True]]])
    """
    check_threshold(threshold)
    if threshold == "mean":
        return maps > maps.mean(dim=(1, 2), keepdim=True)
    if threshold == "otsu":
        return maps > torch.stack([_otsu(one) for one in maps])[:, None, None]
    return maps > threshold


def check_threshold(threshold: Threshold) -> Threshold:
    """The threshold itself.

    Raises:
        ValueError: for anything but a finite number, ``"mean"`` or ``"otsu"``.
    """
    number = isinstance(threshold, Real) and not isinstance(threshold, bool) and math.isfinite(threshold)
    if not (number or (isinstance(threshold, str) and threshold in ("mean", "otsu"))):
        raise ValueError(f"threshold: expected a finite number, 'mean' or 'otsu', got {quoted(threshold)}")
    return threshold


binarised = binarize  # deprecated spelling, kept for one version


def pixel_counts(maps: Tensor, masks: Tensor, threshold: Threshold = "mean") -> dict[str, Tensor]:
    """Counts the pixels of each example that a thresholded map labels rightly and wrongly.

    Args:
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite. They are stretched to [0, 1] first.
        masks: ``(N, H, W)``: 1 on the object, 0 elsewhere, -1 where nothing counts.
        threshold: a number, ``"mean"`` or ``"otsu"``, see :func:`binarize` (default ``"mean"``).

    Returns:
        By the names ``true_foreground``, ``false_foreground``, ``true_background`` and ``false_background``, the numbers of
        pixels ``(N,)``, integer.

    Raises:
        ValueError: if maps, masks or threshold are not as above.

    >>> {name: int(n) for name, n in pixel_counts(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0, 1]]])).items()}
    {'true_foreground': 1, 'false_foreground': 0, 'true_background': 1, 'false_background': 0}
    """
    values, masks = _normalized(maps, masks)
    found = binarize(values, threshold)
    parts = {
        "true_foreground": found & (masks == 1),
        "false_foreground": found & (masks == 0),
        "true_background": ~found & (masks == 0),
        "false_background": ~found & (masks == 1),
    }
    return {name: part.sum(dim=(1, 2)) for name, part in parts.items()}


def pixel_accuracy(maps: Tensor, masks: Tensor, threshold: Threshold = "mean", accuracy: Accuracy = "all") -> Tensor:
    """Share of the pixels that a thresholded map labels rightly.

    Args:
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite. They are stretched to [0, 1] first.
        masks: ``(N, H, W)``: 1 on the object, 0 elsewhere, -1 where nothing counts.
        threshold: a number, ``"mean"`` or ``"otsu"``, see :func:`binarize` (default ``"mean"``).
        accuracy: ``"all"`` (the default) for the share of all pixels; ``"foreground"`` for the share of those on the object,
            which is the recall of the foreground.

    Returns:
        ``(N,)``, 0 to 1.

    Raises:
        ValueError: if an argument is not as above.

    >>> pixel_accuracy(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0, 0, 1]]]))
    tensor([0.6667])

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization", CVPR
    2021; table IV of arXiv 2502.18816.
    """
    one_of("accuracy", accuracy, Accuracy)
    right, labelled = _accuracy(pixel_counts(maps, masks, threshold), accuracy)
    return _ratio(right, labelled)


def mask_iou(maps: Tensor, masks: Tensor, threshold: Threshold = 0.5, overlap: Overlap = "foreground") -> Tensor:
    """Intersection over union of a thresholded map and its mask.

    Args:
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite. They are stretched to [0, 1] first.
        masks: ``(N, H, W)``: 1 on the object, 0 elsewhere, -1 where nothing counts.
        threshold: a number, ``"mean"`` or ``"otsu"``, see :func:`binarize` (default 0.5).
        overlap: ``"foreground"`` (the default) for the overlap of the foreground; ``"mean"`` for the mean of that and the
            overlap of the background.

    Returns:
        ``(N,)``, 0 to 1.

    Raises:
        ValueError: if an argument is not as above.

    >>> mask_iou(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0, 0, 1]]]))
    tensor([0.5000])

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization", CVPR
    2021; table IV of arXiv 2502.18816.
    """
    one_of("overlap", overlap, Overlap)
    foreground, background = _overlaps(pixel_counts(maps, masks, threshold))
    return _ratio(*foreground) if overlap == "foreground" else (_ratio(*foreground) + _ratio(*background)) / 2


def heatmap_average_precision(maps: Tensor, masks: Tensor, classes: Classes = "both") -> Tensor:
    """Area under the precision-recall curve of the pixels of each map.

    Args:
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite. They are stretched to [0, 1] first.
        masks: ``(N, H, W)``: 1 on the object, 0 elsewhere, -1 where nothing counts.
        classes: ``"foreground"`` counts every pixel once, with its value as the score of the foreground; ``"both"`` (the
            default) counts it twice, the second time with one minus its value as the score of the background, as the
            reference protocol of segmentation tests does.

    Returns:
        ``(N,)``, 0 to 1; 0 for an empty mask.

    Raises:
        ValueError: if an argument is not as above.

    >>> heatmap_average_precision(torch.tensor([[[0.0, 1.0, 0.6]]]), torch.tensor([[[0, 1, 1]]]))
    tensor([1.])

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization", CVPR
    2021; table IV of arXiv 2502.18816.
    """
    one_of("classes", classes, Classes)
    values, masks = _normalized(maps, masks)
    results = []
    for one, mask in zip(values, masks):
        kept, truth = one[mask >= 0], mask[mask >= 0]
        if not (truth == 1).any():
            results.append(kept.new_zeros(()))
            continue
        if classes == "both":
            kept, truth = torch.cat([1 - kept, kept]), torch.cat([1 - truth, truth])
        results.append(binary_average_precision(kept, truth))
    return torch.stack(results)


class _Mean(Ungrouped):
    """The mean of one value per example."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    examples: Tensor

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("examples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def _add(self, values: Tensor) -> None:
        self.total += values.double().sum()
        self.examples += len(values)

    def compute(self) -> Tensor:
        """The mean over all examples, a scalar, or NaN before the first."""
        return (self.total / self.examples).float()


class PointingGame(_Mean):
    """Share of the maps whose highest pixel lies on the object, see :func:`pointing_game`.

    Higher is better: 1 if every map hits its object, 0 if none does.

    Args:
        tolerance: distance from the object, in pixels of the mask, up to which the highest pixel still hits it (default 0).
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    >>> metric = PointingGame()
    >>> metric.update(torch.rand(2, 1, 7, 7), torch.ones(2, 14, 14, dtype=torch.bool))
    >>> metric.compute()
    tensor(1.)

    Source: Zhang et al.: "Top-down Neural Attention by Excitation Backprop", ECCV 2016; table IV of arXiv 2502.18816.
    """

    def __init__(self, tolerance: float = 0.0, **settings: object) -> None:
        super().__init__(**settings)
        check_number("tolerance", tolerance, least=0)
        self.tolerance = tolerance

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``; see the head of this module."""
        self._add(pointing_game(maps, masks, self.tolerance))


class EnergyPointingGame(_Mean):
    """Mean share of a map's sum that lies on the object, see :func:`energy_pointing_game`.

    Higher is better: 1 if every map lies on its object alone, 0 if none touches it.

    Args:
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    >>> metric = EnergyPointingGame()
    >>> metric.update(torch.rand(2, 1, 7, 7), torch.ones(2, 14, 14, dtype=torch.bool))
    >>> metric.compute()
    tensor(1.)

    Source: Wang et al.: "Score-CAM", CVPR Workshops 2020; table IV of arXiv 2502.18816.
    """

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``; see the head of this module."""
        self._add(energy_pointing_game(maps, masks))


class HeatmapAveragePrecision(_Mean):
    """Mean average precision of the pixels of a map, see :func:`heatmap_average_precision`.

    Higher is better: 1 if every map is higher on its object than anywhere else; the lower bound is 0. The figures of the two
    readings, see ``classes``, cannot be compared with each other.

    Args:
        classes: ``"both"`` (the default) or ``"foreground"``.
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: if ``classes`` is unknown.

    >>> metric = HeatmapAveragePrecision("foreground")
    >>> metric.update(torch.tensor([[[0.0, 1.0, 0.5]]]), torch.tensor([[[0, 1, 1]]]))
    >>> metric.compute()
    tensor(1.)

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization", CVPR
    2021; table IV of arXiv 2502.18816.
    """

    def __init__(self, classes: Classes = "both", **settings: object) -> None:
        super().__init__(**settings)
        self.classes = one_of("classes", classes, Classes)

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``; see the head of this module."""
        self._add(heatmap_average_precision(maps, masks, self.classes))


class _Pooled(Ungrouped):
    """A ratio of pixel counts, either of the sums over the data set or as a mean of one ratio per image."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    above: Tensor
    below: Tensor
    ratios: Tensor
    examples: Tensor

    def __init__(self, parts: int, pool: Pool, threshold: Threshold, **settings: object) -> None:
        super().__init__(**settings)
        self.pool, self.threshold = one_of("pool", pool, Pool), check_threshold(threshold)
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
        """The ratio over all examples, a scalar, or NaN before the first."""
        if self.pool == "image" or not self.examples:
            return (self.ratios / self.examples).float()
        return _ratio(self.above, self.below).mean()


class PixelAccuracy(_Pooled):
    """Share of the pixels that a thresholded map labels rightly, see :func:`pixel_accuracy`.

    Higher is better: 1 if every pixel is right, 0 if none is.

    Args:
        threshold: the value above which a pixel is foreground: a number, ``"mean"`` or ``"otsu"``, see :func:`binarize`
            (default ``"mean"``).
        accuracy: ``"all"`` (the default) for the share of all pixels, as in the reference protocol; ``"foreground"`` for the
            share of those on the object, the only reading under which the numbers of table IV of arXiv 2502.18816 are
            possible. The two figures cannot be compared with each other.
        pool: ``"dataset"`` (the default) gives every pixel the same weight, ``"image"`` every image.
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: if ``threshold``, ``accuracy`` or ``pool`` is unknown.

    >>> metric = PixelAccuracy()
    >>> metric.update(torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[0, 1]]]))
    >>> metric.compute()
    tensor(1.)

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization", CVPR
    2021; table IV of arXiv 2502.18816.
    """

    def __init__(
        self, threshold: Threshold = "mean", accuracy: Accuracy = "all", pool: Pool = "dataset", **settings: object
    ) -> None:
        super().__init__(1, pool, threshold, **settings)
        self.accuracy = one_of("accuracy", accuracy, Accuracy)

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``; see the head of this module."""
        self._add(_accuracy(pixel_counts(maps, masks, self.threshold), self.accuracy))


class MaskIoU(_Pooled):
    """Intersection over union of a thresholded map and its mask, see :func:`mask_iou`.

    Higher is better: 1 if every map covers exactly its object, 0 if none touches it.

    Args:
        threshold: the value above which a pixel is foreground: a number, ``"mean"`` or ``"otsu"``, see :func:`binarize`
            (default 0.5).
        overlap: ``"foreground"`` (the default) for the overlap of the foreground, the only reading under which the numbers
            of table IV of arXiv 2502.18816 are possible; ``"mean"`` for the mean of foreground and background, as in the
            reference protocol. The two figures cannot be compared with each other.
        pool: ``"image"`` (the default) takes the mean of one ratio per image, ``"dataset"`` divides the sum of all
            intersections by the sum of all unions.
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: if ``threshold``, ``overlap`` or ``pool`` is unknown.

    >>> metric = MaskIoU()
    >>> metric.update(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[0, 0, 1]]]))
    >>> metric.compute()
    tensor(0.5000)

    Source: the segmentation test of Chefer, Gur, Wolf: "Transformer Interpretability Beyond Attention Visualization", CVPR
    2021; table IV of arXiv 2502.18816.
    """

    def __init__(
        self, threshold: Threshold = 0.5, overlap: Overlap = "foreground", pool: Pool = "image", **settings: object
    ) -> None:
        one_of("overlap", overlap, Overlap)
        super().__init__(1 if overlap == "foreground" else 2, pool, threshold, **settings)
        self.overlap = overlap

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds maps ``(N, h, w)`` or ``(N, 1, h, w)`` with their masks ``(N, H, W)``; see the head of this module."""
        foreground, background = _overlaps(pixel_counts(maps, masks, self.threshold))
        self._add(*([foreground] if self.overlap == "foreground" else [foreground, background]))


def _aligned(maps: Tensor, masks: Tensor, fractions: bool = False) -> tuple[Tensor, Tensor]:
    """Enlarges maps to the size of their masks ``(N, H, W)``, and checks the masks, which become integers, or weights.

    Raises:
        ValueError: if shapes differ, masks hold other values than 1, 0 and -1 (and ``fractions``, where these are defined),
            or maps are not finite.
    """
    maps = check_maps(maps)
    check_tensor("masks", masks, "(N, H, W)", examples=("maps", len(maps)))
    maps, masks = lossless(maps), _regions(masks.detach(), fractions).to(maps.device)
    if maps.shape[1:] != masks.shape[1:]:
        maps = F.interpolate(maps[:, None], size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return maps, masks


def _regions(masks: Tensor, fractions: bool) -> Tensor:
    """The masks as integers; as they are if they hold fractions and these are defined."""
    if masks.dtype == torch.bool:
        return masks.long()
    # Unsigned integers are compared as numbers: as signed ones their largest value would be -1.
    values = masks if masks.is_floating_point() or masks.is_complex() else masks.double()
    whole = (values == 1) | (values == 0) | (values == -1)
    if whole.all():
        return values.long()
    known = "masks: expected 1 on the object, 0 elsewhere, and -1 where nothing counts, got"
    odd = values[~whole]
    if masks.is_complex() or not ((odd > 0) & (odd < 1)).all():
        first = odd[0] if masks.is_complex() else odd[~((odd > 0) & (odd < 1))][0]
        raise ValueError(f"{known} {first.item():g} among their values")
    if not fractions:
        raise ValueError(
            f"{known} fractions such as {odd[0].item():.3g}, for which this figure is not defined; say where the object"
            " ends, by masks > 0.5 for example, or take the energy, which uses them as weights"
        )
    return values


def _normalized(maps: Tensor, masks: Tensor, fractions: bool = False) -> tuple[Tensor, Tensor]:
    """The same, with the maps stretched to [0, 1]."""
    maps, masks = _aligned(maps, masks, fractions)
    return stretched(maps), masks


def _otsu(values: Tensor) -> Tensor:
    """Otsu's threshold of values in [0, 1], from a histogram of 256 bins."""
    counts = torch.histc(values, bins=256, min=0.0, max=1.0)
    centers = (torch.arange(256, device=values.device) + 0.5) / 256
    below = counts.cumsum(0)
    above = counts.sum() - below
    mass = (counts * centers).cumsum(0)
    means = mass / below.clamp(min=1), (mass[-1] - mass) / above.clamp(min=1)
    best = (below * above * (means[0] - means[1]).square()).argmax()
    return (best + 1) / 256  # the upper edge of the last bin that is background


def _accuracy(counts: dict[str, Tensor], accuracy: Accuracy) -> tuple[Tensor, Tensor]:
    """The numbers of right pixels and of all pixels that count, each ``(N,)``."""
    foreground = counts["true_foreground"], counts["true_foreground"] + counts["false_background"]
    if accuracy == "foreground":
        return foreground
    return foreground[0] + counts["true_background"], sum(counts.values(), torch.zeros_like(foreground[0]))


def _overlaps(counts: dict[str, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Intersection and union of the foreground, and those of the background, each ``(N,)``."""
    wrong = counts["false_foreground"] + counts["false_background"]
    return (
        (counts["true_foreground"], counts["true_foreground"] + wrong),
        (counts["true_background"], counts["true_background"] + wrong),
    )


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient, or 0 where there is nothing to divide by."""
    return torch.where(below > 0, above / below.clamp(min=1), 0.0)
