"""What do the maps of all classes say together?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import images
from ...maps import point_prompts, to_pixels
from ..data import IGNORE, NOTHING, Sample
from ..explainers import Explainer
from ..records import OpenVocabularyResult, Record
from ..setups import Setup
from ..tables import Table, open_vocabulary_table
from .base import Group, Prepared, Task


class OpenVocabulary(Task):
    """Segmentation, recognition and points to click on, from the maps of all classes.

    A pixel is given to the class with the highest map, or to the background where no class reaches half of the range of the
    picture's maps. A class's recognition score is the maximum of its map.
    """

    name = "openvocab"
    summary = "segmentation, recognition and points from the maps of all classes"
    needs = ("segments",)

    @classmethod
    def table(cls, records: Sequence[Record], title: str, setup: Setup) -> Table:
        """Figures of the whole data set."""
        return open_vocabulary_table(records, title)

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Numbers of pixels per class, a score per class, and hits of the points of every class that is there."""
        records: list[Record] = []
        for group in self.groups(samples):
            for explainer in self.explainers:
                if not explainer.class_discriminative:
                    continue
                maps = self._all_classes(explainer, group).cpu()
                for sample, picture, own in zip(group.samples, group.pictures, maps):
                    assert sample.segments is not None
                    records.append({"id": sample.id, "method": explainer.id, "open": _judged(own, sample.segments, picture)})
        return records

    def truth(self, sample: Sample, target: int) -> Tensor:
        """The mask of the class that is asked for."""
        return sample.mask(target)

    def _all_classes(self, explainer: Explainer, group: Group) -> Tensor:
        """``(N, classes, h, w)``."""
        classes = range(len(self.data.classes))
        if not explainer.needs_masks:
            return explainer.explain_all(self.batch(explainer, group, classes))
        # The truth differs from class to class.
        return torch.cat([self.explain(explainer, group, [label] * len(group.samples)) for label in classes], dim=1)


def _judged(maps: Tensor, segments: Tensor, picture: images.Picture) -> OpenVocabularyResult:
    """Maps of all classes ``(classes, h, w)`` against the truth ``(H, W)``."""
    present = sorted(set(segments[segments >= 0].tolist()))
    full = to_pixels(maps, picture.frame_of(maps), unseen=0.0)
    low, high = full.min(), full.max()
    found = torch.where(full.amax(dim=0) >= low + 0.5 * (high - low), full.argmax(dim=0), NOTHING)
    counted = segments != IGNORE
    pixels = {}
    for label in sorted({*present, *found[counted].unique().tolist(), NOTHING}):
        here, there = (found == label) & counted, segments == label
        pixels[str(label)] = [int((here & there).sum()), int((here | there).sum())]
    clicks = [_clicked(maps[label], segments == label, picture) for label in present]
    return {
        "pixels": pixels,
        "present": present,
        "scores": maps.flatten(1).amax(dim=1).tolist(),
        "points": sum(clicks) / len(clicks) if clicks else None,
    }


def _clicked(attribution: Tensor, mask: Tensor, picture: images.Picture) -> float:
    """Share of the positive points of a map that lie on a mask of the picture."""
    left, top, right, bottom = (round(edge) for edge in picture.frame.box)
    points, kind = point_prompts(attribution, (bottom - top, right - left))
    x, y = points[kind == 1].T
    return float(mask[y + top, x + left].float().mean()) if len(x) else 0.0
