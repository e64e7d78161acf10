"""Reading: which words does the score need, and which reading of the model shows them?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip import CLIP
from scipy import stats
from torch import Tensor

from ... import scenes
from ...adapters.base import Foreign
from ...attr import GAME, GradECLIP, GradECLIPReadings
from ...maps import merge_words
from ...metrics.scoring import known
from ...scenes import Phrase, SceneDataset, Thing
from ...scores import TextImageScore
from .finding import Finding, HeldOut, batches, finding

OTHERS = 256
"""Number of the pictures that the contrast holds a picture against."""
DEFAULT = "single head, loosened, ReLU per layer (default)"
"""The reading that all others are compared with."""
LEAVE_OUT = "leave one word out"
"""The row of the truth: how far the model's own score falls without a word."""
COLUMNS = (
    "colour above every function word",
    "shape above every function word",
    "both in one caption",
    "shape shown where it matters",
    "rank correlation",
    "two top words",
)
Map = Callable[[Tensor], Tensor]
"""Token ids ``(N, L)`` to the weights of all tokens ``(N, L)``, each text explained for the picture of its number."""


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """Several readings of captions of one thing, beside other things."""
    yield from reading(model, held_out.of(2, 3, 4), held_out.others(OTHERS, 2, 3, 4))


def reading(model: CLIP, data: SceneDataset, others: SceneDataset) -> Iterator[Finding]:
    """How well several readings of the last eight layers of the text tower agree with leaving words out.

    Every other caption is "a picture of the COLOUR SHAPE", the others are "there is a COLOUR SHAPE"; all words but the last
    two are function words here. For each reading:

    - the share of captions in which the color, the shape, or both, weigh more than every function word;
    - the share of those captions in which the shape *matters*, which is to say that without it the score falls further than
      without any function word, where the reading has the shape above every function word;
    - the rank correlation (Spearman's) of the weights with the falls of the score, the mean over all captions, 0 for a
      caption whose words all weigh the same;
    - the fall of the score without the two words that weigh most, divided by the largest fall that leaving out two words can
      give: mean over all captions by mean over all captions, since the fall of a single caption may be next to nothing.

    Each figure has a bootstrap interval of 95 %, and is compared with that of the default by a paired t-test over captions.

    Args:
        model: the model.
        data: scenes of several things, of which the first one is named.
        others: other scenes, whose mean is what the contrast holds each picture against.
    """
    tokenizer = scenes.tokenizer()
    mean = torch.cat([TextImageScore(model, x).image_features for _, x in batches(model, others, "other pictures")]).mean(0)
    judged: dict[str, list[Judgment]] = {}
    first = 0
    for items, pixels in batches(model, data, "reading"):
        captions = [caption_of(item.scene.things[0], first + number) for number, item in enumerate(items)]
        first += len(items)
        score = TextImageScore(model, pixels)
        falls = leave_out(score, captions, tokenizer)
        for caption, one in zip(captions, falls):
            judged.setdefault(LEAVE_OUT, []).append(judge([one[(place,)] for place in range(len(caption.split()))], one))
        tokens = tokenizer(captions)
        for name, explain in readings(score, TextImageScore(model, score.image_features - mean)).items():
            for weighed, one in zip(merge_words(explain(tokens), tokens, tokenizer), falls):
                judged.setdefault(name, []).append(judge([weight for _, weight in weighed], one))
    usual = compare(judged[DEFAULT], judged[LEAVE_OUT])
    for name, some in judged.items():
        values = usual if name == DEFAULT else compare(some, judged[LEAVE_OUT])
        for column in COLUMNS:
            yield from finding(f"{column}: {name}", values[column], (name, column), usual[column])


def readings(score: TextImageScore, contrast: TextImageScore) -> dict[str, Map]:
    """The readings by name.

    Args:
        score: the score of texts with as many pictures as texts are explained.
        contrast: the same with pictures from which their mean is taken off.
    """
    own = list(range(len(score.image_features)))

    def grad_eclip(of: TextImageScore, options: Mapping[str, Foreign]) -> Map:
        return lambda tokens: GradECLIP.for_score(of).attribute(tokens, target=own, **options)

    def mean_of_heads(options: Mapping[str, Foreign]) -> Map:
        return lambda tokens: grad_eclip(score, {"heads": "each", **options})(tokens).mean(dim=1)

    def both(options: Mapping[str, Foreign]) -> Map:
        return lambda tokens: GradECLIPReadings.for_score(score).attribute(tokens, target=own, **options)

    return {
        **{name: grad_eclip(score, options) for name, options in _GRAD_ECLIP.items()},
        "mean over heads, loosened, signed": mean_of_heads(_SIGNED),
        "mean over heads, loosened, ReLU per layer": mean_of_heads({}),
        "mean over heads, softmax, ReLU per layer": mean_of_heads({"spatial_weight": "softmax"}),
        "both readings, signed": both(_SIGNED),
        "both readings, ReLU per layer": both({}),
        "GAME, last layer": lambda tokens: GAME(score, score.layers[-1:]).attribute(tokens, target=own),
        "GAME, all layers": lambda tokens: GAME(score, score.layers).attribute(tokens, target=own),
        "contrast with other pictures (default)": grad_eclip(contrast, {}),
    }


