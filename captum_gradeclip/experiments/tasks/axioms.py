"""Do maps keep Captum's axioms?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor
from torch.nn import functional as F

from ..explainers import Explainer
from ..records import Record
from .base import Group, Prepared, Task, true_class

_SQUARES, _REPEATS, _RADIUS = 40, 4, 0.05  # erased squares; changed inputs, and by how much their pixels differ at most


class Axioms(Task):
    """Captum's infidelity and largest sensitivity of the maps of the true class, in the space of the input."""

    name = "axioms"
    summary = "Captum's infidelity and sensitivity"
    needs = ("label",)
    lower = frozenset({"infidelity x 1e4", "sensitivity"})

    def measure(self, samples: Sequence[Prepared]) -> list[Record]:
        """Both figures; the random numbers of each sample are seeded by its number."""
        records: list[Record] = []
        for one in samples:
            (group,) = self.groups([one])
            for explainer in self.explainers:
                attributions = self._in_input_space(explainer, group)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(one.sample.index)
                    unfaithful = infidelity(
                        self.judge,
                        _erase_square,
                        group.pixels,
                        attributions(group.pixels),
                        target=true_class(one.sample),
                        n_perturb_samples=_SQUARES,
                        normalize=True,
                    )
                    sensitive = sensitivity_max(
                        lambda x, attributions=attributions: (attributions(x[0]),),
                        group.pixels,
                        perturb_radius=_RADIUS,
                        n_perturb_samples=_REPEATS,
                    )
                values = {"infidelity x 1e4": 1e4 * float(unfaithful), "sensitivity": float(sensitive)}
                records.append({"id": one.sample.id, "method": explainer.id, "values": values})
        return records

    def _in_input_space(self, explainer: Explainer, group: Group) -> Callable[[Tensor], Tensor]:
        """A function from changed inputs ``(N, 3, H, W)`` of a group's only sample to maps of the same shape."""
        label = true_class(group.samples[0])

        def attributions(x: Tensor) -> Tensor:
            maps = self.explain(explainer, group.some([0] * len(x)), [label] * len(x), x).detach()
            full = F.interpolate(maps, size=x.shape[-2:], mode="bilinear", align_corners=False)
            return (full / x.shape[1]).expand_as(x).contiguous()

        return attributions


def _erase_square(x: Tensor) -> tuple[Tensor, Tensor]:
    """Paints a random square of a quarter of the side in the mean color: the change, and the changed images."""
    changed = x.clone()
    height, width = x.shape[-2] // 4, x.shape[-1] // 4
    for image in changed:
        top, left = int(torch.randint(0, 3 * height + 1, ())), int(torch.randint(0, 3 * width + 1, ()))
        image[:, top : top + height, left : left + width] = 0.0
    return x - changed, changed
