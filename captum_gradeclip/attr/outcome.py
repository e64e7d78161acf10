"""What a method made of some inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..former import renamed
from ..scores import Tokens


@dataclass(frozen=True)
class Outcome:
    """What one method made of some inputs, or why it made nothing.

    Attributes:
        method: name of the method's class, by which it is known.
        name: the method's name as tables print it.
        maps: ``(N, T, h, w)`` for images, on the patch grid or in pixels, or ``(N, T, L)`` for texts; ``None`` if refused.
        tokens: what the cells of the maps stand for.
        explained_scores: scores ``(N, T)`` of the pass that was explained, which may have had other heads than the model.
        seconds: time from the inputs to all maps.
        options: the options that were given.
        refused: why the method is not defined for this model or input; ``None`` if it is.
        class_discriminative: whether the maps depend on the target.
        carried: the share ``(N, T)`` of the first-order score that the tokens of the maps carry; ``None`` if it was not
            asked for, or the method does not know it.

    >>> import torch
    >>> from captum_gradeclip import GradECLIP, ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> found = GradECLIP(score, score.layers[-1:]).outcome(torch.rand(3, 3, 64, 64))
    >>> found.name, found.maps.shape, found.explained_scores.shape, found.refused
    ('Grad-ECLIP', torch.Size([3, 2, 8, 8]), torch.Size([3, 2]), None)
    """

    method: str
    name: str
    maps: Tensor | None = None
    tokens: Tokens | None = None
    explained_scores: Tensor | None = None
    seconds: float = 0.0
    options: Mapping[str, object] = field(default_factory=dict)
    refused: str | None = None
    class_discriminative: bool = True
    carried: Tensor | None = None

    @property
    def needs_text(self) -> bool:
        """The name of :attr:`class_discriminative` in version 0.1; it goes with the next version."""
        renamed("Outcome.needs_text", "Outcome.class_discriminative")
        return self.class_discriminative


def beside(outcomes: Sequence[Outcome]) -> Outcome:
    """Outcomes of one target each, about the same inputs, as one of all these targets."""
    found: dict[str, Tensor | None] = {}
    for name, parts in (
        ("maps", [one.maps for one in outcomes]),
        ("explained_scores", [one.explained_scores for one in outcomes]),
        ("carried", [one.carried for one in outcomes]),
    ):
        known = [part for part in parts if part is not None]
        found[name] = torch.cat(known, dim=1) if known else None
    return replace(outcomes[0], **found, seconds=sum(one.seconds for one in outcomes))  # type: ignore[arg-type]
