"""What decides the figures of a study, and what decides only how its records are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path

from ...arguments import check_number, one_of
from ...metrics.baselines import Baseline
from ...metrics.transport import MOST_CELLS, Cost
from ..tasks import Settings


@dataclass(frozen=True)
class StudySettings(Settings):
    """What decides the records of a study, beside model and data set; records of other settings are refused.

    Attributes:
        methods: names of methods as :func:`captum_gradeclip.experiments.explainers` takes them (default Grad-ECLIP alone).
        grid: the most rows and columns of the grid of optimal transport, 1 to 32 (default 16).
        cost: the cost of optimal transport, ``"euclidean"`` (default) or ``"squared"``, see
            :func:`captum_gradeclip.metrics.optimal_transport`.

    The other attributes are those of :class:`~captum_gradeclip.experiments.Settings`.

    >>> StudySettings(grid=40)
    Traceback (most recent call last):
    ...
    ValueError: grid: expected at least 1 and at most 32, got 40
    """

    methods: str | Sequence[str] = "GradECLIP"
    grid: int = 16
    cost: Cost = "euclidean"
    canvas: InitVar[Baseline | None] = None

    def __post_init__(self, canvas: Baseline | None) -> None:
        super().__post_init__(canvas)
        check_number("grid", self.grid, whole=True, least=1, most=MOST_CELLS)
        one_of("cost", self.cost, Cost)


@dataclass(frozen=True)
class Reading:
    """How the records of a study are read; the same records can be read again in another way.

    Attributes:
        ratings: a file that says how concrete words are, see :func:`~captum_gradeclip.experiments.studies.ratings.read`;
            ``None`` (default) for our own marks of the words of scenes.
        frequency: ``"captions"`` (default) for how often words occur in the captions themselves, ``"wordfreq"`` for the
            package of that name, or a file of words with their counts.
        words: how many of the most frequent words are looked at, at least 3 (default 1000, as in the Grad-ECLIP paper).
        examples: numbers of the samples that are drawn; ``None`` (default) for the first one of each kind.

    Raises:
        TypeError, ValueError: naming an attribute that is out of range.

    >>> Reading(words=200, examples=[0, 3]).words
    200
    >>> Reading(words=2)
    Traceback (most recent call last):
    ValueError: words: expected at least 3, got 2
    """

    ratings: Path | None = None
    frequency: str | Path = "captions"
    words: int = 1000
    examples: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_number("words", self.words, whole=True, least=3)
        for number in self.examples or ():
            check_number("examples", number, whole=True, least=0)
