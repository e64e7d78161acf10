"""Does each word of a caption point at its own thing, and does the model need this word and this region together?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ... import scenes
from ...attr import GradECLIP, WordRegionAttribution
from ...maps import merge_regions
from ...metrics import margin
from ...quoting import quoted
from ...scores import ImageTextScore, tokenize
from ..data import LeftOutError, Sample
from ..explainers import Batch
from ..records import MODES, Record
from ..setups import Setup
from ..tables import Table, margin_table
from .base import Group, Prepared, shown_masks
from .targeted import Targeted

_NOTE = (
    "Each word that names one of two classes is asked for. PG: its map has its highest value on this class. What the word"
    " adds is the score of the caption minus that of the caption without the word. Del loss: the mean fall of this while up"
    " to half of the pixels are taken away in the order of the map. Ins gain: its mean rise while they come back into an"
    " empty picture. A method explains the word as a prompt, or the phrase or the caption that it stands in."
)


@dataclass(frozen=True)
class _Said:
    """What is said about a picture of two classes.

    Attributes:
        caption: ``"a NAME and a NAME"``.
        phrases: both names.
        words: for each word of the names its place in the caption, and 0 or 1 for the name that it is part of.
        labels: both classes.
    """

    caption: str
    phrases: Sequence[str]
    words: Sequence[tuple[int, int]]
    labels: Sequence[int]

    @classmethod
    def of(cls, names: Sequence[str], labels: Sequence[int]) -> _Said:
        """The caption of two names."""
        words: list[tuple[int, int]] = []
        said: list[str] = []
        for number, name in enumerate(names):
            said += ["and"] * number + scenes.with_article(name).split()
            words += [(place, number) for place in range(len(said) - len(name.split()), len(said))]
        return cls(" ".join(said), names, words, labels)

    def texts(self) -> list[str]:
        """The caption, both names, each word alone, and the caption without each word."""
        said = self.caption.split()
        alone = [said[place] for place, _ in self.words]
        fewer = [" ".join(said[:place] + said[place + 1 :]) for place, _ in self.words]
        return [self.caption, *self.phrases, *alone, *fewer]


class Pairs(Targeted):
    """Pair pointing, pair deletion and pair insertion of the words of "a NAME and a NAME", for two classes of a picture.

    These are the two classes that cover most of what the model judges; a picture of fewer than two is left out and counted,
    and so is one whose names the tokenizer does not read word by word. :class:`~captum_gradeclip.WordRegionAttribution` is
    compared with maps of prompts by the methods of the settings: of the word alone, of the name that it is part of, and of
    the caption. Everything else is as in :class:`Targeted`.
    """

    name = "pairs"
    summary = "words of a caption and their regions: pair pointing, deletion and insertion"
    things = (2,)

    @classmethod
    def table(cls, records: Sequence[Record], title: str, setup: Setup) -> Table:
        """Pair pointing, what is lost by pair deletion and won by pair insertion, and the oracle's share of it."""
        return margin_table(records, title, _NOTE)

    def prepare(self, sample: Sample) -> Prepared:
        """As for :class:`Targeted`; a sample whose names are not read word by word is left out."""
        prepared = super().prepare(sample)
        caption = self._said(sample, prepared).caption
        tokens = self.tokens(caption)[0].cpu()
        read = [word for word, _ in merge_regions(torch.zeros(len(tokens), 1, 1), tokens, self.loaded.tokenizer)]
        if read != caption.lower().split():
            raise LeftOutError(f"{sample.id}: its caption {quoted(caption)} is read as the words {read}")
        return prepared

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Curves of what each word adds and the pointing game, each a mean over the words of the caption."""
        return [record for one in samples for group in self.groups([one]) for record in self._measured(one, group)]

    def _measured(self, one: Prepared, group: Group) -> Iterator[Record]:
        said, sample = self._said(one.sample, one), one.sample
        count = len(said.words)
        self.score = ImageTextScore(self.loaded.model, tokenize(self.loaded.model, said.texts(), self.loaded.tokenizer))
        labels = [said.labels[number] for _, number in said.words]
        rivals = torch.zeros(count, 3 + 2 * count, dtype=torch.bool)
        rivals[torch.arange(count), 3 + count + torch.arange(count)] = True
        added = {"margin": margin(torch.zeros(count, dtype=torch.long), rivals)}
        for method, maps in self._maps_of_words(said, group, labels):
            traced = self.trace(group.some([0] * count), maps, added)
            yield {
                "id": sample.id,
                "method": method,
                "values": {"PG": self._pointed(maps.cpu(), sample, one.view, labels)},
                "curves": {
                    "named": {
                        mode: {
                            "margin": torch.tensor([curve[mode]["margin"] for curve in traced]).double().mean(dim=0).tolist()
                        }
                        for mode in MODES
                    }
                },
            }

    def _maps_of_words(self, said: _Said, group: Group, labels: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
        """By contender, a map for each word, ``(W, 1, h, w)``."""
        count, tokens = len(said.words), self.tokens(said.caption)
        seen = self.setup.seen(GradECLIP, group.pixels, self.spec)
        tensor = WordRegionAttribution(self.loaded.model).attribute(seen, tokens)[0].cpu()
        regions = merge_regions(tensor, tokens[0].cpu(), self.loaded.tokenizer)
        yield "WordRegionAttribution", torch.stack([regions[place][1] for place, _ in said.words])[:, None]
        columns = {
            "": [3 + number for number in range(count)],
            ", phrase": [1 + number for _, number in said.words],
            ", caption": [0] * count,
        }
        for explainer in self.explainers:
            if explainer.needs_masks:
                sample, picture = group.samples[0], group.pictures[0]
                masks = torch.cat([shown_masks(self.truth(sample, label)[None], picture) for label in labels])
                pixels = group.some([0] * count).pixels
                yield explainer.id, explainer.explain(Batch(self.score, pixels, columns[""], [sample.index] * count, masks))
                continue
            for prompt, chosen in columns.items() if explainer.class_discriminative else [("", columns[""])]:
                shown = self.setup.seen(explainer.kind, group.pixels, self.spec)
                every = explainer.explain_all(Batch(self.score, shown, sorted({*chosen}), [group.samples[0].index]))[0]
                yield explainer.id + prompt, every[[sorted({*chosen}).index(one) for one in chosen]][:, None]

    def _said(self, sample: Sample, prepared: Prepared) -> _Said:
        assert sample.segments is not None
        segments = sample.segments
        labels = sorted(self._present(sample, prepared.view), key=lambda label: -int((segments == label).sum()))[:2]
        return _Said.of([self.data.classes[label] for label in labels], labels)
