"""Attributes: does the map of a word lie on the things that the word is true of?"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import ClassVar

import torch
from torch import Tensor

from ... import show
from ...maps import stretched, to_pixels
from ...metrics import (
    TTest,
    cosine_similarity,
    covariance,
    js_divergence,
    kl_divergence,
    optimal_transport,
    paired_t_test,
    pearson_correlation,
)
from ...quoting import legible
from ..data import Clevr, RegionRows, Sample, SceneRegions
from ..data.base import DeclaredDataset
from ..data.region import Region
from ..published import ATTRIBUTES
from ..records import Record, RegionResult
from ..tables import Table
from ..tasks import Prepared
from .base import PhraseStudy, known
from .report import Count, PValue, Report, cells, mean_cell, mean_of
from .scatter import Panel, Points, scatter
from .settings import Reading, StudySettings

UNIFORM, MARGIN = "cosine, uniform map", "cosine, own - others"
COLUMNS = ("cosine", UNIFORM, MARGIN, "Pearson", "covariance", "OTD", "KLD", "JSD")
LOWER = frozenset({"OTD", "KLD", "JSD"})
SINGLE = ("color", "shape", "material", "size", "location")
"""The kinds of words of the Grad-ECLIP paper, in the order of its table."""
ABLATION = "left thing: "
"""What the kinds of texts begin with that only the ablation asks about."""
_NOTE = (
    "Means over all words and pictures. A uniform map has the cosine that stands beside that of the maps. Own - others: the"
    " cosine with the things that a word is true of, less that with the other things, so that 0 means that the map does not"
    " tell them apart; both are ours."
)


class Attributes(PhraseStudy):
    """For each word and picture, how its map lies on the things that the word is true of (table IX)."""

    name = "attributes"
    summary = "do the maps of words lie on the things that have what they say? (table IX)"
    needs = ("regions",)
    datasets: ClassVar[Mapping[str, type[DeclaredDataset]]] = {"scenes": SceneRegions, "clevr": Clevr, "csv": RegionRows}

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """One record per sample and method; all samples share a pass, and so do all texts of each."""
        texts = [list(dict.fromkeys(region.text for region in one.sample.regions)) for one in samples]
        self.encode_all([text for some in texts for text in some])
        settings = self.settings if isinstance(self.settings, StudySettings) else StudySettings()
        records: list[Record] = []
        for explainer in self.explainers:
            for one, said, (maps, _) in zip(samples, texts, self.maps_of(explainer, samples, texts)):
                heat = to_pixels(maps, one.view.frame_of(maps), unseen=0.0)
                regions = one.sample.regions
                own = heat[[said.index(region.text) for region in regions]]
                found = compare_regions(own, regions, settings)
                records.append({"id": one.sample.id, "method": explainer.id, "regions": found})
        return records

    def kind_of(self, sample: Sample) -> str:
        """Whether there is a left thing of two, which the ablation needs."""
        return "left" if any(region.kind.startswith(ABLATION) for region in sample.regions) else ""

    def pictures(self, reading: Reading) -> dict[str, show.Drawing]:
        """The maps of all texts of some pictures, with the masks above and the texts' own word maps below."""
        chosen = self.chosen(reading)
        if reading.examples is None:
            chosen = sorted(chosen, key=lambda one: self.kind_of(one.sample) != "left")[:1]
        found = {}
        for number, one in enumerate(chosen):
            regions = list({region.text: region for region in one.sample.regions}.values())
            masks = torch.stack([region.mask for region in regions])
            texts = [region.text for region in regions]
            found[f"maps-{number}"] = self.drawn(one, texts, words=True, masks=masks)
        return found

    @classmethod
    def report(cls, records: Sequence[Record], name: str, method: str, data: str, reading: Reading) -> Report:
        """Tables by kind and by word, the order of the kinds, and what a word of place adds."""
        found = [region for record in records for region in record["regions"]]
        kinds = list(dict.fromkeys(one["kind"] for one in found))
        order = [kind for kind in SINGLE if kind in kinds]
        order += [kind for kind in kinds if kind not in SINGLE and "+" not in kind and not kind.startswith(ABLATION)]
        others = [kind for kind in kinds if kind not in order]
        zero = {kind: sum(one["zero"] for one in found if one["kind"] == kind) for kind in kinds}
        blank = (
            f"{sum(zero.values())} of {len(found)} maps are constant; they have no cosine, and are uniform as distributions."
        )
        title = f"attributes, {data}, {method}"
        tables = {"": _table(f"{title}, by kind", _by_kind(found, order), data == "clevr", f"{_NOTE} {blank}")}
        if others:
            tables["phrases"] = _table(f"{title}, phrases", _by_kind(found, others), note=_NOTE)
        words = {f"{text} ({kind})": some for (kind, text), some in _by_word(found, order).items()}
        tables["words"] = _table(f"{title}, by word", words, note=_NOTE)
        tests = _ablation(records)
        findings = [*_findings(found, order), f"{blank[0].upper()}{blank[1:]}", *_told(tests)]
        facts = {
            "study": cls.name,
            "method": method,
            "data": data,
            "samples": len(records),
            "constant maps": zero,
            "location against no location": {what: {**asdict(test), "n": n} for what, (test, n, _) in tests.items()},
        }
        texts = {"texts.csv": _every_text(records)}
        return Report(name, tables, {"margins": scatter([_panel(found, order)])}, findings, facts, texts)


