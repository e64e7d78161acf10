"""Do maps lie on the object?"""

from __future__ import annotations

from collections.abc import Sequence

from ...maps import to_pixels
from ...metrics import energy_pointing_game, heatmap_average_precision, mask_iou, pixel_accuracy, pointing_game
from ..records import Record
from .base import Prepared, Task, true_class


class Localization(Task):
    """Maps against the mask of the true class (table IV)."""

    name = "localization"
    summary = "maps against masks (table IV)"
    needs = ("label", "segments")

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Pointing games, average precision, and both readings of pixel accuracy and overlap."""
        records: list[Record] = []
        for group in self.groups(samples):
            labels = [true_class(sample) for sample in group.samples]
            for explainer in self.explainers:
                maps = self.explain(explainer, group, labels).cpu()
                for sample, picture, one in zip(group.samples, group.pictures, maps):
                    mask = self.truth(sample, true_class(sample))[None]
                    heat = to_pixels(one, picture.frame_of(one), unseen=0.0)
                    values = {
                        "PG": pointing_game(heat, mask).float(),
                        "energy-PG": energy_pointing_game(heat, mask),
                        "pixel acc. (all, mean)": pixel_accuracy(heat, mask),
                        "pixel acc. (foreground, mean)": pixel_accuracy(heat, mask, accuracy="foreground"),
                        "AP (both)": heatmap_average_precision(heat, mask),
                        "AP (foreground)": heatmap_average_precision(heat, mask, "foreground"),
                        "mIoU (both, mean)": mask_iou(heat, mask, "mean", "mean"),
                        "mask IoU (foreground, 0.5)": mask_iou(heat, mask),
                    }
                    found = {name: float(value) for name, value in values.items()}
                    records.append({"id": sample.id, "method": explainer.id, "values": found})
        return records