_SIGNED = {"relu_attributions": False}
_GRAD_ECLIP: dict[str, Mapping[str, object]] = {
    "single head, loosened, sum then ReLU (released)": {"relu_before_sum": False},
    "single head, loosened, signed": _SIGNED,
    DEFAULT: {},
    "single head, softmax, signed": {"spatial_weight": "softmax", **_SIGNED},
    "single head, softmax, ReLU per layer": {"spatial_weight": "softmax"},
    "single head, no weight, signed": {"spatial_weight": "none", **_SIGNED},
    "single head, no weight, ReLU per layer": {"spatial_weight": "none"},
    "own heads, loosened, signed": {"heads": "model", **_SIGNED},
    "own heads, loosened, ReLU per layer": {"heads": "model"},
    "own heads, softmax, signed": {"heads": "model", "spatial_weight": "softmax", **_SIGNED},
    "own heads, softmax, ReLU per layer": {"heads": "model", "spatial_weight": "softmax"},
    "own heads, no weight, signed": {"heads": "model", "spatial_weight": "none", **_SIGNED},
    "own heads, no weight, ReLU per layer": {"heads": "model", "spatial_weight": "none"},
}


def caption_of(thing: Thing, number: int) -> str:
    """The caption of a thing: of an even number "a picture of the ...", of an odd one "there is a ...".

    >>> ring = Thing("red", "ring", "striped", "small", x=0.2, y=0.5, radius=0.1, angle=0.0)
    >>> caption_of(ring, 0), caption_of(ring, 1)
    ('a picture of the red ring', 'there is a red ring')
    """
    words = Phrase(thing.colour, thing.shape).words()
    return f"there is {scenes.with_article(words)}" if number % 2 else f"a picture of the {words}"


Places = tuple[int, ...]
"""Places of words in a caption, counted from 0, in ascending order."""
Falls = Mapping[Places, float]
"""How far a score falls without the words at one or two places of a caption."""


@torch.no_grad()
def leave_out(
    score: Callable[[Tensor], Tensor], captions: Sequence[str], tokenizer: Callable[[list[str]], Tensor]
) -> Sequence[Falls]:
    """How far the score of each caption falls without each word, and without each two of them, in one forward pass.

    Args:
        score: token ids ``(B, L)`` to scores ``(B, N)``, of which column n belongs to caption n.
        captions: N captions of at least three words.
        tokenizer: strings to token ids.
    """
    texts: list[str] = []
    asked: list[tuple[int, Places]] = []
    for number, caption in enumerate(captions):
        words = caption.split()
        for size in range(3):
            for gone in itertools.combinations(range(len(words)), size):
                texts.append(" ".join(word for place, word in enumerate(words) if place not in gone))
                asked.append((number, gone))
    scores = known(score(tokenizer(texts)), "model").double().tolist()
    left = {one: scores[row][one[0]] for row, one in enumerate(asked)}
    falls: list[dict[Places, float]] = [{} for _ in captions]
    for number, gone in asked:
        if gone:
            falls[number][gone] = left[number, ()] - left[number, gone]
    return falls


@dataclass(frozen=True)
class Judgment:
    """What a reading makes of one caption, whose last words are a color and a shape.

    Attributes:
        colour: whether the color weighs more than every function word.
        shape: whether the shape does.
        rank: rank correlation of the weights with the falls of the score, -1 to 1.
        fall: fall of the score without the two words that weigh most.
        best: the largest fall that leaving out two words gives.
    """

    colour: bool
    shape: bool
    rank: float
    fall: float
    best: float


def judge(weights: Sequence[float], falls: Falls) -> Judgment:
    """Holds the weights of the words of a caption against what leaving words out does to the score.

    Args:
        weights: of all words in reading order, the last two a color and a shape. Of words that weigh the same, the first
            counts as the higher one.
        falls: see :func:`leave_out`.

    >>> falls = {(0,): 0.0, (1,): 0.2, (2,): 0.4, (0, 1): 0.2, (0, 2): 0.4, (1, 2): 0.5}
    >>> judge([0.1, 0.9, 0.0], falls)
    Judgment(colour=True, shape=False, rank=-0.5, fall=0.2, best=0.5)
    """
    *function, colour, shape = weights
    most = sorted(range(len(weights)), key=lambda place: -weights[place])[:2]
    return Judgment(
        colour > max(function),
        shape > max(function),
        rank_correlation(weights, [falls[(place,)] for place in range(len(weights))]),
        falls[min(most), max(most)],
        max(fall for gone, fall in falls.items() if len(gone) == 2),
    )


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's correlation: that of the ranks, where equal values share the mean of theirs; 0 if all of one are equal.

    >>> round(rank_correlation([1.0, 2.0, 3.0], [10.0, 30.0, 20.0]), 3), rank_correlation([1.0, 1.0], [1.0, 2.0])
    (0.5, 0.0)
    """
    if len(set(one)) < 2 or len(set(other)) < 2:
        return 0.0
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def compare(judged: Sequence[Judgment], truth: Sequence[Judgment]) -> dict[str, list[float]]:
    """The values of a reading by column of the table, whose means are its figures.

    Args:
        judged: what the reading makes of each caption.
        truth: what leaving words out makes of it.
    """
    best = float(np.mean([one.best for one in judged]))
    values: tuple[list[float], ...] = (
        [one.colour for one in judged],
        [one.shape for one in judged],
        [one.colour and one.shape for one in judged],
        [one.shape for one, true in zip(judged, truth) if true.shape],
        [one.rank for one in judged],
        [one.fall / best for one in judged] if best > 0 else [],
    )
    return dict(zip(COLUMNS, values))
