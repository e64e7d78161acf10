"""Do the pixels that a map marks decide the class?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...metrics import ScoreFunction, top_k
from ...metrics.scoring import known
from ..records import Curves, Record
from ..setups import Setup
from ..tables import Table, curve_table
from .base import Prepared, Task, true_class


class Faithfulness(Task):
    """Deletion and insertion of pixels with the accuracy of zero-shot classification (tables I of both papers)."""

    name = "faithfulness"
    summary = "deletion and insertion of pixels, accuracy of zero-shot classification (table I)"
    needs = ("label",)
    things = (1,)  # classification asks for the only thing

    @classmethod
    def table(cls, records: Sequence[Record], title: str, setup: Setup) -> Table:
        """Areas under the curves."""
        return curve_table(records, title)

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Curves of the accuracy among the best 1 and 5, of maps for the true class and for the predicted one."""
        records: list[Record] = []
        for group in self.groups(samples):
            labels = torch.tensor([true_class(sample) for sample in group.samples])
            with torch.no_grad():
                predicted = known(self.judge(group.pixels), "model").argmax(dim=1).cpu()
            wrong = (predicted != labels).nonzero().flatten().tolist()
            for explainer in self.explainers:
                truth = self.trace(group, self.explain(explainer, group, labels.tolist()), _accuracies(labels))
                prediction = list(truth)
                if explainer.class_discriminative and wrong:
                    some = group.some(wrong)
                    maps = self.explain(explainer, some, predicted[wrong].tolist())
                    for number, entry in zip(wrong, self.trace(some, maps, _accuracies(labels[wrong]))):
                        prediction[number] = entry
                for number, sample in enumerate(group.samples):
                    curves: Curves = {"GT": truth[number]}
                    if explainer.class_discriminative:
                        curves["Pred"] = prediction[number]
                    records.append({"id": sample.id, "method": explainer.id, "curves": curves})
        return records


def _accuracies(labels: Tensor) -> dict[str, ScoreFunction]:
    return {"1": top_k(labels, 1), "5": top_k(labels, 5)}
