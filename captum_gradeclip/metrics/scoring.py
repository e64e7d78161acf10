"""Score functions: how well a model does on changed inputs, read off its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..arguments import check_number, check_tensor
from ..quoting import quoted

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
"""A function of the outputs ``(B, T)`` for changed inputs, and of the numbers ``(B,)`` of the examples (among those of the
call) that the inputs are variants of. It returns one value per input, ``(B,)``."""
ScoreChoice = Literal["score"] | int | Callable[[Tensor], ScoreFunction]
"""How a metric is told its score function: ``"score"`` for :func:`target_score`, a number k for :func:`top_k`, or a function
that makes one from the targets of each update."""


def score_function(performance: ScoreChoice, targets: Tensor) -> ScoreFunction:
    """Makes the score function that a metric was told.

    Args:
        performance: ``"score"``, a number k of at least 1, or a function from targets to a score function.
        targets: label or column of each example, ``(N,)``, integer.

    Returns:
        The score function for these examples.

    Raises:
        ValueError: if ``performance`` is none of these.
    """
    if callable(performance):
        return performance(targets)
    if isinstance(performance, str) and performance == "score":
        return target_score(targets)
    if isinstance(performance, int) and not isinstance(performance, bool) and performance > 0:
        return top_k(targets, performance)
    raise ValueError(
        "performance: expected 'score', a number k of at least 1 for the accuracy among the k best, or a function that makes"
        f" a score function of targets, got {quoted(performance)}"
    )


def known(output: Tensor, parameter: str = "forward_func") -> Tensor:
    """The same outputs, if all of them are numbers: NaN is never among the best, and never counts as right.

    Args:
        output: scores of any shape; infinite ones have their place in an order.
        parameter: what gave them, for the error message (default ``"forward_func"``).

    Raises:
        ValueError: if NaN is among them.

    >>> known(torch.tensor([1.0, float("nan")]), "gallery")
    Traceback (most recent call last):
    ValueError: gallery: expected numbers, got NaN in 1 of 2 scores; look for what is not finite in the model or its inputs
    """
    wrong = int(output.isnan().sum())
    if wrong:
        raise ValueError(
            f"{parameter}: expected numbers, got NaN in {wrong} of {output.numel()} scores; look for what is not finite in"
            " the model or its inputs"
        )
    return output


def finite_values(values: Tensor) -> Tensor:
    """What a score function has measured, float32 or float64, if all of it is finite.

    Args:
        values: one value per input.

    Raises:
        ValueError: if a value is NaN or infinite, of which there is no mean.

    >>> finite_values(torch.tensor([True, False]))
    tensor([1., 0.])
    """
    if not torch.isfinite(values).all():
        raise ValueError("performance: expected finite values of the score function, got NaN or infinite ones among them")
    return values if values.dtype == torch.float64 else values.float()


def target_score(targets: Tensor) -> ScoreFunction:
    """The output of the target itself, for example the cosine of an image with its text.

    Args:
        targets: column of each example, ``(N,)``, integer.

    Returns:
        A score function; its range is that of the outputs. It raises ``ValueError`` for outputs of NaN.

    >>> target_score(torch.tensor([2]))(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([0.5000])

    Source: the score of Petsiuk, Das, Saenko: "RISE", BMVC 2018, and of figure 1 of arXiv 2502.18816.
    """
    check_tensor("targets", targets, "(N)", kind="integers")

    def measure(output: Tensor, example: Tensor) -> Tensor:
        return known(output).gather(1, _columns("targets", targets, output, example))[:, 0]

    return measure


def margin(targets: Tensor, rivals: Tensor) -> ScoreFunction:
    r"""How far the output of the target lies above the best output of its rivals.

    .. math:: m_n = S_{n, t_n} - \max_{r \in R_n} S_{n, r}

    Adding a constant to all outputs changes nothing, so that a margin tells what makes the target, and not everything
    alike, more or less likely.

    Args:
        targets: column of each example, ``(N,)``, integer.
        rivals: the columns that each example's target is compared with, ``(N, T)``, boolean, at least one per example and
            never the target itself.

    Returns:
        A score function; it is positive where the target beats all of its rivals, and its range is twice that of the
        outputs. It raises ``ValueError`` for outputs of NaN.

    Raises:
        TypeError, ValueError: if an argument is not as above.

    >>> rivals = torch.tensor([[True, False, False, True]])
    >>> margin(torch.tensor([2]), rivals)(torch.tensor([[0.125, 0.9, 0.5, 0.25]]), torch.tensor([0]))
    tensor([0.2500])

    Source: this package.
    """
    check_tensor("targets", targets, "(N)", kind="integers")
    check_tensor("rivals", rivals, "(N, T)", kind="booleans", examples=("targets", len(targets)))
    if not rivals.any(dim=1).all():
        raise ValueError("rivals: expected at least one rival of each example's target, got an example without any")
    every = torch.arange(len(targets), device=rivals.device)
    if rivals.gather(1, _columns("targets", targets, rivals, every)).any():
        raise ValueError("rivals: expected other columns than the example's target, got a target among its own rivals")

    def measure(output: Tensor, example: Tensor) -> Tensor:
        _check_columns("rivals", rivals, output)
        best = known(output).masked_fill(~rivals.to(output.device)[example], float("-inf")).amax(dim=1)
        return output.gather(1, _columns("targets", targets, output, example))[:, 0] - best

    return measure


def top_k(labels: Tensor, k: int = 1) -> ScoreFunction:
    """Accuracy: 1 where fewer than ``k`` outputs exceed that of the label, else 0.

    Args:
        labels: right class of each example, ``(N,)``, integer.
        k: among how many best classes the label may be, at least 1 (default 1).

    Returns:
        A score function with values 0 and 1. It raises ``ValueError`` for outputs of NaN.

    >>> top_k(torch.tensor([2]), 2)(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([1.])

    Source: the accuracy of table I of arXiv 2502.18816.
    """
    check_tensor("labels", labels, "(N)", kind="integers")
    check_number("k", k, whole=True, least=1)

    def measure(output: Tensor, example: Tensor) -> Tensor:
        own = known(output).gather(1, _columns("labels", labels, output, example))
        return ((output > own).sum(dim=1) < k).float()

    return measure


def recall(positives: Tensor, k: int = 1) -> ScoreFunction:
    """Retrieval by the changed input: 1 where the best of its own columns is among the ``k`` best columns, else 0.

    Args:
        positives: which columns belong to each example, ``(N, T)``, boolean, at least one per example.
        k: among how many best columns one of them has to be, at least 1 (default 1).

    Returns:
        A score function with values 0 and 1. It raises ``ValueError`` for outputs of NaN.

    >>> recall(torch.tensor([[True, False, True]]))(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([0.])

    Source: the retrieval of texts by images in table II of arXiv 2502.18816.
    """
    check_tensor("positives", positives, "(N, T)", kind="booleans")
    check_number("k", k, whole=True, least=1)
    if not positives.any(dim=1).all():
        raise ValueError("positives: expected at least one column that belongs to each example, got an example without any")

    def measure(output: Tensor, example: Tensor) -> Tensor:
        _check_columns("positives", positives, output)
        own = known(output).masked_fill(~positives.to(output.device)[example], float("-inf")).amax(dim=1, keepdim=True)
        return ((output > own).sum(dim=1) < k).float()

    return measure


def reverse_recall(gallery: Tensor, targets: Tensor, own: Tensor, k: int = 1) -> ScoreFunction:
    """Retrieval of the changed input: 1 where the query of its column finds it among the ``k`` best of a gallery, else 0.

    The gallery holds the scores of unchanged examples; only that of the changed input is replaced.

    Args:
        gallery: scores of the unchanged examples, ``(M, T)``.
        targets: column (query) of each example, ``(N,)``, integer.
        own: row of each example in the gallery, ``(N,)``, integer.
        k: among how many best rows the example has to be, at least 1 (default 1).

    Returns:
        A score function with values 0 and 1. It raises ``ValueError`` for outputs of NaN.

    Raises:
        TypeError, ValueError: if an argument is not as above, or NaN is among the scores of the gallery.

    >>> gallery = torch.tensor([[0.9], [0.3]])
    >>> measure = reverse_recall(gallery, torch.tensor([0]), torch.tensor([0]))
    >>> measure(torch.tensor([[0.5], [0.2]]), torch.tensor([0, 0]))
    tensor([1., 0.])

    Source: the retrieval of images by texts in table II of arXiv 2502.18816; that one image at a time is changed is our
    reading.
    """
    known(check_tensor("gallery", gallery, "(M, T)"), "gallery")
    check_tensor("targets", targets, "(N)", kind="integers")
    check_tensor("own", own, kind="integers", examples=("targets", len(targets)))
    check_number("k", k, whole=True, least=1)
    if not ((own >= 0) & (own < len(gallery))).all():
        raise ValueError(f"own: expected rows of the gallery, 0 to {len(gallery) - 1}, got {own.tolist()[:8]}")

    def measure(output: Tensor, example: Tensor) -> Tensor:
        _check_columns("gallery", gallery, output)
        column, row = _columns("targets", targets, output, example)[:, 0], own.to(output.device)[example]
        score = known(output).gather(1, column[:, None])
        others = gallery.to(output.device).T[column]
        above = (others > score).scatter(1, row[:, None], False)
        return (above.sum(dim=1) < k).float()

    return measure


def _check_columns(name: str, given: Tensor, output: Tensor) -> None:
    """Refuses what has another number of columns than the output."""
    if output.shape[1] != given.shape[1]:
        raise ValueError(f"{name}: expected {output.shape[1]} columns, as the model answers, got {given.shape[1]}")


def _columns(name: str, targets: Tensor, output: Tensor, example: Tensor) -> Tensor:
    """The column of each output, ``(B, 1)``, refused if the output has no such column."""
    columns = targets.to(output.device)[example].long()[:, None]
    if not ((columns >= 0) & (columns < output.shape[1])).all():
        wrong = columns[(columns < 0) | (columns >= output.shape[1])]
        raise ValueError(
            f"{name}: expected columns of the model's output, 0 to {output.shape[1] - 1}, got {int(wrong[0])} among them"
        )
    return columns
