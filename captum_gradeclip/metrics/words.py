"""Captions with words taken away, or given back, in the order of their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..arguments import check_numbers, one_of
from .curves import Mode


def word_steps(
    words: Sequence[str], weights: Sequence[float], mode: Mode, counts: Sequence[int] = (1, 2, 3, 4, 5)
) -> Iterator[str]:
    """Takes the most important words out of a caption, or gives them back to an empty one, step by step.

    Words that come back stand in the order of the sentence. A caption that has run out of words stays as it is. Of words of
    equal weight, the first in the sentence goes first.

    Args:
        words: the words of the caption, in order.
        weights: one weight per word.
        mode: ``"deletion"`` or ``"insertion"``.
        counts: the numbers of words, 0 or more, after which the caption is given (default 1 to 5, as in the papers).

    Yields:
        The caption after each number of words.

    Raises:
        TypeError: for weights or counts that are no numbers.
        ValueError: if the mode is unknown, words and weights differ in number, a weight is not finite, or a count is
            below 0.

    >>> list(word_steps(["a", "red", "dog"], [0.0, 0.2, 0.8], "deletion", [1, 2]))
    ['a red', 'a']
    >>> list(word_steps(["a", "red", "dog"], [0.0, 0.2, 0.8], "insertion", [1, 2]))
    ['dog', 'red dog']

    Source: the deletion and insertion of words in table III of arXiv 2502.18816; that they return in the order of the
    sentence is our reading.
    """
    one_of("mode", mode, Mode)
    numbers = check_numbers("weights", weights, count=len(words))
    order = sorted(range(len(words)), key=lambda number: -numbers[number])
    for count in check_numbers("counts", counts, whole=True, least=0):
        chosen = set(order[: int(count)])
        yield " ".join(word for number, word in enumerate(words) if (number in chosen) == (mode == "insertion"))
