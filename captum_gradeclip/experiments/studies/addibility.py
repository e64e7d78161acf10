"""Addibility: is the map of a phrase the sum of the maps of its words?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import show
from ...maps import stretched
from ...metrics import Regression, TTest, cosine_similarity, linear_regression, paired_t_test
from ..data import Sample, SceneTriples, TripleRows
from ..data.base import DeclaredDataset
from ..data.triple import TEXTS
from ..published import ADDIBILITY
from ..records import Record, TripleResult
from ..tables import Cell, Table
from ..tasks import Prepared
from .base import PhraseStudy, known
from .report import Listing, PValue, Report, cells, mean_cell, regression_cells, told_regression
from .scatter import Panel, Points, scatter
from .settings import Reading

COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "multiply": torch.mul,
    "maximum": torch.maximum,
}
"""How the maps of two words are combined."""
ALONE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "base alone": lambda base, word: base,
    "word alone": lambda base, word: word,
}
"""What stands beside the combinations: how close each map is by itself. It is ours, and does not compete."""
SCALES: dict[str, Callable[[Tensor], Tensor]] = {"normalized": stretched, "raw": torch.Tensor.double}
"""What is done to the maps before they are combined: each is stretched to [0, 1], or nothing."""
WHICH = ("matched", "mismatched")
_LEAST = 0.01
"""The least score of a base word by which others are divided."""
_P = "p against add"


class Addibility(PhraseStudy):
    """For each triple of words, how close the combined maps of two of them come to the map of their phrase (table VIII)."""

    name = "addibility"
    summary = "do the maps of words add up to the map of their phrase? (table VIII)"
    needs = ("triple",)
    datasets: ClassVar[Mapping[str, type[DeclaredDataset]]] = {"scenes": SceneTriples, "csv": TripleRows}

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """One record per sample and method; all samples share a pass, and so do the five texts of each."""
        texts = [_texts(one.sample) for one in samples]
        self.encode_all([text for some in texts for text in some])
        records: list[Record] = []
        for explainer in self.explainers:
            for one, said, (maps, scores) in zip(samples, texts, self.maps_of(explainer, samples, texts)):
                found = compare_triple(self.kind_of(one.sample), said, maps, scores)
                records.append({"id": one.sample.id, "method": explainer.id, "triple": found})
        return records

    def kind_of(self, sample: Sample) -> str:
        """What is put together."""
        return sample.triple.kind if sample.triple else ""

    def pictures(self, reading: Reading) -> dict[str, show.Drawing]:
        """The maps of the words and phrases of the first triple of each kind."""
        chosen = self.chosen(reading)
        return {f"maps-{number}": self.drawn(one, _texts(one.sample)) for number, one in enumerate(chosen)}

    @classmethod
    def report(cls, records: Sequence[Record], name: str, method: str, data: str, reading: Reading) -> Report:
        """Tables of the combinations, tests of adding against the others, and regressions on the score ratios."""
        triples = [record["triple"] for record in records]
        kinds = list(dict.fromkeys(one["kind"] for one in triples))
        zero = {name: sum(name in one["zero"] for one in triples) for name in TEXTS}
        blank = f"{sum(zero.values())} of {len(TEXTS) * len(triples)} maps are zero, or one value everywhere, and left out"
        tables: dict[str, Table] = {}
        tests: dict[str, dict[str, TTest]] = {}
        for scale in SCALES:
            tests[scale] = _tests(triples, scale)
            title = f"addibility, {data}, {method}, {scale} maps ({len(triples)} samples)"
            note = f"Cosine of the combined maps of two words, and of each alone, with the map of their phrase; {blank}."
            theirs = data == "csv" and scale == "normalized"  # scenes are none of the paper's pictures
            table = _table(triples, kinds, scale, title, note, tests[scale], theirs)
            tables["" if scale == "normalized" else scale] = table
        lines = _regressions(triples)
        weak = sum(None in one["ratios"].values() for one in triples)
        rows = {what: regression_cells(line) for what, line in lines.items()}
        note = f"In {weak} of {len(triples)} samples the base word scores less than {_LEAST}, and no ratio to it is taken."
        title = f"addibility, {data}, {method}, similarity to the base word and score ratio"
        tables["regressions"] = Listing(title, ["slope", "R^2", "p", "points"], rows, note=note)
        findings = [*_findings(tables[""], kinds, tests["normalized"]), f"{blank[0].upper()}{blank[1:]}."]
        findings.append(note)
        findings += [told_regression(what, line) for what, line in lines.items()]
        facts = {
            "study": cls.name,
            "method": method,
            "data": data,
            "samples": len(triples),
            "zero maps": zero,
            "base words without ratios": weak,
            "tests": {scale: {what: asdict(one) for what, one in some.items()} for scale, some in tests.items()},
            "regressions": {what: asdict(line) for what, line in lines.items()},
        }
        return Report(name, tables, {"panels": scatter(_panels(triples))}, findings, facts)


def compare_triple(kind: str, texts: Sequence[str], maps: Tensor, scores: Tensor) -> TripleResult:
    """What the maps of a base word, two words and two phrases say about each other.

    Args:
        kind: what is put together.
        texts: the five texts in the order of :data:`~captum_gradeclip.experiments.data.triple.TEXTS`.
        maps: their maps ``(5, h, w)``.
        scores: their scores ``(5,)``.

    >>> maps = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]])[:, None]
    >>> found = compare_triple("", "abcde", maps, torch.tensor([0.2, 0.1, 0.1, 0.3, 0.1]))
    >>> found["similarity"]["raw"]["maximum"], found["zero"]
    ({'matched': 0.9999999999999998, 'mismatched': None}, ['mismatched'])
    """
    zero = [not bool(stretched(one).any()) for one in maps]
    similarity: dict[str, dict[str, dict[str, float | None]]] = {}
    for scale, change in SCALES.items():
        base, *words, first, second = change(maps)
        similarity[scale] = {combination: {} for combination in (*COMBINATIONS, *ALONE)}
        for number, (which, word, phrase) in enumerate(zip(WHICH, words, (first, second)), 1):
            usable = not (zero[0] or zero[number] or zero[number + 2])
            for combination, combine in {**COMBINATIONS, **ALONE}.items():
                # The product of two maps that are not zero may be, if they share no patch: it has no direction, either.
                cosine = known(cosine_similarity(combine(base, word)[None], phrase[None])[0]) if usable else None
                similarity[scale][combination][which] = cosine
    to_base = cosine_similarity(maps[1:], maps[:1].expand(4, *maps.shape[1:]))
    divisible = float(scores[0]) >= _LEAST
    return {
        "kind": kind,
        "similarity": similarity,
        "to_base": {item: known(one) for item, one in zip(TEXTS[1:], to_base)},
        "ratios": {item: known(one / scores[0]) if divisible else None for item, one in zip(TEXTS[1:], scores[1:])},
        "zero": [name for name, one in zip(TEXTS, zero) if one],
    }


def _texts(sample: Sample) -> tuple[str, ...]:
    assert sample.triple is not None
    return sample.triple.texts


def _values(triples: Sequence[TripleResult], scale: str, combination: str, which: str) -> list[float | None]:
    return [one["similarity"][scale][combination][which] for one in triples]


def _tests(triples: Sequence[TripleResult], scale: str) -> dict[str, TTest]:
    """Adding against each other combination, paired by pictures: the mean of both phrases, where both are known of both."""
    found = {}
    for other in (*list(COMBINATIONS)[1:], *ALONE):
        pairs = []
        for one in triples:
            known_of = [
                (one["similarity"][scale]["add"][which], one["similarity"][scale][other][which])
                for which in WHICH
                if None not in (one["similarity"][scale]["add"][which], one["similarity"][scale][other][which])
            ]
            if known_of:
                pairs.append(np.mean(np.array(known_of, dtype=np.float64), axis=0))
        if len(pairs) > 1:
            first, second = np.array(pairs).T
            found[other] = paired_t_test(first, second)
    return found


def _table(
    triples: Sequence[TripleResult],
    kinds: Sequence[str],
    scale: str,
    title: str,
    note: str,
    tests: Mapping[str, TTest],
    published: bool = False,
) -> Table:
    columns = {f"{which}, {kind}": (which, kind) for which in WHICH for kind in kinds}
    rows: dict[str, dict[str, Cell]] = {}
    for combination in (*COMBINATIONS, *ALONE):
        of_kinds = {
            column: mean_cell(_values([one for one in triples if one["kind"] == kind], scale, combination, which))
            for column, (which, kind) in columns.items()
        }
        tested = tests.get(combination)
        rows[combination] = cells({**of_kinds, _P: PValue(tested.p_value) if tested else None})
    same = published and any(column in ADDIBILITY["add"] for column in columns)
    if same:
        note += " In brackets the figures of the Grad-ECLIP paper for its own 60 pictures, which are not published."
    return _Ranking(title, [*columns, _P], rows, note=note, published=ADDIBILITY if same else None)


class _Ranking(Table):
    """A table in which neither p-values nor maps that stand alone compete."""

    def ranked(self, column: str) -> list[str]:
        return [] if column == _P else [row for row in super().ranked(column) if row in COMBINATIONS]


def _regressions(triples: Sequence[TripleResult]) -> dict[str, Regression]:
    """The lines of the three panels, of matched and of mismatched words and phrases."""
    found = {}
    for title, x, y, groups in _AXES:
        for which, (across, up) in zip(WHICH, groups):
            points = _points(triples, across, up)
            found[f"{title}, {which}: {y} on {x}"] = linear_regression(*points)
    return found


Item = tuple[str, str]
"""``"to_base"`` or ``"ratios"``, and the name of a word or a phrase."""
_SIMILARITY, _RATIO = "similarity to the base word", "score ratio"
_AXES: tuple[tuple[str, str, str, tuple[tuple[Item, Item], tuple[Item, Item]]], ...] = (
    (
        "words",
        _RATIO,
        _SIMILARITY,
        ((("ratios", "matched"), ("to_base", "matched")), (("ratios", "mismatched"), ("to_base", "mismatched"))),
    ),
    (
        "phrases",
        _RATIO,
        _SIMILARITY,
        (
            (("ratios", "matched_phrase"), ("to_base", "matched_phrase")),
            (("ratios", "mismatched_phrase"), ("to_base", "mismatched_phrase")),
        ),
    ),
    (
        "ratios",
        "score ratio of the word",
        "score ratio of the phrase",
        (
            (("ratios", "matched"), ("ratios", "matched_phrase")),
            (("ratios", "mismatched"), ("ratios", "mismatched_phrase")),
        ),
    ),
)


def _points(triples: Sequence[TripleResult], across: Item, up: Item) -> tuple[list[float], list[float]]:
    """The values of two items where both are known."""
    x: list[float] = []
    y: list[float] = []
    for one in triples:
        first, second = (one["to_base" if group == "to_base" else "ratios"][item] for group, item in (across, up))
        if first is not None and second is not None:
            x.append(first)
            y.append(second)
    return x, y


def _panels(triples: Sequence[TripleResult]) -> list[Panel]:
    return [
        Panel(title, x, y, [Points(which, *_points(triples, *axes)) for which, axes in zip(WHICH, groups)])
        for title, x, y, groups in _AXES
    ]


def _findings(table: Table, kinds: Sequence[str], tests: Mapping[str, TTest]) -> list[str]:
    columns = [column for column in table.columns if column != _P]
    closest = {column: table.best(column) for column in columns}
    found = []
    for combination in COMBINATIONS:
        where = [column for column, best in closest.items() if best == combination]
        if where:
            found.append(
                f"closest to the phrase is {combination} in {len(where)} of {len(columns)} columns: {'; '.join(where)}"
            )
    for other, test in tests.items():
        side = "closer" if test.statistic > 0 else "farther"
        found.append(f"adding is {side} than {other}: t {test.statistic:.2f}, p {PValue(test.p_value)}")
    return found
