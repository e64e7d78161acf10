"""The user study of the Grad-ECLIP paper: do maps help people foretell which of two captions a model scores higher?

One picture, two captions: which one does the model score higher? Each participant answers Set I without maps, then Set II
with a map for each caption. Each picture stands in either set equally often, and examples with their scores come before each
set.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from .. import scenes
from ..adapters.base import Foreign
from ..adapters.loading import Loaded
from ..arguments import check_number
from ..experiments.data import CaptionRows
from ..explain import Explanation, explain, is_classifier
from ..metrics.significance import TTest, paired_t_test
from ..quoting import legible, quoted

PICTURES, EXAMPLES = 10, 2
"""How many pictures the paper asks about, half of them in each set, and how many examples come before each set here."""
_SIDE = 448


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture with two captions, and what the model says of them.

    Attributes:
        name: the name of the picture.
        explanation: the explanation of the picture with both captions.
    """

    name: str
    explanation: Explanation

    @property
    def captions(self) -> tuple[str, str]:
        """The two captions."""
        first, second = self.explanation.texts
        return first, second

    @property
    def scores(self) -> tuple[float, float]:
        """The scores of the unmodified model."""
        assert self.explanation.scores is not None, "pairs are made with scores"
        first, second = self.explanation.scores[0].tolist()
        return first, second

    @property
    def higher(self) -> int:
        """Which caption the model scores higher, 0 or 1."""
        first, second = self.scores
        return int(second > first)


@dataclass(frozen=True)
class Question:
    """One question to a participant.

    Attributes:
        picture: the number of the picture.
        part: 1 for Set I, 2 for Set II.
        maps: whether the maps are shown.
        swapped: whether the second caption stands first.
        example: whether it is an example, whose scores are shown and which is not answered.
    """

    picture: int
    part: int
    maps: bool
    swapped: bool
    example: bool = False