def compare_regions(maps: Tensor, regions: Sequence[Region], settings: StudySettings) -> list[RegionResult]:
    """All measures of maps against the masks of what their texts are true of.

    Args:
        maps: one map for each region, ``(K, H, W)`` at the size of the masks, on the CPU.
        regions: the regions.
        settings: grid and cost of optimal transport.

    >>> mask = torch.tensor([[True, False]])
    >>> (found,) = compare_regions(torch.tensor([[[1.0, 0.0]]]), [Region("red", "color", mask, ~mask)], StudySettings())
    >>> found["values"]["cosine"], found["values"]["cosine, own - others"], found["zero"]
    (1.0, 1.0, False)
    """
    heat = stretched(maps.double())
    masks = torch.stack([region.mask for region in regions]).double()
    others = torch.stack([region.mask if region.others is None else region.others for region in regions]).double()
    cosine = cosine_similarity(heat, masks)
    margins = cosine - cosine_similarity(heat, others)
    columns: dict[str, Sequence[Tensor | float]] = {
        "cosine": list(cosine),
        UNIFORM: list(cosine_similarity(torch.ones_like(heat), masks)),
        MARGIN: [float("nan") if region.others is None else margin for region, margin in zip(regions, margins)],
        "Pearson": list(pearson_correlation(heat, masks)),
        "covariance": list(covariance(heat, masks)),
        "OTD": list(optimal_transport(heat, masks, settings.grid, settings.cost)),
        "KLD": list(kl_divergence(heat, masks)),
        "JSD": list(js_divergence(heat, masks)),
    }
    return [
        {
            "text": region.text,
            "kind": region.kind,
            "values": {column: known(values[number]) for column, values in columns.items()},
            "zero": not bool(heat[number].any()),
        }
        for number, region in enumerate(regions)
    ]


def _by_kind(found: Sequence[RegionResult], kinds: Sequence[str]) -> dict[str, list[RegionResult]]:
    return {kind: [one for one in found if one["kind"] == kind] for kind in kinds}


def _by_word(found: Sequence[RegionResult], kinds: Sequence[str]) -> dict[tuple[str, str], list[RegionResult]]:
    words: dict[tuple[str, str], list[RegionResult]] = {}
    for kind in kinds:
        for one in found:
            if one["kind"] == kind:
                words.setdefault((kind, one["text"]), []).append(one)
    return words


