"""Do the words that a map marks decide which picture belongs to a caption?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...maps import merge_words
from ...metrics.scoring import known
from ...scores import ImageTextScore, TextImageScore
from ..explainers import Batch
from ..records import MODES, Record
from .base import Prepared
from .gallery import GalleryTask


class Words(GalleryTask):
    """Deletion and insertion of words with the recall at 1 of both directions of retrieval (table III).

    Words of the first caption of each picture are taken away or given back. The changed caption queries all pictures (IR);
    the picture queries the changed caption and the captions of all other pictures (TR).
    """

    name = "words"
    summary = "deletion and insertion of words, recall of retrieval (table III)"
    of_texts = True

    def make_score(self) -> ImageTextScore | TextImageScore:
        """Cosines with all pictures."""
        return TextImageScore(self.loaded.model, self.gallery.pictures)

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Curves of the recall at 1, in both directions."""
        records: list[Record] = []
        for sample in (one.sample for one in samples):
            # One at a time, since a tokenizer that pads to the longest text would give a batch another length.
            caption, row = sample.captions[0], self.gallery.row[sample.index]
            tokens = self.tokens(caption)
            scores = known(self.gallery.scores, "model")
            others = scores[row, self.gallery.owner.to(scores.device) != row]
            for explainer in self.explainers:
                maps = explainer.explain(Batch(self.score, tokens, [row], [sample.index]))
                words = merge_words(maps.cpu(), tokens.cpu(), self.loaded.tokenizer)[0]
                curve: dict[str, dict[str, list[float]]] = {}
                for mode in MODES:
                    cosines = self._cosines(self.setup.captions(caption, words, mode))
                    own = cosines[:, row]
                    curve[mode] = {
                        "IR": ((cosines > own[:, None]).sum(dim=1) < 1).float().tolist(),
                        "TR": ((others[None] > own[:, None]).sum(dim=1) < 1).float().tolist(),
                    }
                records.append({"id": sample.id, "method": explainer.id, "curves": {"words": curve}})
        return records

    def _cosines(self, texts: Sequence[str]) -> Tensor:
        """Of texts, some of which may be empty, with all pictures."""
        with torch.no_grad():
            return known(torch.cat([self.score(self.tokens(text)) for text in texts]), "model")
