"""What every study is: a task whose records say what a model looks at, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import ClassVar

import torch
from torch import Tensor

from ... import show
from ...maps import Words, merge_words, to_pixels
from ...scores import ImageTextScore, TextImageScore, encode_text, tokenize
from ..data import DataError, Sample
from ..data.base import DeclaredDataset
from ..explainers import Batch, Explainer
from ..records import Record
from ..tables import printed_name
from ..tasks import Group, Prepared, Task
from .report import Report
from .settings import Reading

_WIDTH = 300
"""Width of the pictures in millimeters."""
_TRIED = 100
"""How many samples are looked through for examples."""


class Study(Task):
    """A measurement of what words do to maps, with a report in the place of a table.

    A subclass declares the data sets that it can be made on, writes :meth:`measure`, and in :meth:`report` what follows.

    Arguments are those of :class:`~captum_gradeclip.experiments.Task`.

    >>> from captum_gradeclip.experiments import STUDIES
    >>> study = STUDIES["addibility"]
    >>> study.needs, list(study.datasets)
    (('triple',), ['scenes', 'csv'])
    """

    datasets: ClassVar[Mapping[str, type[DeclaredDataset]]]
    """The data sets by name; the first is the default."""

    @classmethod
    def report(cls, records: Sequence[Record], name: str, method: str, data: str, reading: Reading) -> Report:
        """What follows from the records of one method.

        Args:
            records: the records of all samples with that method.
            name: begins the names of the files.
            method: the method's printed name.
            data: name of the data set.
            reading: how the records are read.
        """
        raise NotImplementedError

    def pictures(self, reading: Reading) -> dict[str, show.Drawing]:
        """Maps of some samples by file name, for the eye; the study must have begun.

        Args:
            reading: which samples are drawn.

        Raises:
            DataError: for a number that no sample has.
        """
        return {}

    def chosen(self, reading: Reading) -> list[Prepared]:
        """The samples that are drawn: those that were asked for, or the first one of each kind, see :meth:`kind_of`.

        Args:
            reading: which samples are asked for.

        Raises:
            DataError: for a number that no sample has.
        """
        if reading.examples is not None:
            for number in reading.examples:
                if number >= len(self.data):
                    raise DataError(f"examples: expected numbers below that of all samples, {len(self.data)}, got {number}")
            return [self.prepare(self.data[number]) for number in reading.examples]
        found: dict[str, Prepared] = {}
        for number in range(min(_TRIED, len(self.data))):
            try:
                one = self.prepare(self.data[number])
            except DataError:
                continue
            found.setdefault(self.kind_of(one.sample), one)
        return list(found.values())

    def kind_of(self, sample: Sample) -> str:
        """What distinguishes a sample from those that need not be drawn beside it."""
        return ""


class PhraseStudy(Study):
    """A study of images, each of which is explained for some words and phrases in one pass."""

    features: dict[str, Tensor]

    def begin(self) -> None:
        """Tries the methods on a blank input; texts are encoded when they come."""
        self.features = {}
        super().begin()

    def make_score(self) -> ImageTextScore:
        """The score of a text that any picture has, by which methods are tried."""
        return self.score_of(["a thing"])

    def score_of(self, texts: Sequence[str]) -> ImageTextScore:
        """The score of some texts, each of which is encoded once for all samples.

        Raises:
            DataError: for a text that the model cannot read.
        """
        missing = list(dict.fromkeys(text for text in texts if text not in self.features))
        if missing:
            try:
                tokens = tokenize(self.loaded.model, missing, self.loaded.tokenizer)
            except ValueError as error:
                raise DataError(str(error)) from None
            self.features |= dict(zip(missing, encode_text(self.loaded.model, tokens)))
        features = torch.stack([self.features[text] for text in texts])
        return ImageTextScore(self.loaded.model, features, self.loaded.tokenizer)

    def maps_of(
        self, explainer: Explainer, samples: Sequence[Prepared], texts: Sequence[Sequence[str]]
    ) -> list[tuple[Tensor, Tensor]]:
        """For each sample, maps ``(K, h, w)`` of its K texts, on the CPU, and their scores ``(K,)`` in the pass explained.

        Samples of one size share a forward pass, in which each picture is explained for its own texts only.

        Args:
            explainer: the method.
            samples: the samples.
            texts: the texts of each sample, at least one.
        """
        found = []
        for group, own, every, columns in self.questions(samples, texts):
            pixels = self.setup.seen(explainer.kind, group.pixels, self.spec)
            seeds = [sample.index for sample in group.samples]
            outcome = explainer.outcome(Batch(self.score_of(every), pixels, [0] * len(own), seeds), columns)
            assert outcome.maps is not None and outcome.explained_scores is not None  # a method that refuses raises
            for some, maps, scores in zip(own, outcome.maps.float().cpu(), outcome.explained_scores.double().cpu()):
                found.append((maps[: len(some)], scores[: len(some)]))
        return found

    def questions(
        self, samples: Sequence[Prepared], texts: Sequence[Sequence[str]]
    ) -> Iterator[tuple[Group, list[Sequence[str]], list[str], list[list[int]]]]:
        """For samples of one size, what is asked of them in one pass.

        It is the samples, the texts of each, all of these texts once, and for each sample the numbers of its own among them.
        All samples of a pass have as many numbers, so those with fewer texts have the first one several times.

        Args:
            samples: the samples.
            texts: the texts of each sample, at least one.
        """
        asked = iter(texts)
        for group in self.groups(samples):
            own = list(islice(asked, len(group.samples)))
            every = list(dict.fromkeys(text for some in own for text in some))
            most = max(map(len, own))
            yield (
                group,
                own,
                every,
                [[every.index(text) for text in [*some, *[some[0]] * (most - len(some))]] for some in own],
            )

    def encode_all(self, texts: Sequence[str]) -> None:
        """Encodes the texts of many samples at once."""
        if texts:
            self.score_of(texts)

    def drawn(self, one: Prepared, texts: Sequence[str], words: bool = False, masks: Tensor | None = None) -> show.Drawing:
        """A picture with the maps of some texts, a row for each method.

        Args:
            one: the sample.
            texts: the headings of the columns.
            words: whether the words of each text stand below its map, where the method explains words (default: not).
            masks: ``(K, H, W)``, a row of their own above the maps; ``None`` (default) for none.
        """
        rows = [] if masks is None else [show.Row("mask", masks.float())]
        for explainer in self.explainers:
            ((maps, _),) = self.maps_of(explainer, [one], [texts])
            said = self.words_of(explainer, one, texts) if words and explainer.kind.info.text else None
            pixels = to_pixels(maps, one.view.frame_of(maps))
            rows.append(show.Row(printed_name(explainer.id), pixels, said))
        # Each map has a scale of its own, since it is asked where it lies; a phrase may weigh many times what a word does.
        style = show.Style(color_scale="each", width=_WIDTH)
        return show.matrix(one.sample.image, rows, list(texts), style=style)

    def words_of(self, explainer: Explainer, one: Prepared, texts: Sequence[str]) -> list[Words] | None:
        """The words of each text with their weights for the picture; ``None`` where the method does not explain texts."""
        score = TextImageScore(self.loaded.model, one.view.pixels.to(self.device))
        tokens = tokenize(self.loaded.model, list(texts), self.loaded.tokenizer)
        batch = Batch(score, tokens, [0] * len(tokens), [one.sample.index] * len(tokens))
        if not explainer.is_defined(batch):
            return None
        return list(merge_words(explainer.explain(batch).cpu(), tokens.cpu(), self.loaded.tokenizer))


def known(value: Tensor | float) -> float | None:
    """A figure as a record holds it: ``None`` for one that is not defined.

    >>> known(0.5), known(float("nan"))
    (0.5, None)
    """
    number = float(value)
    return number if number == number else None
