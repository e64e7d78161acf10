"""Padding that a model never sees changes no word: neither its score nor its weight, by any method of texts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import METHODS, TextImageScore, adapters
from captum_gradeclip.attr import NotDefinedError
from captum_gradeclip.attr.registry import Kind

from ..conftest import FAMILIES, images, relative, stir

TEXTS = [name for name, family in FAMILIES.items() if family.text]
# The noise of M2IB's bottleneck has a value for each token of the batch.
KINDS = [kind for kind in METHODS if kind.info.text and kind.__name__ != "M2IB"]


def padded(model: nn.Module, name: str) -> tuple[Tensor, Tensor] | None:
    """A text alone, and with as much padding as the model has room for; ``None`` where padding is seen."""
    tower = adapters.text_tower(model)
    if "SigLIP" in name or tower.pad:
        return None
    alone = torch.tensor([[48, 5, 6, 7, 49]])
    return alone, nn.functional.pad(alone, (0, tower.context_length - alone.shape[1]), value=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", TEXTS)
def test_padding_changes_no_word(name: str, kind: Kind) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build())
    both = padded(model, name)
    if both is None:
        return
    score = TextImageScore(model, images((32, 32), 2))
    with torch.no_grad():
        if relative(score(both[1]), score(both[0])) > 1e-5:
            return  # the model itself reads the padding
    try:
        alone, longer = (kind.for_score(score).attribute(tokens, target=0) for tokens in both)
    except (NotDefinedError, ValueError):
        return
    assert relative(longer[:, :5], alone) < 1e-4, (alone, longer)
