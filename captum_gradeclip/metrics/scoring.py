"""Score functions: how well a model does on changed inputs, read off its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

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
    if performance == "score":
        return target_score(targets)
    if isinstance(performance, int) and performance > 0:
        return top_k(targets, performance)
    raise ValueError(
        "performance: expected 'score', a number k of at least 1 for the accuracy among the k best, or a function that makes"
        f" a score function of targets, got {performance!r}"
    )


def target_score(targets: Tensor) -> ScoreFunction:
    """The output of the target itself, for example the cosine of an image with its text.

    Args:
        targets: column of each example, ``(N,)``, integer.

    Returns:
        A score function; its range is that of the outputs.

    >>> import torch
    >>> target_score(torch.tensor([2]))(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([0.5000])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        return output.gather(1, targets.to(output.device)[example][:, None])[:, 0]

    return measure


def top_k(labels: Tensor, k: int = 1) -> ScoreFunction:
    """Accuracy: 1 where fewer than ``k`` outputs exceed that of the label, else 0.

    Args:
        labels: right class of each example, ``(N,)``, integer.
        k: among how many best classes the label may be, at least 1 (default 1).

    Returns:
        A score function with values 0 and 1.

    >>> import torch
    >>> top_k(torch.tensor([2]), 2)(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([1.])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        own = output.gather(1, labels.to(output.device)[example][:, None])
        return ((output > own).sum(dim=1) < k).float()

    return measure


def recall(positives: Tensor, k: int = 1) -> ScoreFunction:
    """Retrieval by the changed input: 1 where the best of its own columns is among the ``k`` best columns, else 0.

    Args:
        positives: which columns belong to each example, ``(N, T)``, boolean, at least one per example.
        k: among how many best columns one of them has to be, at least 1 (default 1).

    Returns:
        A score function with values 0 and 1.

    >>> import torch
    >>> recall(torch.tensor([[True, False, True]]))(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([0]))
    tensor([0.])
    """

    def measure(output: Tensor, example: Tensor) -> Tensor:
        own = output.masked_fill(~positives.to(output.device)[example], float("-inf")).amax(dim=1, keepdim=True)
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
        A score function with values 0 and 1.

    >>> import torch
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
