"""Targeted deletion and insertion: whether a map marks what tells its target from other things in the same image."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from ..arguments import check_tensor
from .curves import CurveMetric
from .precision import shown
from .scoring import margin


def mean_change(curve: Tensor) -> Tensor:
    r"""How far a curve lies, on average, above its beginning.

    .. math:: \frac{1}{P} \sum_{p=1}^{P} (m_p - m_0)

    Args:
        curve: ``(..., points)``, at least two points, the first of which is the unchanged beginning.

    Returns:
        ``(...)``, negative where the curve falls.

    Raises:
        TypeError, ValueError: for anything else.

    >>> import torch
    >>> mean_change(torch.tensor([0.5, 0.25, 0.0]))
    tensor(-0.3750)

    Source: this package.
    """
    check_tensor("curve", curve, kind="floats")
    if curve.dim() == 0 or curve.shape[-1] < 2:
        raise ValueError(f"curve: expected at least two points in its last dimension, got shape {tuple(curve.shape)}")
    return curve[..., 1:].mean(dim=-1) - curve[..., 0]


class _Targeted(CurveMetric):
    """The mean change of margins along the curves of all examples."""

    higher_is_better = True
    usual_baseline = "own-mean"
    from_beginning = True
    sign: int

    def update(
        self, images: Tensor, maps: Tensor, targets: Tensor, rivals: Tensor, seeds: Sequence[int] | None = None
    ) -> None:
        """Adds images with the maps of what is asked for.

        An image in which several things are asked for is given once for each of them.

        Args:
            images: ``(N, 3, H, W)``, normalized.
            maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)`` for the targets, finite.
            targets: column of what is asked for in each image, ``(N,)``, integer.
            rivals: columns of the other things in each image, ``(N, T)``, boolean, at least one per image and never the
                target itself.
            seeds: one seed per image for a random baseline (default 0, 1, ...).
        """
        found = self.follow(images, maps, targets, lambda columns: margin(columns, rivals), seeds)
        self.kept.append(found.to(self.device))

    def compute(self) -> Tensor:
        """The mean change over all examples, a scalar."""
        return shown(self.sign * mean_change(dim_zero_cat(self.kept).double()).mean())


class TargetedDeletion(_Targeted):
    """How much of the target's margin over its rivals is lost while the most important pixels are replaced by a baseline.

    The margin of a target is its output minus the best output of its rivals, the other things in the same image, see
    :func:`~captum_gradeclip.metrics.margin`. The value is the mean fall of the margin against that of the unchanged image,
    over all steps.

    Higher is better. The bounds are twice the range of the outputs: -4 to 4 for cosines. Where an image shows one thing,
    every map of the foreground deletes it; here a map of the whole foreground deletes target and rivals alike and loses
    little, as a random map does.

    As in :class:`~captum_gradeclip.metrics.Deletion`, maps are enlarged bilinearly to the size of the images, and pixels are
    replaced in the order of the enlarged map: the unit is the same for maps of all resolutions.

    Args:
        forward_func: a function from normalized images ``(B, 3, H, W)`` to outputs ``(B, T)``.
        baseline: what replaces pixels, see :func:`~captum_gradeclip.metrics.baseline`; by default ``"own-mean"``, the mean
            color of each image, which brings nothing new into it.
        mean: mean of the images' normalization, one number per channel (default 0); ``"random"`` and ``"black"`` need it.
        std: standard deviation of the images' normalization, one number above 0 per channel (default 1).
        schedule: the numbers of pixels after which the model is run (default 0, 5, ..., 50 % of them).
        batch_size: number of images per forward pass, at least 1 (default 64).
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: if ``baseline`` is unknown, or a number is not as above.

    >>> import torch
    >>> from captum_gradeclip.metrics import Schedule
    >>> image = torch.zeros(1, 3, 4, 4)
    >>> image[0, 0, 0, 0], image[0, 1, 3, 3] = 1.0, 1.0  # a red thing and a green one
    >>> metric = TargetedDeletion(lambda x: x.amax(dim=(2, 3)), schedule=Schedule(points=1, share=1 / 16))
    >>> rivals = torch.tensor([[False, True, False]])
    >>> metric.update(image, image[:, 0], torch.tensor([0]), rivals)
    >>> metric.compute()
    tensor(0.9375)

    Source: this package; the curves are those of Petsiuk, Das, Saenko: "RISE", BMVC 2018.
    """

    mode = "deletion"
    sign = -1


class TargetedInsertion(_Targeted):
    """How much margin over its rivals the target wins while the most important pixels are put into a baseline image.

    The value is the mean rise of the margin against that of the empty baseline, over all steps. Higher is better.

    Arguments and errors are those of :class:`TargetedDeletion`; a schedule with ``untouched=True`` is refused, since it has
    no empty beginning.

    >>> import torch
    >>> from captum_gradeclip.metrics import Schedule
    >>> image = torch.zeros(1, 3, 4, 4)
    >>> image[0, 0, 0, 0], image[0, 1, 3, 3] = 1.0, 1.0
    >>> metric = TargetedInsertion(lambda x: x.amax(dim=(2, 3)), schedule=Schedule(points=1, share=1 / 16))
    >>> metric.update(image, image[:, 0], torch.tensor([0]), torch.tensor([[False, True, False]]))
    >>> metric.compute()
    tensor(0.9375)

    Source: as for :class:`TargetedDeletion`.
    """

    mode = "insertion"
    sign = 1
