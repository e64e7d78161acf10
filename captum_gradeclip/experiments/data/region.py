"""A region: the part of a picture that a text is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Region:
    """What lies in a picture where a text is true.

    Attributes:
        text: the text, a word such as ``"red"`` or a phrase such as ``"small cube"``.
        kind: what the text says something about: ``"color"``, ``"shape"``, ``"location"`` and so on.
        mask: ``(H, W)`` of the picture, boolean: all things that the text is true of.
        others: ``(H, W)``, boolean: the things that could be meant, but that it is not true of; ``None`` (default) if there
            are none, or nobody knows.
    """

    text: str
    kind: str
    mask: Tensor
    others: Tensor | None = None

    @classmethod
    def of_things(
        cls, text: str, kind: str, masks: Sequence[Tensor], fits: Sequence[bool], among: Sequence[bool] | None = None
    ) -> list[Region]:
        """The region of the things that a text is true of; none if nothing of them is seen.

        Args:
            text: the text.
            kind: what it says something about.
            masks: the mask ``(H, W)`` of each thing of the picture, boolean.
            fits: for each of them, whether the text is true of it.
            among: for each of them, whether it could be meant; ``None`` (default) if all could.

        >>> masks = torch.eye(3).bool()[:, None]
        >>> (region,) = Region.of_things("red", "color", masks, [True, False, False])
        >>> region.mask.tolist(), region.others.tolist(), Region.of_things("blue", "color", masks, [False] * 3)
        ([[True, False, False]], [[False, True, True]], [])
        """
        mask = _union([one for one, fit in zip(masks, fits) if fit])
        rest = [not fit and (among is None or among[number]) for number, fit in enumerate(fits)]
        others = _union([one for one, fit in zip(masks, rest) if fit])
        return [] if mask is None else [cls(text, kind, mask, others)]


def _union(masks: Sequence[Tensor]) -> Tensor | None:
    """All pixels of some masks; ``None`` if there are none."""
    found = torch.stack(list(masks)).any(dim=0) if masks else None
    return found if found is not None and bool(found.any()) else None
