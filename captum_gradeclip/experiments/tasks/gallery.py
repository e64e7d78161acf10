"""The pictures and captions of a whole data set, encoded, among which one is searched by the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from ...progress import track
from ...scores import encode_text
from ..data import DataError, Sample
from ..records import Record
from ..setups import Setup
from ..tables import Table, curve_table
from .base import Prepared, Task


@dataclass(frozen=True)
class Gallery:
    """All pictures and captions of a data set as unit features.

    Attributes:
        pictures: features of the pictures ``(M, D)``.
        texts: features of the captions ``(K, D)``.
        owner: for each caption, the row of its picture ``(K,)``.
        row: the row of each picture, by the number of its sample.
        broken: why other samples were left out, by their number.
    """

    pictures: Tensor
    texts: Tensor
    owner: Tensor
    row: dict[int, int]
    broken: dict[int, str]

    @cached_property
    def scores(self) -> Tensor:
        """Cosines of all pictures with all captions ``(M, K)``."""
        return self.pictures @ self.texts.T

    @cached_property
    def first_caption(self) -> list[int]:
        """For each picture, the column of its first caption."""
        owner = self.owner.tolist()
        return [owner.index(row) for row in range(len(self.pictures))]


class GalleryTask(Task):
    """A task of retrieval among all pictures and captions of a data set."""

    needs = ("captions",)
    gallery: Gallery

    @classmethod
    def table(cls, records: Sequence[Record], title: str, setup: Setup) -> Table:
        """Areas under the curves; those of words begin at the first point that counts under the setup."""
        return curve_table(records, title, setup.first_word_point if cls.of_texts else 0)

    def begin(self) -> None:
        """Encodes the gallery first, of which the score is made."""
        self.gallery = self.encode_gallery()
        super().begin()

    def encode_gallery(self) -> Gallery:
        """Encodes all pictures, as the setup shows them, and all captions.

        Raises:
            DataError: for a broken sample, unless these are skipped, or if no sample is left.
        """
        features, tokens, owner = [], [], []
        row: dict[int, int] = {}
        broken: dict[int, str] = {}
        for index in track(range(len(self.data)), "encoding pictures and captions"):
            try:
                sample = self.data[index]
                sample.require(self.needs)
                pixels = self.picture(sample, self.setup.gallery_view).pixels
            except DataError as error:
                if not self.settings.skip_broken:
                    raise
                broken[index] = str(error)
                continue
            with torch.no_grad():
                features.append(self.tower.encode(pixels.to(self.device, self.tower.dtype)))
            tokens += [self.tokens(caption) for caption in sample.captions]
            owner += [len(row)] * len(sample.captions)
            row[index] = len(row)
        if not features:
            raise DataError("data: no sample has both a picture and captions; this task needs some")
        texts = torch.cat([encode_text(self.loaded.model, one) for one in tokens])
        pictures = F.normalize(torch.cat(features).to(texts.dtype), dim=-1)
        return Gallery(pictures, texts, torch.tensor(owner), row, broken)

    def prepare(self, sample: Sample) -> Prepared:
        """As for every task; what is not in the gallery cannot be found there."""
        if sample.index in self.gallery.broken:
            raise DataError(self.gallery.broken[sample.index])
        return super().prepare(sample)
