"""Does the model need what a map marks? Pixels or words taken away, or given back, from the most important on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

Canvas = Literal["random", "black", "blur", "mean"]
Mode = Literal["deletion", "insertion"]
Auc = Literal["mean", "trapezoid"]
Performance = Callable[[Tensor, Tensor], Tensor]
"""Outputs ``(B, T)`` for changed inputs, and which examples of the call these are ``(B,)``, to values ``(B,)``."""
Traced = Literal["score"] | int | Callable[[Tensor], Performance]
"""What a metric traces: the output of the target, accuracy among the k best, or what a function makes of the targets."""


@dataclass(frozen=True)
class Schedule:
    """After which numbers of pixels the model is asked.

    Attributes:
        points: how many times, evenly up to ``share``.
        share: of the pixels that are changed in the end.
        untouched: of an insertion, ask for the whole picture at the end instead of the empty canvas at the beginning, as the
            released code does.
    """

    points: int = 10
    share: float = 0.5
    untouched: bool = False

    def counts(self, pixels: int, mode: Mode) -> list[int]:
        """Numbers of pixels: 11 points as in the paper, 0, 5, ..., 50 % of them.

        >>> Schedule(points=2).counts(200, "deletion"), Schedule(2, untouched=True).counts(200, "insertion")
        ([0, 50, 100], [50, 100, 200])
        """
        steps = [round(pixels * self.share * number / self.points) for number in range(1, self.points + 1)]
        return [*steps, pixels] if self.untouched and mode == "insertion" else [0, *steps]

    def shares(self, mode: Mode) -> list[float]:
        """The same as shares of all pixels."""
        steps = [self.share * number / self.points for number in range(1, self.points + 1)]
        return [*steps, 1.0] if self.untouched and mode == "insertion" else [0.0, *steps]


def ranks(maps: Tensor, size: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
    """The place of every pixel in the order of decreasing heat.

    Args:
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``, enlarged bilinearly.
        size: height and width of the image.
        generator: breaks ties at random; without one, they fall in raster order.

    Returns:
        ``(N, H * W)``, each row a permutation.

    >>> ranks(torch.tensor([[[1.0, 3.0], [2.0, 3.0]]]), (2, 2))
    tensor([[3, 0, 2, 1]])
    """
    maps = maps[:, None] if maps.dim() == 3 else maps
    if maps.dim() != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps: expected (N, h, w) or (N, 1, h, w), got {tuple(maps.shape)}")
    if not torch.isfinite(maps).all():
        raise ValueError("maps: they hold NaN or infinite values")
    if tuple(maps.shape[-2:]) != tuple(size):
        maps = F.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False)
    heat = maps.flatten(1)
    if generator is not None:
        shuffle = torch.rand(heat.shape, generator=generator).argsort(dim=1).to(heat.device)
        heat = heat.gather(1, shuffle)
    order = heat.argsort(dim=1, descending=True, stable=True)
    order = order if generator is None else shuffle.gather(1, order)
    return order.argsort(dim=1)


def canvas(
    images: Tensor, kind: Canvas, mean: Sequence[float], std: Sequence[float], seeds: Sequence[int] | None = None
) -> Tensor:
    """What stands in the place of pixels that are not shown.

    Args:
        images: normalised ``(N, C, H, W)``.
        kind: ``"random"``, three independent colours of 8 bit for every pixel; ``"black"``; ``"mean"``, the colour that
            becomes zero; ``"blur"``, the image under a Gaussian of 11 pixels with a deviation of 5.
        mean: of the images' normalisation, per channel.
        std: likewise.
        seeds: of the random colours of each image, so that all methods see the same; 0, 1, ... if not given.

    Returns:
        ``(N, C, H, W)``, normalised.

    >>> canvas(torch.ones(1, 3, 2, 2), "black", (0.5,) * 3, (0.5,) * 3).unique()
    tensor([-1.])
    """
    if kind not in get_args(Canvas):
        raise ValueError(f"canvas: expected one of {get_args(Canvas)}, got {kind!r}")
    if kind == "mean":
        return torch.zeros_like(images)
    if kind == "blur":
        kernel = torch.exp(-torch.arange(-5, 6, device=images.device, dtype=torch.float32).square() / 50)
        kernel = (kernel / kernel.sum()).to(images.dtype)
        channels = images.shape[1]
        padded = F.pad(images, (5, 5, 5, 5), mode="reflect" if min(images.shape[-2:]) > 5 else "replicate")
        across = F.conv2d(padded, kernel.view(1, 1, 1, 11).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(across, kernel.view(1, 1, 11, 1).expand(channels, -1, -1, -1), groups=channels)
    offset, scale = (torch.tensor(x, device=images.device, dtype=images.dtype).view(1, -1, 1, 1) for x in (mean, std))
    if kind == "black":
        return ((0 - offset) / scale).expand_as(images)
    seeds = range(len(images)) if seeds is None else seeds
    noise = [torch.randint(0, 255, images.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return (torch.stack(noise).to(images.device, images.dtype) / 255 - offset) / scale


def curves(
    forward_func: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    performance: Mapping[str, Performance],
    *,
    mode: Mode = "deletion",
    background: Tensor,
    schedule: Schedule = Schedule(),  # frozen
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """How a model performs on images of which more and more pixels are taken away, or given back.

    Changed images of all examples and steps run in batches of one size, whatever the number of examples.

    Args:
        forward_func: images ``(B, C, H, W)`` to outputs ``(B, T)``.
        images: ``(N, C, H, W)``.
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``.
        performance: what is traced, by name.
        mode: ``"deletion"`` replaces the hottest pixels by the background, ``"insertion"`` the background by them.
        background: ``(N, C, H, W)``, see :func:`canvas`.
        schedule: after how many pixels.
        batch_size: of the forward passes.

    Returns:
        By name, ``(N, points)``.

    >>> sums = curves(lambda x: x.mean(dim=(2, 3)), torch.ones(1, 1, 2, 2), torch.rand(1, 2, 2),
    ...     {"mean": lambda output, index: output[:, 0]}, background=torch.zeros(1, 1, 2, 2), schedule=Schedule(2))
    >>> sums["mean"]
    tensor([[1.0000, 0.7500, 0.5000]])
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode: expected one of {get_args(Mode)}, got {mode!r}")
    place = ranks(maps, images.shape[-2:])
    counts = torch.tensor(schedule.counts(place.shape[1], mode), device=images.device)
    points = len(counts)
    values: dict[str, list[Tensor]] = {name: [] for name in performance}
    with torch.no_grad():
        for index in torch.arange(len(images) * points).split(batch_size):
            example, step = (index // points).to(images.device), (index % points).to(images.device)
            taken = (place[example] < counts[step][:, None]).view(len(index), 1, *images.shape[-2:])
            shown, hidden = (background, images) if mode == "deletion" else (images, background)
            output = forward_func(torch.where(taken, shown[example], hidden[example]))
            for name, measure in performance.items():
                values[name].append(measure(output, example).float().cpu())
    return {name: torch.cat(parts).view(len(images), points) for name, parts in values.items()}


def area_under(curve: Tensor, auc: Auc = "mean") -> Tensor:
    """The mean over all recorded points, or the normalised trapezoid, over the last dimension.

    >>> area_under(torch.tensor([1.0, 0.5, 0.0])), area_under(torch.tensor([1.0, 0.0, 0.0]), "trapezoid")
    (tensor(0.5000), tensor(0.2500))
    """
    if auc not in get_args(Auc):
        raise ValueError(f"auc: expected one of {get_args(Auc)}, got {auc!r}")
    if auc == "mean":
        return curve.mean(dim=-1)
    return (curve[..., 1:] + curve[..., :-1]).mean(dim=-1) / 2


def top_k(labels: Tensor, k: int = 1) -> Performance:
    """Accuracy: 1 where fewer than ``k`` outputs exceed that of the label.

    >>> top_k(torch.tensor([2]), 2)(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([1.])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        own = output.gather(1, labels.to(output.device)[example][:, None])
        return ((output > own).sum(dim=1) < k).float()

    return measure


def target_score(targets: Tensor) -> Performance:
    """The output itself: the cosine with the target, say.

    >>> target_score(torch.tensor([2]))(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([0.5000])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        return output.gather(1, targets.to(output.device)[example][:, None])[:, 0]

    return measure


def traced_by(performance: Traced, targets: Tensor) -> Performance:
    """The function behind the short names of what is traced.

    Raises:
        ValueError: for another name.
    """
    if callable(performance):
        return performance(targets)
    if performance == "score":
        return target_score(targets)
    if isinstance(performance, int) and performance > 0:
        return top_k(targets, performance)
    raise ValueError(
        f"performance: expected 'score', the k of an accuracy among the k best, or a function, got {performance!r}"
    )


def recall(positives: Tensor, k: int = 1) -> Performance:
    """The changed input queries all columns; 1 where the best of its own is among the ``k`` best.

    Args:
        positives: ``(N, T)``, boolean: which columns belong to an example.
        k: how many are looked at.

    >>> recall(torch.tensor([[True, False, True]]))(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([0.])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        own = output.masked_fill(~positives.to(output.device)[example], float("-inf")).amax(dim=1, keepdim=True)
        return ((output > own).sum(dim=1) < k).float()

    return measure


def reverse_recall(gallery: Tensor, targets: Tensor, own: Tensor, k: int = 1) -> Performance:
    """A column queries a gallery in which only the changed example differs; 1 where that is among the ``k`` best.

    Args:
        gallery: scores of the unchanged examples ``(M, T)``.
        targets: column of each example ``(N,)``.
        own: which row of the gallery each example is, ``(N,)``.
        k: how many are looked at.

    >>> gallery = torch.tensor([[0.9], [0.3]])
    >>> measure = reverse_recall(gallery, torch.tensor([0]), torch.tensor([0]))
    >>> measure(torch.tensor([[0.5], [0.2]]), torch.tensor([0, 0]))
    tensor([1., 0.])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        column, row = targets.to(output.device)[example], own.to(output.device)[example]
        score = output.gather(1, column[:, None])
        others = gallery.to(output.device).T[column]
        above = (others > score).scatter(1, row[:, None], False)
        return (above.sum(dim=1) < k).float()

    return measure


class _Curve(Metric):
    """The mean area under the curves of all examples, which are kept."""

    is_differentiable = False
    full_state_update = False
    mode: Mode
    kept: list[Tensor]

    def __init__(
        self,
        forward_func: Callable[[Tensor], Tensor],
        performance: Traced = "score",
        *,
        canvas: Canvas = "random",
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        schedule: Schedule = Schedule(),  # frozen
        auc: Auc = "mean",
        batch_size: int = 64,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        traced_by(performance, torch.zeros(0, dtype=torch.long))
        if canvas not in get_args(Canvas):
            raise ValueError(f"canvas: expected one of {get_args(Canvas)}, got {canvas!r}")
        if auc not in get_args(Auc):
            raise ValueError(f"auc: expected one of {get_args(Auc)}, got {auc!r}")
        # A module given here would become part of the metric, and be copied, moved and saved with it.
        self._forward_func = (forward_func,)
        self.performance, self.canvas, self.mean, self.std = performance, canvas, tuple(mean), tuple(std)
        self.schedule, self.auc, self.batch_size = schedule, auc, batch_size
        self.add_state("kept", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> None:
        """Adds images ``(N, C, H, W)`` with their maps, and the labels or columns ``(N,)`` of the output.

        ``seeds`` are of the random canvas of each image; give its number in the data set, so that all methods, processes
        and batch sizes see the same.
        """
        self.kept.append(self.trace(images, maps, targets, seeds).to(self.device))

    def trace(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """The curves of some images, ``(N, points)``, without keeping them."""
        found = curves(
            self._forward_func[0],
            images,
            maps,
            {"it": traced_by(self.performance, targets)},
            mode=self.mode,
            background=canvas(images, self.canvas, self.mean, self.std, seeds),
            schedule=self.schedule,
            batch_size=self.batch_size,
        )
        return found["it"]

    @property
    def curve(self) -> Tensor:
        """The mean curve, ``(points,)``."""
        kept = torch.cat(self.kept) if isinstance(self.kept, list) else self.kept  # one tensor once it was gathered
        return kept.double().mean(dim=0).float()

    def compute(self) -> Tensor:
        """The mean area under the curves."""
        kept = torch.cat(self.kept) if isinstance(self.kept, list) else self.kept
        return area_under(kept.double(), self.auc).mean().float()


class Deletion(_Curve):
    """Performance while the hottest pixels are replaced by random colours; lower is better.

    Args:
        forward_func: normalised images ``(B, 3, H, W)`` to outputs ``(B, T)``: a score module, or a function around it that
            resizes and crops.
        performance: ``"score"``, the output of the target; ``k``, accuracy among the k best; or a function of the targets
            that were given to :meth:`update`, for retrieval say: ``lambda numbers: recall(positives[numbers], 5)``.
        canvas: ``"random"``, ``"black"``, ``"mean"`` or ``"blur"``, see :func:`canvas`.
        mean: of the normalisation of the images, for colours.
        std: likewise.
        schedule: after how many pixels the model is asked; 0, 5, ..., 50 % in the paper.
        auc: the mean over the points, or the normalised ``"trapezoid"``.
        batch_size: of the forward passes.
        settings: of :class:`torchmetrics.Metric`.

    >>> metric = Deletion(lambda x: x.mean(dim=(2, 3)), canvas="mean")
    >>> metric.update(torch.ones(1, 3, 20, 20), torch.rand(1, 5, 5), torch.tensor([0]))
    >>> metric.compute()
    tensor(0.7500)

    Source: Petsiuk et al., BMVC 2018; equations 21 to 23 of arXiv 2502.18816.
    """

    mode = "deletion"
    higher_is_better = False


class Insertion(_Curve):
    """Performance while the hottest pixels come to an empty canvas; higher is better. Arguments as for :class:`Deletion`.

    >>> metric = Insertion(lambda x: x.mean(dim=(2, 3)), canvas="mean")
    >>> metric.update(torch.ones(1, 3, 20, 20), torch.rand(1, 5, 5), torch.tensor([0]))
    >>> metric.compute()
    tensor(0.2500)

    Source: as :class:`Deletion`.
    """

    mode = "insertion"
    higher_is_better = True

    def __init__(
        self,
        forward_func: Callable[[Tensor], Tensor],
        performance: Traced = "score",
        *,
        canvas: Canvas = "black",
        **settings: Any,
    ) -> None:
        super().__init__(forward_func, performance, canvas=canvas, **settings)


class InsertionMinusDeletion(Metric):
    """Area under the insertion curve less that under the deletion curve; 0 for a random map.

    Args:
        forward_func: as for :class:`Deletion`.
        performance: as for :class:`Deletion`.
        deletion_canvas: of the deletion.
        insertion_canvas: of the insertion.
        options: of both.

    >>> metric = InsertionMinusDeletion(lambda x: x.mean(dim=(2, 3)), deletion_canvas="mean", insertion_canvas="mean")
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
        performance: Traced = "score",
        *,
        deletion_canvas: Canvas = "random",
        insertion_canvas: Canvas = "black",
        **options: Any,
    ) -> None:
        super().__init__()
        # Kept apart from torch's modules: they only trace, and what they find is this metric's own state.
        self._parts = (
            Deletion(forward_func, performance, canvas=deletion_canvas, **options),
            Insertion(forward_func, performance, canvas=insertion_canvas, **options),
        )
        for name in ("deleted", "inserted"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, images: Tensor, maps: Tensor, targets: Tensor, seeds: Sequence[int] | None = None) -> None:
        """As :meth:`Deletion.update`."""
        for part, kept in zip(self._parts, (self.deleted, self.inserted)):
            kept.append(part.trace(images, maps, targets, seeds).to(self.device))

    def compute(self) -> Tensor:
        """The difference of the mean areas."""
        deleted, inserted = (torch.cat(kept) if isinstance(kept, list) else kept for kept in (self.deleted, self.inserted))
        auc = self._parts[0].auc
        return (area_under(inserted.double(), auc) - area_under(deleted.double(), auc)).mean().float()


def word_steps(
    words: Sequence[str], weights: Sequence[float], mode: Mode, counts: Sequence[int] = (1, 2, 3, 4, 5)
) -> Iterator[str]:
    """A caption whose most important words are taken away, or come back, one by one.

    Words that come back stand in the order of the sentence; a caption that has run out of words stays as it is. Of equal
    words the first in the sentence goes first.

    Args:
        words: of the caption, in order.
        weights: of each.
        mode: ``"deletion"`` or ``"insertion"``.
        counts: after how many words a caption is asked for; one to five in the papers.

    Yields:
        The captions.

    >>> list(word_steps(["a", "red", "dog"], [0.0, 0.2, 0.8], "deletion", [1, 2]))
    ['a red', 'a']
    >>> list(word_steps(["a", "red", "dog"], [0.0, 0.2, 0.8], "insertion", [1, 2]))
    ['dog', 'red dog']
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode: expected one of {get_args(Mode)}, got {mode!r}")
    if len(words) != len(weights):
        raise ValueError(f"weights: expected one for each of {len(words)} words, got {len(weights)}")
    order = sorted(range(len(words)), key=lambda number: -weights[number])
    for count in counts:
        chosen = set(order[:count])
        yield " ".join(word for number, word in enumerate(words) if (number in chosen) == (mode == "insertion"))
