"""Curves of deletion and insertion: a model's score while pixels are hidden, or shown, from the most important on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.utilities import dim_zero_cat

from ..arguments import check_finite, check_number, check_tensor, one_of
from ..former import renamed
from .baselines import Baseline, baseline
from .examples import MAPS, answers, check_colors, check_images, check_maps
from .precision import lossless, shown
from .scoring import ScoreChoice, ScoreFunction, finite_values, score_function
from .ungrouped import Ungrouped

Mode = Literal["deletion", "insertion"]
Auc = Literal["mean", "trapezoid"]


@dataclass(frozen=True)
class Schedule:
    """The numbers of changed pixels after which the model is run.

    Attributes:
        points: number of evenly spaced steps up to ``share``, at least 1 (default 10). The unchanged beginning is one more
            point.
        share: share of the pixels that are changed at the last step, above 0 and at most 1 (default 0.5).
        untouched: whether an insertion ends with the whole picture instead of beginning with the empty baseline, as in the
            released code of Grad-ECLIP (default ``False``).
        parts: the number of equal parts, rounded down to whole pixels, that a picture is divided into, and in which the
            steps are counted; there are 200 of them in that code. ``None`` (default) for steps that are rounded.

    Raises:
        TypeError, ValueError: if a number is not as above.

    >>> Schedule().shares("deletion")  # the unchanged picture, then 5, 10, ..., 50 % of its pixels
    [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]

    Source: the protocol of arXiv 2502.18816; all pixels (``share=1.0``) as in Petsiuk, Das, Saenko: "RISE", BMVC 2018.
    """

    points: int = 10
    share: float = 0.5
    untouched: bool = False
    parts: int | None = None

    def __post_init__(self) -> None:
        check_number("points", self.points, whole=True, least=1)
        if self.parts is not None:
            check_number("parts", self.parts, whole=True, least=self.points)
        check_number("share", self.share, above=0, most=1)

    def counts(self, pixels: int, mode: Mode) -> list[int]:
        """The schedule as numbers of pixels; by default 11 of them, 0, 5, ..., 50 % of the pixels, as in the paper.

        Args:
            pixels: number of pixels of the image.
            mode: ``"deletion"`` or ``"insertion"``.

        Returns:
            Numbers of changed pixels, in rising order.

        >>> Schedule(points=2).counts(200, "deletion"), Schedule(2, untouched=True).counts(200, "insertion")
        ([0, 50, 100], [50, 100, 200])
        >>> Schedule(points=2, parts=200).counts(599, "deletion")  # 200 parts of two pixels
        [0, 100, 200]
        """
        shares = [self.share * number / self.points for number in range(1, self.points + 1)]
        part = 1 if self.parts is None else max(1, pixels // self.parts)
        steps = [min(pixels, part * round(share * (self.parts or pixels))) for share in shares]
        return [*steps, pixels] if self.untouched and mode == "insertion" else [0, *steps]

    def shares(self, mode: Mode) -> list[float]:
        """The schedule as shares of all pixels, 0 to 1.

        Args:
            mode: ``"deletion"`` or ``"insertion"``.

        Returns:
            As many numbers in rising order.
        """
        steps = [self.share * number / self.points for number in range(1, self.points + 1)]
        return [*steps, 1.0] if self.untouched and mode == "insertion" else [0.0, *steps]


def ranks(maps: Tensor, size: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """Ranks the pixels of each map by decreasing value: 0 for the highest pixel.

    Args:
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``, finite; enlarged bilinearly.
        size: height and width of the image in pixels.
        generator: breaks ties at random; with ``None`` (the default), the first in raster order ranks first.

    Returns:
        ``(N, H * W)``, integer; each row is a permutation of 0 to ``H * W - 1``.

    Raises:
        ValueError: if the maps have another shape or values that are not finite.

    >>> ranks(torch.tensor([[[1.0, 3.0], [2.0, 3.0]]]), (2, 2))
    tensor([[3, 0, 2, 1]])

    Source: the order in which arXiv 2502.18816 changes pixels; that ties go in raster order is ours.
    """
    maps = check_maps(maps)[:, None]
    if tuple(maps.shape[-2:]) != tuple(size):
        maps = F.interpolate(lossless(maps), size=tuple(size), mode="bilinear", align_corners=False)
    values = maps.flatten(1)
    if generator is not None:
        # Ties are broken by a random order of the pixels, which the stable sort below keeps.
        shuffle = torch.rand(values.shape, generator=generator).argsort(dim=1).to(values.device)
        values = values.gather(1, shuffle)
    order = values.argsort(dim=1, descending=True, stable=True)
    order = order if generator is None else shuffle.gather(1, order)
    return order.argsort(dim=1)


def curves(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    performance: Mapping[str, ScoreFunction],
    *,
    mode: Mode = "deletion",
    background: Tensor,
    schedule: Schedule = Schedule(),  # frozen, so that all calls may share it
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """Scores a model on images of which more and more pixels are hidden, or shown.

    The changed images of all examples and steps run in batches of one size, however many examples there are, and several
    score functions share the forward passes.

    Args:
        forward_func: a function from images ``(B, C, H, W)`` to outputs ``(B, T)``.
        images: ``(N, C, H, W)``.
        maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite.
        performance: the score functions by name, see :data:`~captum_gradeclip.metrics.ScoreFunction`.
        mode: ``"deletion"`` (the default) replaces the most important pixels of the image by those of the baseline,
            ``"insertion"`` replaces those of the baseline by the image's.
        background: the baseline of each image ``(N, C, H, W)``, see :func:`~captum_gradeclip.metrics.baseline`.
        schedule: the numbers of pixels after which the model is run (default 0, 5, ..., 50 % of them).
        batch_size: number of images per forward pass, at least 1 (default 64).

    Returns:
        For each name, the values of all examples ``(N, points)`` on the CPU, float32, or float64 where the model answers in
        double precision.

    Raises:
        TypeError, ValueError: if an argument is not as above, or the model answers with another shape, or with NaN, which
            is neither right nor wrong.

    >>> means = curves(lambda x: x.mean(dim=(2, 3)), torch.ones(1, 1, 2, 2), torch.rand(1, 2, 2),
    ...     {"mean": lambda output, example: output[:, 0]}, background=torch.zeros(1, 1, 2, 2), schedule=Schedule(2))
    >>> means["mean"]
    tensor([[1.0000, 0.7500, 0.5000]])

    Source: Petsiuk, Das, Saenko: "RISE", BMVC 2018, with the steps of arXiv 2502.18816.
    """
    one_of("mode", mode, Mode)
    check_number("batch_size", batch_size, whole=True, least=1)
    check_images(images)
    check_tensor("maps", maps, *MAPS, examples=("images", len(images)))  # their values are checked where they are ranked
    check_finite("background", check_tensor("background", background, kind="floats"))
    if background.shape != images.shape:
        raise ValueError(f"background: expected the shape of images {tuple(images.shape)}, got {tuple(background.shape)}")
    place = ranks(maps, images.shape[-2:])
    counts = torch.tensor(schedule.counts(place.shape[1], mode), device=images.device)
    points = len(counts)
    values: dict[str, list[Tensor]] = {name: [] for name in performance}
    with torch.no_grad():
        for index in torch.arange(len(images) * points).split(batch_size):
            example, step = (index // points).to(images.device), (index % points).to(images.device)
            changed = (place[example] < counts[step][:, None]).view(len(index), 1, *images.shape[-2:])
            after, before = (background, images) if mode == "deletion" else (images, background)
            output = answers(forward_func, torch.where(changed, after[example], before[example]))
            for name, measure in performance.items():
                values[name].append(finite_values(measure(output, example)).cpu())
    return {name: torch.cat(parts).view(len(images), points) for name, parts in values.items()}


def area_under(curve: Tensor, auc: Auc = "mean") -> Tensor:
    """The area under curves, divided by their width.

    Args:
        curve: ``(..., points)``, at equal distances.
        auc: ``"mean"`` (the default), the mean over all points; or ``"trapezoid"``, the trapezoidal rule, in which the first
            and the last point weigh half as much as the others.

    Returns:
        ``(...)``, in the range of the curve's values.

    Raises:
        ValueError: if ``auc`` is unknown.

    >>> area_under(torch.tensor([1.0, 0.5, 0.0])), area_under(torch.tensor([1.0, 0.0, 0.0]), "trapezoid")
    (tensor(0.5000), tensor(0.2500))

    Source: the mean is equations 21 and 22 of arXiv 2502.18816, the trapezoidal rule Petsiuk, Das, Saenko: "RISE", BMVC
    2018.
    """
    one_of("auc", auc, Auc)
    if auc == "mean":
        return curve.mean(dim=-1)
    return (curve[..., 1:] + curve[..., :-1]).mean(dim=-1) / 2


class CurveMetric(Ungrouped):
    """The base of metrics that follow a score function along a curve.

    The curves of all examples are kept, since the mean curve is shown as well. Arguments and errors are those of
    :class:`Deletion`, without ``performance``, ``auc`` and ``canvas``.
    """

    is_differentiable = False
    full_state_update = False
    mode: Mode
    usual_baseline: ClassVar[Baseline]
    from_beginning: ClassVar[bool] = False
    """Whether values are counted from the first point on, which a schedule of untouched insertions does not have."""
    kept: list[Tensor]

    def __init__(
        self,
        forward_func: Callable[[Tensor], Tensor],
        *,
        baseline: Baseline | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        schedule: Schedule = Schedule(),  # frozen, so that all calls may share it
        batch_size: int = 64,
        **settings: object,
    ) -> None:
        super().__init__(**settings)
        self.baseline = one_of("baseline", self.usual_baseline if baseline is None else baseline, Baseline)
        # In a tuple, since a module given here would become part of the metric, and be copied, moved and saved with it.
        self._forward_func = (forward_func,)
        self.mean, self.std = check_colors("mean", mean), check_colors("std", std)
        check_number("batch_size", batch_size, whole=True, least=1)
        if self.from_beginning and schedule.untouched and self.mode == "insertion":
            raise ValueError(
                "schedule: expected untouched=False, since what is gained is counted from the empty baseline on, got True"
            )
        self.schedule, self.batch_size = schedule, batch_size
        self.add_state("kept", [], dist_reduce_fx="cat")

    def follow(
        self, images: Tensor, maps: Tensor, targets: Tensor, performance: ScoreChoice, seeds: Sequence[int] | None = None
    ) -> Tensor:
        """The curves of some images, ``(N, points)``, without adding them.

        Args:
            images: ``(N, 3, H, W)``, normalized.
            maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite.
            targets: label or column of the output for each image, ``(N,)``, integer.
            performance: the score function, as for :class:`Deletion`.
            seeds: one seed per image for its random baseline (default 0, 1, ...).
        """
        background = baseline(images, self.baseline, self.mean, self.std, seeds)  # which checks the images
        check_tensor("targets", targets, "(N,)", kind="integers", examples=("images", len(images)))
        found = curves(
            self._forward_func[0],
            images,
            maps,
            {"it": score_function(performance, targets)},
            mode=self.mode,
            background=background,
            schedule=self.schedule,
            batch_size=self.batch_size,
        )
        return found["it"]

    @property
    def curve(self) -> Tensor:
        """The mean curve over all examples, ``(points,)``."""
        kept = dim_zero_cat(self.kept)
        return kept.double().mean(dim=0).to(kept.dtype)


class _Area(CurveMetric):
    """The mean area under the curves of all examples."""

    def __init__(
        self,
        forward_func: Callable[[Tensor], Tensor],
        performance: ScoreChoice = "score",
        *,
        baseline: Baseline | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        schedule: Schedule = Schedule(),  # frozen, so that all calls may share it
        auc: Auc = "mean",
        batch_size: int = 64,
        canvas: Baseline | None = None,  # deprecated name of baseline, kept for one version
        **settings: object,
    ) -> None:
        if canvas is not None:
            renamed("canvas=", "baseline=", stacklevel=4)
        super().__init__(
            forward_func,
            baseline=canvas if baseline is None else baseline,
            mean=mean,
            std=std,
            schedule=schedule,
            batch_size=batch_size,
            **settings,
        )
        if not callable(performance):  # a wrong name is told here, not at the first update
            score_function(performance, torch.zeros(1, dtype=torch.long))
        self.performance, self.auc = performance, one_of("auc", auc, Auc)

    def update(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Adds images with their maps.

        Args:
            images: ``(N, 3, H, W)``, normalized.
            maps: attributions ``(N, h, w)`` or ``(N, 1, h, w)``, finite.
            targets: label or column of the output for each image, ``(N,)``, integer.
            seeds: one seed per image for its random baseline (default 0, 1, ...). Give its number in the data set, so that
                all methods, processes and batch sizes see the same baseline.
        """
        self.kept.append(self.trace(images, maps, targets, seeds).to(self.device))

    def trace(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """The curves of some images, ``(N, points)``, without adding them; arguments as for :meth:`update`."""
        return self.follow(images, maps, targets, self.performance, seeds)

    def compute(self) -> Tensor:
        """The mean area under the curves of all examples, a scalar."""
        return shown(area_under(dim_zero_cat(self.kept).double(), self.auc).mean())


class Deletion(_Area):
    """Mean score while the most important pixels are replaced by a baseline.

    Lower is better. The bounds are those of the score function: 0 to 1 for an accuracy or a recall, -1 to 1 for a cosine.

    Args:
        forward_func: a function from normalized images ``(B, 3, H, W)`` to outputs ``(B, T)``: a score module, or a function
            around one that resizes and crops.
        performance: ``"score"`` (the default), the output of the target; a number k, the accuracy among the k best; or a
            function that is called with the targets given to :meth:`update` and returns a score function, for retrieval for
            example: ``lambda numbers: recall(positives[numbers], 5)``.
        baseline: what replaces pixels: ``"random"`` (the default), ``"black"``, ``"mean"``, ``"own-mean"`` or ``"blur"``,
            see :func:`~captum_gradeclip.metrics.baseline`.
        mean: mean of the images' normalization, one number per channel (default 0); it is needed for colors.
        std: standard deviation of the images' normalization, one number above 0 per channel (default 1).
        schedule: the numbers of pixels after which the model is run (default 0, 5, ..., 50 % of them, as in the paper).
        auc: ``"mean"`` (the default) or ``"trapezoid"``, see :func:`~captum_gradeclip.metrics.area_under`.
        batch_size: number of images per forward pass, at least 1 (default 64).
        canvas: deprecated name of ``baseline``.
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: if ``performance``, ``baseline`` or ``auc`` is unknown, or a number is not as above.

    >>> metric = Deletion(lambda x: x.mean(dim=(2, 3)), baseline="mean")
    >>> metric.update(torch.ones(1, 3, 20, 20), torch.rand(1, 5, 5), torch.tensor([0]))
    >>> metric.compute()
    tensor(0.7500)

    Source: Petsiuk, Das, Saenko: "RISE", BMVC 2018; equations 21 to 23 of arXiv 2502.18816.
    """

    mode = "deletion"
    usual_baseline = "random"
    higher_is_better = False


class Insertion(_Area):
    """Mean score while the most important pixels are put into a baseline image.

    Higher is better. The bounds are those of the score function: 0 to 1 for an accuracy or a recall, -1 to 1 for a cosine.

    Arguments and errors are those of :class:`Deletion`, except that the default baseline is ``"black"``.

    >>> metric = Insertion(lambda x: x.mean(dim=(2, 3)), baseline="mean")
    >>> metric.update(torch.ones(1, 3, 20, 20), torch.rand(1, 5, 5), torch.tensor([0]))
    >>> metric.compute()
    tensor(0.2500)

    Source: as for :class:`Deletion`.
    """

    mode = "insertion"
    usual_baseline = "black"
    higher_is_better = True


class InsertionMinusDeletion(Ungrouped):
    """Area under the insertion curve minus area under the deletion curve.

    Higher is better; a random map has an expected value of 0 if both curves use one baseline and a schedule of all pixels.
    The bounds are -1 to 1 for an accuracy or a recall, and -2 to 2 for a cosine.

    Args:
        forward_func: a function from normalized images ``(B, 3, H, W)`` to outputs ``(B, T)``.
        performance: the score function, as for :class:`Deletion` (default ``"score"``).
        deletion_baseline: baseline of the deletion (default ``"random"``).
        insertion_baseline: baseline of the insertion (default ``"black"``).
        mean: mean of the images' normalization, one number per channel (default 0).
        std: standard deviation of the images' normalization, one number above 0 per channel (default 1).
        schedule: the numbers of pixels after which the model is run (default 0, 5, ..., 50 % of them).
        auc: ``"mean"`` (the default) or ``"trapezoid"``, see :func:`~captum_gradeclip.metrics.area_under`.
        batch_size: number of images per forward pass, at least 1 (default 64).
        deletion_canvas: deprecated name of ``deletion_baseline``.
        insertion_canvas: deprecated name of ``insertion_baseline``.
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError, ValueError: if ``performance``, a baseline or ``auc`` is unknown, or a number is not as above.

    >>> metric = InsertionMinusDeletion(lambda x: x.mean(dim=(2, 3)), deletion_baseline="mean", insertion_baseline="mean")
    >>> metric.update(torch.ones(1, 3, 20, 20), torch.rand(1, 5, 5), torch.tensor([0]))
    >>> metric.compute()
    tensor(-0.5000)

    Source: equation 23 of arXiv 2502.18816.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    deleted: list[Tensor]
    inserted: list[Tensor]

    def __init__(
        self,
        forward_func: Callable[[Tensor], Tensor],
        performance: ScoreChoice = "score",
        *,
        deletion_baseline: Baseline | None = None,
        insertion_baseline: Baseline | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        schedule: Schedule = Schedule(),  # frozen, so that all calls may share it
        auc: Auc = "mean",
        batch_size: int = 64,
        deletion_canvas: Baseline | None = None,  # deprecated names of the baselines, kept for one version
        insertion_canvas: Baseline | None = None,
        **settings: object,
    ) -> None:
        super().__init__(**settings)
        # Kept apart from torch's modules: the two only trace, and what they find is this metric's own state.
        self._parts = tuple(
            kind(
                forward_func,
                performance,
                baseline=baseline,
                canvas=canvas,
                mean=mean,
                std=std,
                schedule=schedule,
                auc=auc,
                batch_size=batch_size,
            )
            for kind, baseline, canvas in (
                (Deletion, deletion_baseline, deletion_canvas),
                (Insertion, insertion_baseline, insertion_canvas),
            )
        )
        self.auc = auc
        for name in ("deleted", "inserted"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Adds images with their maps; arguments as for :meth:`Deletion.update`."""
        for part, kept in zip(self._parts, (self.deleted, self.inserted)):
            kept.append(part.trace(images, maps, targets, seeds).to(self.device))

    def compute(self) -> Tensor:
        """The difference of the mean areas over all examples, a scalar."""
        deleted, inserted = (area_under(dim_zero_cat(kept).double(), self.auc) for kept in (self.deleted, self.inserted))
        return shown((inserted - deleted).mean())
