"""Do the pixels that a map marks decide for what was named, against the other things in the same picture?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import images
from ...maps import to_pixels
from ...metrics import Schedule, margin, pointing_game
from ..data import LeftOutError, Sample
from ..explainers import Explainer
from ..records import MODES, Record
from ..setups import Setup
from ..tables import Table, margin_table
from .base import Group, Prepared, Task, shown_masks


class Targeted(Task):
    """Deletion and insertion of one thing among several, traced by its margin over the best of the others.

    Each class that is present in a picture is named once; its rivals are the other classes present. In a picture of one
    thing every map of the foreground is faithful. Here such a map deletes the named thing and its rivals alike, so that the
    margin stays; only a map that tells them apart makes it fall. The random map is the floor and the mask of the named
    class, the oracle, the ceiling.

    No paper has this table, so half of the pixels are changed in ten steps under both setups, in the order of the enlarged
    map. In their place is the mean color of the picture itself, which brings nothing new into it, unless the settings name
    another baseline. What methods and model see is as the setup has it, and so is the black on which the released setup
    begins every insertion. A class is present if it covers a pixel of what the model judges. A picture of fewer than two
    classes is left out and counted.

    The sample is the unit of all figures: what is measured for the things that it shows is averaged first, since they are
    things of one picture and say less than as many pictures would.
    """

    name = "targeted"
    summary = "deletion and insertion of one of several things, margin over the others"
    needs = ("segments",)
    usual_baseline = "own-mean"

    @classmethod
    def schedule(cls, setup: Setup) -> Schedule:
        """Half of the pixels in ten steps, from the unchanged picture or the empty baseline on."""
        return Schedule()

    @classmethod
    def table(cls, records: Sequence[Record], title: str, setup: Setup) -> Table:
        """What is lost by deletion and won by insertion, and the oracle's share of it."""
        return margin_table(records, title)

    def prepare(self, sample: Sample) -> Prepared:
        """As for every task; a sample that shows fewer than two classes is left out."""
        prepared = super().prepare(sample)
        count = len(self._present(sample, prepared.view))
        if count < 2:
            raise LeftOutError(
                f"{sample.id}: it shows {count or 'none'} of the classes; this task names one of at least two"
            )
        return prepared

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Curves of the margin and the pointing game, each a mean over the classes that the sample shows."""
        records: list[Record] = []
        for group in self.groups(samples):
            present = [self._present(sample, picture) for sample, picture in zip(group.samples, group.pictures)]
            rows = [number for number, labels in enumerate(present) for _ in labels]
            targets = torch.tensor([label for labels in present for label in labels])
            rivals = torch.zeros(len(rows), len(self.data.classes), dtype=torch.bool)
            for one, number in zip(rivals, rows):
                one[present[number]] = True
            rivals[torch.arange(len(rows)), targets] = False
            performance, asked = {"margin": margin(targets, rivals)}, group.some(rows)
            for explainer in self.explainers:
                maps = [self._maps(explainer, group.some([number]), labels) for number, labels in enumerate(present)]
                traced = self.trace(asked, torch.cat(maps), performance)
                for number, (sample, picture) in enumerate(zip(group.samples, group.pictures)):
                    own = [curves for curves, row in zip(traced, rows) if row == number]
                    records.append(
                        {
                            "id": sample.id,
                            "method": explainer.id,
                            "values": {"PG": self._pointed(maps[number].cpu(), sample, picture, present[number])},
                            "curves": {
                                "named": {mode: {"margin": _mean([one[mode]["margin"] for one in own])} for mode in MODES}
                            },
                        }
                    )
        return records

    def truth(self, sample: Sample, target: int) -> Tensor:
        """The mask of the class that is named."""
        return sample.mask(target)

    def _present(self, sample: Sample, picture: images.Picture) -> list[int]:
        """The classes that cover a pixel of what the model judges."""
        assert sample.segments is not None
        labels = sample.segments[sample.segments >= 0].unique()
        if not len(labels):
            return []
        shown = shown_masks(sample.segments == labels[:, None, None], picture)
        seen = self.setup.judge(shown[:, None], self.spec) > 0.5
        return [int(label) for label in labels[seen.flatten(1).any(dim=1)]]

    def _maps(self, explainer: Explainer, one: Group, labels: Sequence[int]) -> Tensor:
        """The maps of some classes ``(T, 1, h, w)`` for the only sample of a group."""
        if explainer.needs_masks:  # the truth differs from class to class
            return self.explain(explainer, one.some([0] * len(labels)), labels)
        return explainer.explain_all(self.batch(explainer, one, labels)).transpose(0, 1)

    def _pointed(self, maps: Tensor, sample: Sample, picture: images.Picture, labels: Sequence[int]) -> float:
        """The share of the classes whose map has its highest value on their mask."""
        masks = torch.stack([self.truth(sample, label) for label in labels])
        return float(pointing_game(to_pixels(maps, picture.frame_of(maps), unseen=0.0)[:, 0], masks).float().mean())


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves, point by point."""
    found: list[float] = torch.tensor(curves, dtype=torch.float64).mean(dim=0).tolist()
    return found
