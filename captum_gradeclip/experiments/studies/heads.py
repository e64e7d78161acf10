"""Heads: which of them point at what a text says, and how much of the score does each of them carry?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ... import show
from ...attention import Interception, Record as AttentionRecord, model_heads
from ...attr import Account, GradECLIP, account
from ...images import Picture
from ...maps import to_pixels
from ...metrics import pointing_game
from ...scores import ImageTextScore
from ..data import Clevr, RegionRows, Sample, SceneRegions
from ..data.base import DeclaredDataset
from ..data.region import Region
from ..explainers import Explainer
from ..records import HeadResult, Record
from ..tasks import Prepared
from .attributes import ABLATION
from .base import PhraseStudy
from .head_figures import (
    ALL,
    CARRIED,
    LOST,
    PATCHES,
    POINTING,
    HeadFigures,
    every_head,
    findings,
    head_rows,
    kind_row,
    maps_by_kind,
    maps_of_all,
    over_all_texts,
)
from .heatmap import heatmaps
from .report import Listing, Report
from .settings import Reading

_NOTE = (
    "The best head is chosen by every other picture, and its pointing game measured on the rest. Carried: by all heads of"
    " all layers together."
)


class Heads(PhraseStudy):
    """For each head of each layer: does it point, how much of the score does it carry, and what is lost without it?"""

    name = "heads"
    summary = "which heads point at what a text says, and how much of the score does each carry?"
    needs = ("regions",)
    datasets: ClassVar[Mapping[str, type[DeclaredDataset]]] = {"scenes": SceneRegions, "clevr": Clevr, "csv": RegionRows}

    def choose_explainers(self) -> list[Explainer]:
        """Grad-ECLIP, whose signed maps of single heads with their attention add up to what the heads carry.

        Raises:
            ValueError: for settings of other methods, which do not divide a score among heads.
        """
        found = super().choose_explainers()
        if [one.kind for one in found] != [GradECLIP]:
            given = ", ".join(one.id for one in found)
            raise ValueError(f"methods: expected GradECLIP alone, since its heads are studied, got {given}; leave it out")
        return found

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """One record per sample; all heads of all layers are read from one pass of all samples."""
        asked = [_asked(one.sample) for one in samples]
        texts = [list(dict.fromkeys(region.text for region in some)) for some in asked]
        self.encode_all([text for some in texts for text in some])
        (explainer,) = self.explainers
        records: list[Record] = []
        regions = iter(asked)
        for group, own, every, columns in self.questions(samples, texts):
            score = self.score_of(every)
            pixels = self.setup.seen(explainer.kind, group.pixels, self.spec)
            found = account(score, pixels, columns, score.layers, by_head=True)
            lost = lost_without(score, pixels, columns, found.maps.shape[3])
            for number, (sample, picture, said) in enumerate(zip(group.samples, group.pictures, own)):
                results = compare_heads(found, lost, number, picture, next(regions), said)
                records.append({"id": sample.id, "method": explainer.id, "heads": results})
        return records

    def pictures(self, reading: Reading) -> dict[str, show.Drawing]:
        """What each head takes from the patches of some pictures for one of their texts, a row for each layer."""
        found = {}
        for number, one in enumerate(self.chosen(reading)):
            text = _asked(one.sample)[0].text
            score = self.score_of([text])
            signed = account(score, one.view.pixels.to(self.device), layers=score.layers, by_head=True).maps[0, 0].cpu()
            pixels = to_pixels(signed, one.view.frame_of(signed))
            rows = [show.Row(f"layer {layer}", maps, unit="cosine") for layer, maps in enumerate(pixels, 1)]
            style = show.Style(color_scale="each", width=300)
            titles = [f"{text}: head {head}" for head in range(1, signed.shape[1] + 1)]
            found[f"maps-{number}"] = show.matrix(one.sample.image, rows, titles, style=style)
        return found

    @classmethod
    def report(cls, records: Sequence[Record], name: str, method: str, data: str, reading: Reading) -> Report:
        """A table and heat maps of all heads, and which of them serve which kind of texts."""
        results = [one for record in records for one in record["heads"]]
        read = {ALL: HeadFigures([over_all_texts(record["heads"]) for record in records])}
        for kind in dict.fromkeys(one["kind"] for one in results):
            read[kind] = HeadFigures([one for one in results if one["kind"] == kind])
        total, title = read[ALL], f"heads, {data}, {method}"
        note = (
            f"Means over pictures. {POINTING[0].upper()}{POINTING[1:]}: whether the contributions of the head's patches are"
            f" highest on what the text is true of; {total.chance:.4f} by chance. Carried: the head's part of the score, to"
            f" first order, of {total.score:.4f} on average; what goes past the attention carries the rest. Lost without it:"
            " how far the model's score falls when the head returns zero."
        )
        kinds = {kind: kind_row(one) for kind, one in read.items()}
        tables = {
            "": Listing(f"{title}, by head", [POINTING, CARRIED, PATCHES, LOST], head_rows(total), note=note),
            "kinds": Listing(f"{title}, by kind", list(kinds[ALL]), kinds, note=_NOTE),
        }
        figures = {"heads": heatmaps(maps_of_all(total), columns=3), "kinds": heatmaps(maps_by_kind(read), columns=3)}
        _, layers, heads = total.pointing.shape
        facts = {"study": cls.name, "method": method, "data": data, "samples": len(records)}
        return Report(
            name,
            tables,
            figures,
            findings(read),
            {**facts, "layers": layers, "heads": heads},
            {"all.csv": every_head(read)},
        )


@torch.no_grad()
def lost_without(score: ImageTextScore, pixels: Tensor, columns: Sequence[Sequence[int]], heads: int) -> Tensor:
    """How far scores fall when one head returns zero for all tokens, ``(N, T, layers, heads)``; all else stays.

    Args:
        score: the score.
        pixels: inputs ``(N, 3, H, W)``.
        columns: the T columns of the score that are asked of each input.
        heads: the number of heads of each layer.
    """
    asked = torch.tensor(columns, device=pixels.device)
    whole: Tensor = score(pixels).gather(1, asked)
    lost = torch.empty(*asked.shape, len(score.layers), heads)
    for layer, head in np.ndindex(*lost.shape[2:]):
        with Interception(score.layers[layer : layer + 1], _without(head)):
            lost[:, :, layer, head] = (whole - score(pixels).gather(1, asked)).float().cpu()
    return lost


def _without(head: int) -> Callable[[AttentionRecord], Tensor]:
    """The rule of a layer that attends without one of its heads."""

    def rule(record: AttentionRecord) -> Tensor:
        kept = torch.ones(record.heads, 1, 1).to(record.value)
        kept[head] = 0.0
        values: Tensor = model_heads(record) * kept
        return values

    return rule


def compare_heads(
    found: Account, lost: Tensor, number: int, picture: Picture, regions: Sequence[Region], texts: Sequence[str]
) -> list[HeadResult]:
    """What heads take from one picture, for each kind of its texts.

    Args:
        found: the account by head.
        lost: see :func:`lost_without`.
        number: the picture's place in it.
        picture: where its input lies in the picture.
        regions: what the texts are true of, at least one.
        texts: the targets of the account, each of which may be the text of several regions.
    """
    maps, others = found.maps[number].double().cpu(), found.others[number].double().cpu()
    patches = maps.sum(dim=(-2, -1))
    carried, scores = patches + others.sum(dim=-1), found.scores[number].double().cpu()
    kinds: dict[str, list[tuple[int, Region]]] = {}
    for region in regions:
        kinds.setdefault(region.kind, []).append((texts.index(region.text), region))
    results: list[HeadResult] = []
    for kind, some in kinds.items():
        hits = torch.stack([_pointed(maps[place], region.mask, picture) for place, region in some]).mean(dim=0)
        places = [place for place, _ in some]
        results.append(
            {
                "kind": kind,
                "texts": len(some),
                "pointing": hits[:, :-1].tolist(),
                "together": hits[:, -1].tolist(),
                "carried": carried[places].mean(dim=0).tolist(),
                "patches": patches[places].mean(dim=0).tolist(),
                "lost": lost[number, places].double().mean(dim=0).tolist(),
                "score": float(scores[places].mean()),
                "chance": float(torch.stack([region.mask for _, region in some]).double().mean()),
            }
        )
    return results


def _asked(sample: Sample) -> list[Region]:
    """The regions of a sample without those that only the ablation of :class:`Attributes` asks about."""
    return [region for region in sample.regions if not region.kind.startswith(ABLATION)]


def _pointed(maps: Tensor, mask: Tensor, picture: Picture) -> Tensor:
    """Whether each head points at a mask, ``(layers, heads + 1)``; the last one is all heads together."""
    signed = torch.cat([maps, maps.sum(dim=1, keepdim=True)], dim=1)
    heat = to_pixels(signed, picture.frame_of(signed), unseen=float(signed.min()))
    masks = mask.expand(heat.shape).flatten(0, 1)
    pointed: Tensor = pointing_game(heat.flatten(0, 1), masks).double().unflatten(0, heat.shape[:2])
    return pointed
