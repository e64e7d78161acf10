"""The models that a page offers, by the names that whoever started it gave; a visitor can name no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from ..adapters import UnsupportedModelError
from ..adapters.loading import Loaded, load
from ..adapters.matching import matching
from ..explain import is_classifier
from ..quoting import quoted
from .query import Head


@dataclass(frozen=True)
class Named:
    """How a model is loaded; see :func:`captum_gradeclip.adapters.loading.load`.

    Attributes:
        name: its name.
        pretrained: its weights; ``None`` (default) for its own, or random ones.
    """

    name: str
    pretrained: str | None = None

    @property
    def label(self) -> str:
        """What the page calls it.

        >>> Named("scenes").label, Named("ViT-B-16", "openai").label
        ('scenes', 'ViT-B-16 (openai)')
        """
        return self.name if self.pretrained is None else f"{self.name} ({self.pretrained})"


class Models:
    """Models that are loaded when they are first asked for, each once, and shared by all visitors.

    Args:
        named: the models on offer, at least one, each with a label of its own; the first is chosen at the beginning.
        device: where they lie (default ``"cpu"``).
        trust_remote_code: as for :func:`captum_gradeclip.adapters.loading.load` (default false).

    Raises:
        ValueError: for no model, or two of one label.

    >>> models = Models([Named("scenes")])
    >>> models.labels, models["scenes"] is models["scenes"], models.heads("scenes")
    (['scenes'], True, ['features'])
    """

    def __init__(self, named: Sequence[Named], device: str = "cpu", trust_remote_code: bool = False) -> None:
        self._named = {one.label: one for one in named}
        if not named or len(self._named) < len(named):
            raise ValueError(
                f"model: expected at least one model, each given once, got {quoted([one.label for one in named])}"
            )
        self._device, self._trust = device, trust_remote_code
        self._loaded: dict[str, Loaded] = {}
        self._lock = Lock()

    @property
    def labels(self) -> list[str]:
        """What the page calls the models, in their order."""
        return list(self._named)

    def named(self, label: str) -> Named:
        """How the model of a label is loaded.

        Raises:
            ValueError: if the page does not offer it.
        """
        if label not in self._named:
            raise ValueError(f"model: this page has {', '.join(self.labels)}, got {quoted(label)}; choose one of them")
        return self._named[label]

    def __getitem__(self, label: str) -> Loaded:
        """The model of a label; errors are those of :meth:`named` and of loading."""
        named = self.named(label)
        with self._lock:  # two visitors who come first would load it twice
            if label not in self._loaded:
                self._loaded[label] = load(named.name, named.pretrained, self._device, self._trust)
            return self._loaded[label]

    def heads(self, label: str) -> list[Head]:
        """Which scores a model has: ``"features"`` (of two encoders), ``"match"`` (of a matching head), ``"classes"``.

        Raises:
            UnsupportedModelError: for a model without encoders of its own, such as ViLT; errors of loading as well.
        """
        model = self[label].model
        found: list[Head] = ["classes" if is_classifier(model) else "features"]
        try:
            matching(model)
        except UnsupportedModelError:
            return found
        return [*found, "match"]
