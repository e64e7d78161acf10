"""Concreteness: do concrete words weigh more than abstract ones, and does it matter how often they are used?"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from ...maps import merge_words
from ...metrics import bootstrap_interval, linear_regression
from ...quoting import legible
from ...scores import TextImageScore, tokenize
from ..data import CaptionRows, CocoCaptions, DataError, Sample, Scenes
from ..data.base import DeclaredDataset
from ..explainers import Batch
from ..records import Record
from ..tables import Cell, Table
from ..tasks import Prepared
from . import frequency, ratings
from .base import Study
from .report import Count, Figures4, Listing, Report, cells, regression_cells, told_regression
from .scatter import Panel, Points, scatter
from .settings import Reading

_ZOOM = 25
"""How many words a zoom shows, or a third of them if they are few."""


@dataclass(frozen=True)
class WordMean:
    """How much a word weighs on average.

    Attributes:
        word: the word, in lower case.
        importances: its weight in each caption, as a share of the weight of the caption's weightiest word.
        rating: how concrete it is; ``None`` if it is not rated.
        form: the form that it is rated under; empty if it is not rated.
        zipf: how often it is used; ``None`` if that is not known.
    """

    word: str
    importances: Sequence[float]
    rating: float | None = None
    form: str = ""
    zipf: float | None = None

    @property
    def importance(self) -> float:
        """The mean."""
        return float(np.mean(self.importances))


class Concreteness(Study):
    """For each caption of each picture, the weights of its words (section V-C of the Grad-ECLIP paper)."""

    name = "concreteness"
    summary = "do concrete words weigh more, and does it matter how often words are used? (section V-C)"
    needs = ("captions",)
    of_texts = True
    datasets: ClassVar[Mapping[str, type[DeclaredDataset]]] = {"scenes": Scenes, "coco": CocoCaptions, "csv": CaptionRows}

    def make_score(self) -> TextImageScore:
        """The score of a blank picture, by which methods are tried."""
        blank = torch.zeros(1, self.tower.channels, *self.tower.size)
        return TextImageScore(self.loaded.model, blank.to(self.device, self.tower.dtype))

    def prepare(self, sample: Sample) -> Prepared:
        """The sample with its picture as an input.

        Raises:
            DataError: naming a sample without captions, or with one that the model cannot read.
        """
        sample.require(self.needs)
        try:
            tokenize(self.loaded.model, list(sample.captions), self.loaded.tokenizer)
        except ValueError as error:
            raise DataError(f"{sample.id}: {error}") from None
        return Prepared(sample, self.picture(sample, self.setup.view))

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """One record per sample and method; pictures are encoded together, and so are captions."""
        records: list[Record] = []
        for group in self.groups(samples):
            score = TextImageScore(self.loaded.model, group.pixels)
            captions = [(row, caption) for row, sample in enumerate(group.samples) for caption in sample.captions]
            tokens = tokenize(self.loaded.model, [caption for _, caption in captions], self.loaded.tokenizer)
            rows = [row for row, _ in captions]
            seeds = [group.samples[row].index for row in rows]
            for explainer in self.explainers:
                maps = explainer.explain(Batch(score, tokens, rows, seeds)).cpu()
                words = merge_words(maps, tokens.cpu(), self.loaded.tokenizer)
                for row, sample in enumerate(group.samples):
                    own = [some for number, some in zip(rows, words) if number == row]
                    records.append({"id": sample.id, "method": explainer.id, "captions": own})
        return records

    @classmethod
    def report(cls, records: Sequence[Record], name: str, method: str, data: str, reading: Reading) -> Report:
        """Regressions of the mean weight of words on ratings and on frequency, every word, and those that are not rated."""
        counts, found, silent, total = importances(records)
        chosen = [word for word, _ in counts.most_common(reading.words) if word in found]
        rated = ratings.of_scenes() if reading.ratings is None else ratings.read(reading.ratings)
        axis, used = frequency.look_up(reading.frequency, chosen, counts)
        words = []
        for word in chosen:
            rating = rated.of(word)
            one = WordMean(word, found[word], zipf=used.get(word))
            words.append(one if rating is None else replace(one, rating=rating[0], form=rating[1]))
        with_rating = [one for one in words if one.rating is not None]
        with_zipf = [one for one in words if one.zipf is not None]
        lines = {
            f"importance on {rated.name}": linear_regression(
                [one.rating for one in with_rating if one.rating is not None], [one.importance for one in with_rating]
            ),
            f"importance on {axis}": linear_regression(
                [one.zipf for one in with_zipf if one.zipf is not None], [one.importance for one in with_zipf]
            ),
        }
        unrated = [one.word for one in words if one.rating is None]
        note = (
            f"{len(words)} words of {total} captions, each with its mean importance (the weightiest of a caption has 1);"
            f" {silent} captions have no positive word and are left out; {len(unrated)} words are not rated. The regression"
            " on frequency is ours."
        )
        title = f"concreteness, {data}, {method}"
        rows = {what: regression_cells(line) for what, line in lines.items()}
        tables: dict[str, Table] = {"": Listing(title, ["slope", "R^2", "p", "points"], rows, note=note)}
        findings = [told_regression(what, line) for what, line in lines.items()]
        if rated.kinds:
            kinds = _by_kind(words, rated.kinds)
            tables["kinds"] = _kinds_table(f"{title}, by kind of word", kinds)
            means = {kind: own["importance"].value for kind, own in tables["kinds"].rows.items()}
            order = sorted(means, key=lambda kind: -means[kind])
            findings.append("by mean importance: " + " > ".join(f"{kind} {means[kind]:.3f}" for kind in order))
        findings.append(f"{silent} of {total} captions have no positive word.")
        findings.append(f"not rated: {', '.join(unrated) if unrated else 'none'}")
        facts = {
            "study": cls.name,
            "method": method,
            "data": data,
            "samples": len(records),
            "captions": total,
            "captions without a positive word": silent,
            "ratings": rated.name,
            "frequency": axis,
            "regressions": {what: asdict(line) for what, line in lines.items()},
            "unrated": unrated,
        }
        figures = {
            "concreteness": scatter(_panels(with_rating, rated.name, [one.rating or 0.0 for one in with_rating])),
            "frequency": scatter(_panels(with_zipf, axis, [one.zipf or 0.0 for one in with_zipf], rated.name)),
        }
        return Report(name, tables, figures, findings, facts, {"words.csv": _every_word(words, counts)})


def importances(records: Sequence[Record]) -> tuple[Counter[str], dict[str, list[float]], int, int]:
    """The weights of words in captions, each as a share of that of the caption's weightiest word.

    Words are in lower case, and what has no letter and no digit is no word.

    Args:
        records: records with captions.

    Returns:
        How often each word occurs, its weights in those captions that have a positive one, the number of captions that have
        none, and the number of all captions.

    >>> captions = [[("A", 0.1), ("ring", 0.4), (".", 0.5)], [("a", 0.0)]]
    >>> importances([{"id": "0", "method": "m", "captions": captions}])
    (Counter({'a': 2, 'ring': 1}), {'a': [0.25], 'ring': [1.0]}, 1, 2)
    """
    counts: Counter[str] = Counter()
    found: dict[str, list[float]] = {}
    silent = total = 0
    for record in records:
        for caption in record["captions"]:
            words = [(word.lower(), weight) for word, weight in caption if any(one.isalnum() for one in word)]
            counts.update(word for word, _ in words)
            most = max((weight for _, weight in words), default=0.0)
            total += 1
            if most <= 0:
                silent += 1
                continue
            for word, weight in words:
                found.setdefault(word, []).append(weight / most)
    return counts, found, silent, total


def _by_kind(words: Sequence[WordMean], kinds: Mapping[str, str]) -> dict[str, list[WordMean]]:
    found: dict[str, list[WordMean]] = {}
    for one in words:
        if one.form:
            found.setdefault(kinds[one.form], []).append(one)
    return found


def _kinds_table(title: str, kinds: Mapping[str, Sequence[WordMean]]) -> Table:
    """The mean importance of each kind, over all its words in all captions."""
    rows: dict[str, dict[str, Cell]] = {}
    for kind, some in kinds.items():
        values = [value for one in some for value in one.importances]
        rows[kind] = cells(
            {
                "importance": Figures4.of(values),
                "mean of the words": Figures4.of([one.importance for one in some]),
                "words": Count(len(some)),
                "n": Count(len(values)),
            }
        )
    note = "importance: over all occurrences; the kinds are our own marks of the words of scenes."
    return Listing(title, ["importance", "mean of the words", "words", "n"], rows, note=note)


def _panels(words: Sequence[WordMean], axis: str, x: Sequence[float], key: str = "") -> list[Panel]:
    """All words, then the most and the least important ones; with a key, their color is the rating."""

    def points(numbers: Sequence[int], fitted: bool = False) -> Points:
        some = [words[number] for number in numbers]
        # Words without a rating would have no color.
        colors = [one.rating if one.rating is not None else float("nan") for one in some] if key else []
        places, heights = [x[number] for number in numbers], [one.importance for one in some]
        return Points("words", places, heights, [one.word for one in some], colors, fitted)

    order = sorted(range(len(words)), key=lambda number: -words[number].importance)
    count = min(_ZOOM, len(order) // 3)
    parts = {
        "all words": points(order, fitted=True),
        f"the {count} most important": points(order[:count]),
        f"the {count} least important": points(order[len(order) - count :]),
    }
    return [Panel(title, axis, "mean importance", [some], key) for title, some in parts.items()]


def _every_word(words: Sequence[WordMean], counts: Mapping[str, int]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["word", "count", "importance", "low", "high", "rating", "rated as", "frequency"])
    for one in sorted(words, key=lambda one: -one.importance):
        low, high = bootstrap_interval(one.importances)
        numbers = [f"{value:.6f}" for value in (one.importance, low, high)]
        known = [
            "" if one.rating is None else f"{one.rating:g}",
            legible(one.form),
            "" if one.zipf is None else f"{one.zipf:.4f}",
        ]
        writer.writerow([legible(one.word), counts[one.word], *numbers, *known])
    return file.getvalue()
