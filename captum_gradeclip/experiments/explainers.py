"""Methods as a run uses them: under a setup, with the options of the run, and with what only a data set knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from ..adapters.base import Foreign
from ..attr import BASELINES, METHODS, RISE, Ensemble, GradECLIP, NotDefinedError, TokenAttribution, find_method
from ..attr.outcome import Outcome
from ..attr.registry import AnyMethod, Kind
from ..scores import Columns, ModelScore
from .setups import FAIR, Setup

logger = logging.getLogger(__name__)
_SHORT = {"w/o weight": "GradECLIPWithoutWeight", "random": "RandomMap", "centre": "CenterPrior", "center": "CenterPrior"}


class MethodError(RuntimeError):
    """A method failed; the message names it, and the error itself is kept as the cause."""


@dataclass(frozen=True)
class Batch:
    """A batch to be explained.

    Attributes:
        score: a score module.
        inputs: images ``(N, 3, H, W)`` or token ids ``(N, L)``.
        targets: columns of the score to be explained, one for each input.
        seeds: one seed for each input, for maps that are drawn at random.
        masks: the truth ``(N, H, W)``, 1 on what is asked for, for maps that are made of it; ``None`` (default) for no
            truth.
    """

    score: ModelScore
    inputs: Tensor
    targets: Sequence[int]
    seeds: Sequence[int]
    masks: Tensor | None = None


@dataclass(frozen=True)
class Explainer:
    """A method as a run uses it.

    Attributes:
        kind: class of the method.
        setup: decides on layers and options.
        options: further options of the method.
        layers: how many of the last layers a method on layers explains, at least 1; ``None`` (default) for those that the
            setup chooses.
    """

    kind: Kind
    setup: Setup = FAIR
    options: Mapping[str, object] = field(default_factory=dict)
    layers: int | None = None

    @property
    def id(self) -> str:
        """Its name in records: the class name of the method, or the number of layers where that was chosen."""
        return self.kind.__name__ if self.layers is None else f"{self.layers} layer{'s' if self.layers > 1 else ''}"

    @property
    def class_discriminative(self) -> bool:
        """Whether its maps depend on the target."""
        return self.kind.info.class_discriminative

    @property
    def needs_masks(self) -> bool:
        """Whether its maps are made of the truth."""
        return "masks" in self.kind.info.needs

    def explain(self, batch: Batch) -> Tensor:
        """One map for each input, ``(N, 1, h, w)`` or ``(N, L)``.

        Raises:
            MethodError: if the method fails for any reason.
        """
        with self._named():
            maps: Tensor = self._method(batch).attribute(batch.inputs, list(batch.targets), **self._options(batch))
            return maps

    def explain_all(self, batch: Batch) -> Tensor:
        """The maps of all targets for every input, ``(N, T, h, w)`` or ``(N, T, L)``.

        Raises:
            MethodError: if the method fails for any reason.
        """
        maps = self.outcome(batch).maps
        assert maps is not None  # a method that refuses raises
        return maps

    def outcome(self, batch: Batch, columns: Columns = None) -> Outcome:
        """The maps of several targets for every input, from one pass, with the scores of that pass.

        Args:
            batch: the inputs.
            columns: the targets, as ``attribute_targets`` takes them, for all inputs or for each its own; ``None`` (default)
                for all targets of the batch, for every input.

        Raises:
            MethodError: if the method fails for any reason.
        """
        with self._named():
            asked = list(batch.targets) if columns is None else columns
            return self._method(batch).outcome(batch.inputs, asked, **self._options(batch))

    def is_defined(self, batch: Batch) -> bool:
        """Whether the method is defined for a model and its inputs; the reason is logged if it is not.

        Raises:
            MethodError: if the method fails for any other reason.
        """
        try:
            self.explain(batch)
        except MethodError as error:
            if not isinstance(error.__cause__, NotDefinedError):
                raise
            logger.warning("%s is left out, since it is not defined here: %s", self.id, error.__cause__)
            return False
        return True

    def _method(self, batch: Batch) -> AnyMethod:
        if self.layers is not None:
            assert issubclass(self.kind, TokenAttribution)
            return self.kind(batch.score, batch.score.layers[-self.layers :])
        return self.setup.method(self.kind, batch.score)

    def _options(self, batch: Batch) -> dict[str, Foreign]:
        given = {"seeds": batch.seeds, "masks": batch.masks}
        needed = {name: given[name] for name in self.kind.info.needs}
        return {**self.options, **needed, **self.setup.options(self.kind, batch.score, batch.inputs)}

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            failed = f"{self.kind.__name__} failed with {type(error).__name__}: {error}"
            raise MethodError(f"methods: {failed}; name other methods to run without it") from error


def explainers(
    names: str | Sequence[str] = "all",
    *,
    text: bool = False,
    masks: bool = False,
    rise_masks: int | None = None,
    setup: Setup = FAIR,
) -> list[Explainer]:
    """The methods of these names that explain such inputs, each once, in the order given.

    Args:
        names: a name or several; ``"all"`` (default) for the methods of this package and the baselines. Names are those of
            :func:`captum_gradeclip.attr.find_method`, and ``"w/o weight"``, ``"random"``, ``"center"`` and ``"oracle"``.
        text: whether texts are explained (default: images).
        masks: whether the data set has masks, which the oracle needs (default: it has none).
        rise_masks: number of RISE's masks, at least 1; ``None`` (default) for that of the setup, 500 of the fair one and
            2000 of the released one.
        setup: decides on layers and options of the methods.

    Returns:
        The methods, each with the layers and options that the setup has for it; at least one.

    Raises:
        ValueError: for an unknown name, or if none of the methods explains such inputs.

    >>> [one.id for one in explainers(["GAME", "oracle", "random"], text=True)]
    ['GAME', 'RandomMap']
    """
    kinds: list[Kind] = []
    for name in [names] if isinstance(names, str) else names:
        kinds += _all() if name == "all" else [find_method(_SHORT.get(name, name))]
    fit = [
        kind
        for kind in dict.fromkeys(kinds)
        if (kind.info.text if text else kind.info.image) and (masks or "masks" not in kind.info.needs)
    ]
    if not fit:
        raise ValueError(f"methods: none of {names} explains {'texts' if text else 'images'}")
    masked = {"n_masks": setup.rise_masks if rise_masks is None else rise_masks}
    return [Explainer(kind, setup, masked if kind is RISE else {}) for kind in fit]


def _all() -> list[Kind]:
    """All methods and baselines; a variant of a method stands behind it."""
    variants = [kind for kind in BASELINES if issubclass(kind, (GradECLIP, Ensemble))]
    return [*METHODS[:1], *variants, *METHODS[1:], *(kind for kind in BASELINES if kind not in variants)]
