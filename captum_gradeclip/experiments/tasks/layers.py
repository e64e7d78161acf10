"""How many layers should be explained?"""

from __future__ import annotations

from typing import ClassVar

from ... import adapters
from ...attr import GradECLIP
from ..explainers import Explainer
from .retrieval import Retrieval
from .words import Words

_SUMMARY = "how many layers to explain, of images and of texts (tables VI and VII)"


class ImageLayers(Retrieval):
    """As retrieval, with Grad-ECLIP over the last 1, 2, 4, 8, 10 or 12 layers of the image tower (table VI)."""

    name = "image layers"
    command = "layers"
    summary = _SUMMARY
    counts: ClassVar[tuple[int, ...]] = (1, 2, 4, 8, 10, 12)

    def choose_explainers(self) -> list[Explainer]:
        """Grad-ECLIP over as many layers as the tower has."""
        depth = len(self.tower.layers)
        return [Explainer(GradECLIP, self.setup, layers=count) for count in self.counts if count <= depth]


class TextLayers(Words):
    """As words, with Grad-ECLIP over the last 1, 2, 4, 6, 8, 10 or 12 layers of the text tower (table VII)."""

    name = "text layers"
    command = "layers"
    summary = _SUMMARY
    counts: ClassVar[tuple[int, ...]] = (1, 2, 4, 6, 8, 10, 12)

    def choose_explainers(self) -> list[Explainer]:
        """Grad-ECLIP over as many layers as the tower has."""
        depth = len(adapters.text_tower(self.loaded.model).layers)
        return [Explainer(GradECLIP, self.setup, layers=count) for count in self.counts if count <= depth]
