"""Guards: what in an explanation is a reason not to trust its map, each a pure function with a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Guard = Literal[
    "surrogate", "flat", "saturated", "normalization", "preprocessing", "fit", "prompt", "noise", "weights", "carried"
]
"""The guards by name."""

LIMITS: dict[Guard, float] = {
    "surrogate": 0.0,
    "flat": 0.0,
    "saturated": 1e-3,
    "normalization": 0.01,
    "preprocessing": 0.02,
    "fit": 1.0,
    "prompt": 0.7,
    "noise": 0.9,
    "weights": 0.5,
    "carried": 0.2,
}
"""Where each guard fires: above its limit, or below it those of :data:`BELOW`; fixed on validation scenes, see the docs."""
TRADED = 0.04
"""Where the guard of the surrogate fires for random texts, of which a few trade places with a text that fits no better."""
BELOW = frozenset({"saturated", "fit", "noise", "carried"})
"""The guards whose values are good when they are high."""


@dataclass(frozen=True)
class GuardFinding:
    """What a guard found.

    Attributes:
        guard: its name.
        value: what it measured; NaN where nothing could be measured, for which it does not fire.
        limit: where it fires, see :data:`LIMITS`.
        message: what the value means, and what to do if it fires.

    >>> GuardFinding("flat", 0.5, 0.0, "half of the maps are flat").fired
    True
    """

    guard: Guard
    value: float
    limit: float
    message: str

    @property
    def fired(self) -> bool:
        """Whether there is a reason not to trust the map."""
        return self.value < self.limit if self.guard in BELOW else self.value > self.limit


def surrogate(scores: Tensor, explained: Tensor) -> GuardFinding:
    """In what share of the images the explained pass ranks the texts otherwise than the model.

    Args:
        scores: those of the unmodified model ``(N, T)``.
        explained: those of the pass that was explained ``(N, T)``.

    Returns:
        The share, 0 to 1; any of it is a reason.

    >>> surrogate(torch.tensor([[0.3, 0.2], [0.1, 0.4]]), torch.tensor([[0.2, 0.3], [0.2, 0.3]])).value
    0.5
    """
    own, other = (one.double()[:, :, None] - one.double()[:, None] for one in (scores, explained))
    level = 1e-5 * scores.double().abs().amax(dim=1)[:, None, None]  # what rounding changes is no other order
    swapped = ((own > level) & (other < -level)).any(dim=(1, 2))
    value = float(swapped.double().mean())
    which = f"in {int(swapped.sum())} of {len(swapped)} images " if len(swapped) > 1 else ""
    return _found(
        "surrogate",
        value,
        f"{which}the pass that is explained ranks the texts otherwise than the model, so that its map tells about another"
        ' network; heads="model" explains the model itself'
        if value
        else "the pass that is explained ranks the texts as the model does",
    )


def always(
    maps: Sequence[Tensor],
    scores: Tensor | None,
    explained: Tensor | None,
    inputs: Sequence[Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    in_units_of_score: bool,
) -> list[GuardFinding]:
    """The guards that every explanation is given, since they cost next to nothing.

    Args:
        maps: those of each image ``(T, h, w)``.
        scores: those of the unmodified model ``(N, T)``; ``None`` if they are not known.
        explained: those of the pass that was explained ``(N, T)``; ``None`` if there is no such pass.
        inputs: the inputs ``(C, H, W)`` that were not made by the model's own library.
        mean: the model's mean of each channel.
        std: its standard deviation of each channel.
        in_units_of_score: whether the values of the maps have the unit of the score.

    Returns:
        What each found, whether it fires or not.

    >>> scores = torch.tensor([[0.2, 0.3]])
    >>> found = always([torch.rand(2, 4, 4)], scores, scores.flip(1), [], (0.5,) * 3, (0.5,) * 3, in_units_of_score=True)
    >>> [(one.guard, one.fired) for one in found]
    [('flat', False), ('surrogate', True), ('saturated', False)]
    """
    found = [flat(maps), *(normalization(one, mean, std) for one in inputs)]
    if scores is not None and explained is not None:
        found.append(surrogate(scores, explained))
        if in_units_of_score:
            found.append(saturated(maps, scores))
    return found


def traded(scores: Tensor, explained: Tensor) -> GuardFinding:
    """What share of other texts trades places with the first one in the pass that is explained.

    Args:
        scores: those of the unmodified model ``(T,)``, the text's own first.
        explained: those of the pass that was explained.

    Returns:
        The share, 0 to 1.

    >>> traded(torch.tensor([0.3, 0.2, 0.1]), torch.tensor([0.15, 0.2, 0.1])).value
    0.5
    """
    own, other = (one[0] > one[1:] for one in (scores, explained))
    value = float((own != other).double().mean())
    return GuardFinding(
        "surrogate",
        value,
        TRADED,
        f"{100 * value:.0f} % of random texts are on the other side of this one in the pass that is explained;"
        ' heads="model" explains the model itself',
    )


def flat(maps: Sequence[Tensor]) -> GuardFinding:
    """What share of the maps is the same everywhere.

    Args:
        maps: those of each image, ``(T, h, w)``.

    Returns:
        The share, 0 to 1; any of it is a reason.

    >>> flat([torch.stack([torch.zeros(2, 2), torch.eye(2)])]).value
    0.5
    """
    flats = torch.cat([one.flatten(1).amax(dim=1) == one.flatten(1).amin(dim=1) for one in maps])
    value = float(flats.double().mean())
    return _found(
        "flat",
        value,
        f"{int(flats.sum())} of {len(flats)} maps are the same everywhere, so that they show nothing; with"
        " relu_attributions=False a method also shows what speaks against a text"
        if value
        else "every map varies",
    )


def saturated(maps: Sequence[Tensor], scores: Tensor) -> GuardFinding:
    """How large the largest value of a map is beside its score ``(N, T)``: the least of all maps that vary.

    Where a score has saturated, its gradient is next to zero, and the map shows rounding errors.

    Args:
        maps: those of each image, ``(T, h, w)``, in units of the score.
        scores: those of the unmodified model, ``(N, T)``.

    Returns:
        The ratio, at least 0, to the largest magnitude among the scores of the image; NaN if no map varies from zero.

    >>> saturated([torch.tensor([[[0.0, 1e-6]]])], torch.tensor([[0.5]])).fired
    True
    """
    largest = torch.stack([one.flatten(1).abs().amax(dim=1) for one in maps]).double()
    ratio = largest / scores.double().abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    value = float(ratio[largest > 0].min()) if bool((largest > 0).any()) else float("nan")
    return _found(
        "saturated",
        value,
        f"the largest value of a map is {value:.2g} of the score: next to no gradient is left, as behind a score that has"
        " saturated",
    )


def normalization(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> GuardFinding:
    """Whether an input looks normalized as the model wants it.

    Colors of 8 bits leave steps of 1/255 in an input, from which its standard deviation can be read off, and its mean shows
    in where they begin and end. Inputs that were resized as floating point have no steps, and only their range is checked.

    Args:
        pixels: the input ``(C, H, W)``.
        mean: the model's mean of each channel, in a range of colors from 0 to 1.
        std: its standard deviation of each channel.

    Returns:
        How far the standard deviation is off, relatively, or 1 for colors far outside of their range.

    >>> colors = torch.randint(0, 256, (3, 32, 32)) / 255
    >>> normalization((colors - 0.5) / 0.5, (0.5,) * 3, (0.5,) * 3).fired
    False
    >>> normalization(colors, (0.5,) * 3, (0.5,) * 3).fired
    True
    """
    thin = pixels.double().flatten(1)
    thin = thin[:, :: max(1, thin.shape[1] // 4096)]
    faults = []
    for values, center, width in zip(thin, mean, std):
        colors = values * width + center
        faults.append(float((255 * (colors - colors.clamp(0, 1))).abs().amax() / 255 > 0.02))
        step = _step(values)
        if step is not None:
            faults[-1] = max(faults[-1], abs(1 / (255 * step * width) - 1))
            offset = 255 * colors
            on_grid = float((offset - offset.round()).abs().median()) < 0.05
            faults[-1] = max(faults[-1], 0.0 if on_grid else 0.05)
    value = max(faults)
    return _found(
        "normalization",
        value,
        "images: the input does not look normalized with the model's mean and standard deviation; prepare it as the"
        ' model\'s own library does, or give the picture and preprocess="model"'
        if value > LIMITS["normalization"]
        else "the input looks normalized as the model wants it",
    )


def _step(values: Tensor) -> float | None:
    """The step of values that are whole numbers of some step beside each other; ``None`` if they are not."""
    unique = values.unique()
    gaps = unique.diff()
    gaps = gaps[gaps > 1e-5 * float(values.abs().amax().clamp(min=1e-6))]
    if len(gaps) < 16:
        return None
    step = float(gaps.quantile(0.02))
    step = float(gaps[(gaps > 0.5 * step) & (gaps < 1.5 * step)].mean())
    whole = gaps / step
    near = (whole - whole.round()).abs() < 0.02 * whole.round().clamp(min=1)
    return step if float(near.double().mean()) > 0.9 else None


def preprocessing(pixels: Tensor, own: Tensor, std: Sequence[float]) -> GuardFinding:
    """How far an input ``(C, H, W)`` is from what the model's own library makes of the picture, in the range of colors.

    Args:
        pixels: the input.
        own: that of the library.
        std: standard deviation of each channel.

    Returns:
        The mean difference, 0 to 1 for colors in their range; NaN for inputs of other shapes.

    >>> preprocessing(torch.zeros(3, 8, 8), torch.ones(3, 8, 8), (0.5,) * 3).value
    0.5
    """
    value = float("nan")
    if pixels.shape == own.shape:
        value = float(((pixels - own).double() * torch.tensor(std, dtype=torch.float64)[:, None, None]).abs().mean())
    return _found(
        "preprocessing",
        value,
        f"the input differs from that of the model's own library by {value:.3f} of the range of colors, on average: another"
        " size, crop, interpolation or normalization"
        if value == value
        else "the input has another size than that of the model's own library",
    )


def fit(scores: Tensor) -> GuardFinding:
    """By how many standard deviations the text fits better than random texts.

    Args:
        scores: ``(T,)``, the text's own first, then those of the random texts.

    Returns:
        The number of standard deviations.

    >>> fit(torch.tensor([2.0, 0.0, 1.0, 0.0, 1.0])).value
    3.0
    """
    others = scores[1:].double()
    value = float((scores[0].double() - others.mean()) / others.std(correction=0).clamp(min=1e-12))
    return _found(
        "fit",
        value,
        f"the text fits {value:.1f} standard deviations better than random texts do: below the limit the model does not know"
        " the words or the picture, the text is not true of it, or the weights are wrong",
    )


def prompt(one: Tensor, others: Tensor) -> GuardFinding:
    """How alike a map is to those of random texts and of the empty text.

    Args:
        one: the map, ``(h, w)``.
        others: theirs, ``(T, h, w)``.

    Returns:
        The mean correlation, -1 to 1.

    >>> prompt(torch.eye(2), torch.stack([torch.eye(2), 2 * torch.eye(2)])).fired
    True
    """
    value = float(correlations(one, others).mean())
    return _found(
        "prompt",
        value,
        f"the map correlates by {value:.2f} with maps of random texts: above the limit it shows what the model looks at in"
        " any case, not what this text is about",
    )


def noise(one: Tensor, noisy: Tensor) -> GuardFinding:
    """How alike a map is to those of the picture with a little noise.

    Args:
        one: the map, ``(h, w)``.
        noisy: theirs, ``(R, h, w)``.

    Returns:
        The mean correlation, -1 to 1.

    >>> noise(torch.eye(2), torch.stack([torch.eye(2), 2 * torch.eye(2)])).fired
    False
    """
    value = float(correlations(one, noisy).mean())
    return _found(
        "noise",
        value,
        f"the map correlates by {value:.2f} with maps of the picture with a little noise: below the limit it is one of many",
    )


def weights(one: Tensor, randomized: Tensor) -> GuardFinding:
    """How alike a map is to that of a model with random weights.

    Args:
        one: the map, ``(h, w)``.
        randomized: those of models with more and more random layers, ``(R, h, w)``, of which the last one counts.

    Returns:
        The magnitude of the correlation, 0 to 1.

    >>> weights(torch.eye(2), torch.stack([torch.eye(2), torch.tensor([[1.0, 1.0], [0.0, 0.0]])])).value
    0.0
    """
    value = float(correlations(one, randomized)[-1].abs())
    return _found(
        "weights",
        value,
        f"the map correlates by {value:.2f} with that of a model with random weights: above the limit it shows the picture's"
        " edges, not what the model has learned",
    )


def carried(patches: Tensor, others: Tensor) -> GuardFinding:
    """What share of the evidence lies on patches rather than on class and register tokens, by magnitude.

    Args:
        patches: contributions of the patches, of any shape, see :func:`captum_gradeclip.attr.account`.
        others: those of the other tokens.

    Returns:
        The share, 0 to 1; NaN without any evidence.

    >>> carried(torch.tensor([0.5, -1.0]), torch.tensor([0.5])).value
    0.75
    """
    own, rest = (float(one.double().abs().sum()) for one in (patches, others))
    value = own / (own + rest) if own + rest > 0 else float("nan")
    return _found(
        "carried",
        value,
        f"{100 * value:.0f} % of the evidence lies on patches, the rest on class and register tokens, which no map shows",
    )


def correlations(one: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation of a map with each of others; 0 with a map that is flat.

    Args:
        one: the map, ``(h, w)``.
        others: ``(R, h, w)``.

    Returns:
        ``(R,)``, float64, -1 to 1.

    >>> others = torch.tensor([[[0.0, 2.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
    >>> correlations(torch.tensor([[0.0, 1.0]]), others).round().tolist()
    [1.0, -1.0, 0.0]
    """
    x, y = one.double().flatten(), others.double().flatten(1)
    x, y = x - x.mean(), y - y.mean(dim=1, keepdim=True)
    lengths = x.norm() * y.norm(dim=1)
    return torch.where(lengths > 1e-12 * one.abs().amax(), y @ x / lengths.clamp(min=1e-300), 0.0)


def _found(guard: Guard, value: float, message: str) -> GuardFinding:
    return GuardFinding(guard, value, LIMITS[guard], message)
