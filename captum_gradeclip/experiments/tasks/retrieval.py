"""Do the pixels that a map marks decide which caption belongs to a picture?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...metrics import ScoreFunction, recall, reverse_recall
from ...scores import ImageTextScore, TextImageScore
from ..data import Sample
from ..records import Record
from .base import Prepared
from .gallery import GalleryTask


class Retrieval(GalleryTask):
    """Deletion and insertion of pixels with the recall of both directions of retrieval (table II).

    The changed picture queries all captions (TR), and its first caption queries the pictures, of which only its own is
    changed (IR).
    """

    name = "retrieval"
    summary = "deletion and insertion of pixels, recall of retrieval (table II)"

    def make_score(self) -> ImageTextScore | TextImageScore:
        """Cosines with all captions."""
        return ImageTextScore(self.loaded.model, self.gallery.texts)

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Curves of the recall among the best 1 and 5, in both directions, of maps for the first caption."""
        records: list[Record] = []
        for group in self.groups(samples):
            rows = [self.gallery.row[sample.index] for sample in group.samples]
            captions = [self.gallery.first_caption[row] for row in rows]
            own, first = torch.tensor(rows), torch.tensor(captions)
            performance: dict[str, ScoreFunction] = {}
            for k in (1, 5):
                performance[f"IR@{k}"] = reverse_recall(self.gallery.scores, first, own, k)
                performance[f"TR@{k}"] = recall(self.gallery.owner[None] == own[:, None], k)
            for explainer in self.explainers:
                found = self.trace(group, self.explain(explainer, group, captions), performance)
                for sample, entry in zip(group.samples, found):
                    records.append({"id": sample.id, "method": explainer.id, "curves": {"image": entry}})
        return records

    def truth(self, sample: Sample, target: int) -> Tensor:
        """Everything in the picture, since the first caption of a scene names all things."""
        assert sample.segments is not None
        return (sample.segments >= 0).long()