@dataclass(frozen=True)
class Reply:
    """What a participant answered to one question; the columns of the CSV file.

    Attributes:
        participant: the number of the participant, from 0.
        part: 1 for Set I, 2 for Set II.
        position: the place of the question in its set, from 0.
        picture: the name of the picture.
        maps: 1 if the maps were shown, else 0.
        first: the caption that stood first.
        second: the other one.
        score_first: the score of the model for the first caption.
        score_second: that for the second one.
        chosen: 0 if the participant chose the first caption, 1 for the second.
        right: 1 if the model scores that caption higher, else 0.
        seconds: time from the question to the answer.
        model: what the model is called.
        method: the id of the method of the maps.
    """

    participant: int
    part: int
    position: int
    picture: str
    maps: int
    first: str
    second: str
    score_first: float
    score_second: float
    chosen: int
    right: int
    seconds: float
    model: str = ""
    method: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a study found.

    Attributes:
        participants: how many answered all questions; the others do not count.
        without: mean share of right answers in Set I; NaN without participants.
        with_maps: the same in Set II.
        test: the paired t-test over participants, whether Set II is the better one; ``None`` below two participants.
        seconds: mean time of an answer in Set I and in Set II.
    """

    participants: int
    without: float
    with_maps: float
    test: TTest | None
    seconds: tuple[float, float]

    def __str__(self) -> str:
        many = "1 participant" if self.participants == 1 else f"{self.participants} participants"
        told = f"{many}: {self.without:.1%} right without maps, {self.with_maps:.1%} with maps"
        if self.test is None:
            return f"{told}; a paired test takes two participants"
        degrees = self.participants - 1
        return f"{told}; paired t({degrees}) = {self.test.statistic:.3f}, p = {self.test.p_value:.3f} (one-tailed)"


def scene_material(count: int, seed: int = 0) -> list[tuple[str, Image.Image, tuple[str, str]]]:
    """Pictures of scenes, each with two captions that are drawn from those of all scenes, as the paper does on its data.

    Args:
        count: how many pictures, at least 2.
        seed: of the scenes and the captions, at least 0 (default 0).

    Returns:
        Names, pictures, and the two captions of each, which differ.

    >>> [captions for _, _, captions in scene_material(2)] == [captions for _, _, captions in scene_material(2)]
    True
    """
    check_number("count", count, whole=True, least=2)
    check_number("seed", seed, whole=True, least=0)
    rng = np.random.default_rng([seed, 24])
    shown = [scenes.sample_scene(seed, number, "evaluation", counts=(2, 3)) for number in range(count)]
    pool = list(dict.fromkeys(scenes.sample_caption(scene, rng).text for scene in shown for _ in range(4)))
    found = []
    for number, scene in enumerate(shown):
        first, second = rng.choice(len(pool), size=2, replace=False)
        found.append((f"scene {number}", scenes.draw(scene, _SIDE)[0], (pool[first], pool[second])))
    return found


def row_material(file: Path, count: int, seed: int = 0) -> list[tuple[str, Image.Image, tuple[str, str]]]:
    """Pictures of your own, each with two captions that are drawn from those of all pictures.

    Args:
        file: a CSV file with the columns ``image`` and ``caption``, see
            :class:`captum_gradeclip.experiments.data.CaptionRows`.
        count: how many pictures are drawn, at least 2.
        seed: of all draws, at least 0 (default 0).

    Returns:
        As :func:`scene_material`; fewer where the file has fewer pictures.

    Raises:
        DataError: for a file that cannot be read, naming line and column.
        ValueError: for fewer than two different captions.
    """
    check_number("count", count, whole=True, least=2)
    check_number("seed", seed, whole=True, least=0)
    data = CaptionRows(file)
    rng = np.random.default_rng([seed, 24])
    samples = [data[int(number)] for number in rng.permutation(len(data))[:count]]
    pool = list(dict.fromkeys(row.text("caption") for group in data.groups for row in group))
    if len(pool) < 2:
        raise ValueError(f"data: expected at least two different captions in {quoted(file)}, got {len(pool)}")
    found = []
    for sample in samples:
        first, second = rng.choice(len(pool), size=2, replace=False)
        found.append((sample.id, sample.image, (pool[first], pool[second])))
    return found


def pairs_of(
    loaded: Loaded, material: Iterable[tuple[str, Image.Image, tuple[str, str]]], method: str, **options: Foreign
) -> list[Pair]:
    """Explains pictures with two captions each by a method.

    Args:
        loaded: a model of images and texts.
        material: names, pictures and captions.
        method: the id of a method, whose maps are shown in Set II.
        options: of the method.

    Returns:
        The pairs; those whose captions score the same are left out, since no answer would be right.

    Raises:
        ValueError: for a classifier, which compares no captions.
    """
    if is_classifier(loaded.model):
        raise ValueError("model: a study compares captions; choose a model of images and texts")
    found = [
        Pair(
            name,
            explain(
                loaded.model,
                image,
                list(captions),
                loaded.tokenizer,
                preprocess=loaded.processor,
                method=method,
                words=False,
                **options,
            ),
        )
        for name, image, captions in material
    ]
    return [one for one in found if one.scores[0] != one.scores[1]]


def plan(participant: int, pictures: int = PICTURES, examples: int = EXAMPLES, seed: int = 0) -> list[Question]:
    """The questions of a participant, in their order.

    Set I, without maps, always stands before Set II, with maps, as in the paper. Two participants, of an even number and the
    next odd one, have the same halves of the pictures the other way round, so that each picture stands equally often in both
    sets; each two draw new halves. Order and sides are drawn for each participant.

    Args:
        participant: number of the participant, from 0.
        pictures: how many pictures are asked about, an even number, at least 2 (default 10).
        examples: how many examples come before each set, those behind the pictures, at least 0 (default 2).
        seed: of all draws (default 0).

    Returns:
        Examples and questions of Set I, then those of Set II, whose examples show maps as well.

    Raises:
        ValueError: if an argument is not as above.

    >>> [(one.part, one.maps, one.example) for one in plan(0, pictures=2, examples=1)]
    [(1, False, True), (1, False, False), (2, True, True), (2, True, False)]
    """
    check_number("participant", participant, whole=True, least=0)
    check_number("pictures", pictures, whole=True, least=2)
    check_number("examples", examples, whole=True, least=0)
    if pictures % 2:
        raise ValueError(f"pictures: expected an even number, half of them for each set, got {pictures}")
    halves = np.random.default_rng([seed, participant // 2, 0]).permutation(pictures).reshape(2, -1)
    if participant % 2:
        halves = halves[::-1]
    rng = np.random.default_rng([seed, participant, 1])
    found: list[Question] = []
    for part, half in enumerate(halves, start=1):
        maps = part == 2
        found += [Question(pictures + number, part, maps, swapped=False, example=True) for number in range(examples)]
        found += [Question(int(one), part, maps, swapped=bool(rng.integers(2))) for one in rng.permutation(half)]
    return found


def outcome(replies: Sequence[Reply]) -> Outcome:
    """The accuracies of both sets, and the paired test whether maps help.

    Args:
        replies: the answers of all participants. Who answered fewer questions than others, or none in a set, does not count.

    Returns:
        The outcome, with a one-tailed test as in the paper.

    Source: arXiv 2502.18816, the user study: 67.6 % without and 80.0 % with maps, t(33) = 1.904, p = 0.032.
    """
    of: dict[int, dict[int, list[Reply]]] = {}
    for one in replies:
        of.setdefault(one.participant, {}).setdefault(one.part, []).append(one)
    longest = max((len(several) for parts in of.values() for several in parts.values()), default=0)
    complete = [parts for parts in of.values() if all(len(parts.get(part, ())) == longest for part in (1, 2))]
    if not complete:
        return Outcome(0, float("nan"), float("nan"), None, (float("nan"), float("nan")))
    shares = {part: [float(np.mean([one.right for one in parts[part]])) for parts in complete] for part in (1, 2)}
    first, second = (float(np.mean([one.seconds for parts in complete for one in parts[part]])) for part in (1, 2))
    test = paired_t_test(shares[2], shares[1], "greater") if len(complete) > 1 else None
    return Outcome(len(complete), float(np.mean(shares[1])), float(np.mean(shares[2])), test, (first, second))


def csv_of(replies: Iterable[Reply]) -> str:
    """Answers as CSV, a line for each.

    >>> csv_of([]).strip().split(",")[:3]
    ['participant', 'part', 'position']
    """
    file = io.StringIO()
    names = [one.name for one in fields(Reply)]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    for one in replies:
        told = asdict(one)
        writer.writerow({name: legible(value) if isinstance(value, str) else value for name, value in told.items()})
    return file.getvalue()


def replies_in(text: str) -> list[Reply]:
    """The answers in a CSV file.

    Raises:
        ValueError: for a file of something else, or naming the line that cannot be read.
    """
    found, rows, names = [], csv.DictReader(io.StringIO(text)), [one.name for one in fields(Reply)]
    if text and list(rows.fieldnames or ()) != names:
        raise ValueError(
            f"answers: expected a first line {','.join(names)}, got {quoted(','.join(rows.fieldnames or ()))}; name another"
            " file, so that this one is not replaced"
        )
    for number, row in enumerate(rows, start=2):
        try:
            found.append(_reply(row))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"answers: expected the columns of csv_of in line {number}, got {quoted(row)}; remove or repair the line"
            ) from None
    return found


def _reply(row: Mapping[str, str]) -> Reply:
    kinds: dict[str, type] = {"int": int, "float": float, "str": str}
    return Reply(**{one.name: kinds[str(one.type)](row[one.name]) for one in fields(Reply)})