def _table(title: str, rows: Mapping[str, Sequence[RegionResult]], published: bool = False, note: str = "") -> Table:
    made = {
        row: cells(
            {**{column: mean_cell([one["values"][column] for one in some]) for column in COLUMNS}, "n": Count(len(some))}
        )
        for row, some in rows.items()
    }
    if published:
        note += (
            " In brackets the figures of the Grad-ECLIP paper for 50 pictures of CLEVR; what it calls correlation stands at"
            " the covariance, whose size it has, and the cost and unit of its transport are not told."
        )
    return _Measures(title, [*COLUMNS, "n"], made, LOWER, note, ATTRIBUTES if published else None)


class _Measures(Table):
    """A table in which numbers of cases and references do not compete."""

    def ranked(self, column: str) -> list[str]:
        return [] if column in ("n", UNIFORM) else super().ranked(column)


def _ablation(records: Sequence[Record]) -> dict[str, tuple[TTest, int, float]]:
    """Whether a word of place moves the map to the left one of two things: the test, the pairs and the mean difference."""
    found = {}
    for measure in ("cosine", MARGIN):
        pairs = []
        for record in records:
            values = {one["kind"].removeprefix(ABLATION): one["values"][measure] for one in record["regions"] if _left(one)}
            with_place, without = values.get("location + shape"), values.get("shape")
            if with_place is not None and without is not None:
                pairs.append((with_place, without))
        if len(pairs) > 1:
            first, second = zip(*pairs)
            change = sum(one - other for one, other in pairs) / len(pairs)
            found[measure] = (paired_t_test(first, second), len(pairs), change)
    return found


def _left(one: RegionResult) -> bool:
    return one["kind"].startswith(ABLATION)


def _findings(found: Sequence[RegionResult], kinds: Sequence[str]) -> list[str]:
    means = {kind: mean_of([one["values"]["cosine"] for one in some]) for kind, some in _by_kind(found, kinds).items()}
    ranked = sorted((kind for kind in kinds if means[kind] is not None), key=lambda kind: -(means[kind] or 0.0))
    said = [f"by cosine: {' > '.join(ranked)}"]
    margins = {kind: mean_cell([one["values"][MARGIN] for one in some]) for kind, some in _by_kind(found, kinds).items()}
    known_of = {kind: cell for kind, cell in margins.items() if cell is not None}
    ranked = sorted(known_of, key=lambda kind: -known_of[kind].value)
    said.append(f"by own - others: {' > '.join(f'{kind} {known_of[kind]}' for kind in ranked)}")
    lost = [kind for kind in ranked if not known_of[kind].low > 0]
    told = ", ".join(lost) if lost else "none of them"
    said.append(f"not told apart from other things (the interval of own - others reaches 0): {told}")
    return said


def _told(tests: Mapping[str, tuple[TTest, int, float]]) -> list[str]:
    return [
        f'"left" before the shape changes {measure} to the left one of two things by {change:+.4f}: t {test.statistic:.2f},'
        f" p {PValue(test.p_value)} ({n} pictures)"
        for measure, (test, n, change) in tests.items()
    ]


def _panel(found: Sequence[RegionResult], kinds: Sequence[str]) -> Panel:
    """For each word, the cosine of its maps against that of a uniform map."""
    points = []
    for kind in kinds:
        x: list[float] = []
        y: list[float] = []
        names: list[str] = []
        for (_, text), some in _by_word(found, [kind]).items():
            across, up = (mean_of([one["values"][column] for one in some]) for column in (UNIFORM, "cosine"))
            if across is not None and up is not None:
                x.append(across)
                y.append(up)
                names.append(text)
        points.append(Points(kind, x, y, names, fitted=False))
    return Panel("words on what they are true of", "cosine of a uniform map with the mask", "cosine of the map", points)


def _every_text(records: Sequence[Record]) -> str:
    """One line for each text of each picture."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["sample", "kind", "text", *COLUMNS, "constant"])
    for record in records:
        for one in record["regions"]:
            numbers = ("" if (value := one["values"][column]) is None else f"{value:.6f}" for column in COLUMNS)
            writer.writerow([legible(record["id"]), legible(one["kind"]), legible(one["text"]), *numbers, int(one["zero"])])
    return file.getvalue()
