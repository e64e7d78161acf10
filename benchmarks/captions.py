"""Captions of random words for a causal text tower: a start mark, words, an end mark, and padding."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_gradeclip.adapters import TextTower


def captions(tower: TextTower, count: int, words: int, device: str) -> Tensor:
    """Token ids ``(count, context)``."""
    tokens = torch.zeros(count, tower.context_length, dtype=torch.long)
    tokens[:, 1 : 1 + words] = torch.randint(1, tower.vocabulary - 2, (count, words))
    tokens[:, 0], tokens[:, 1 + words] = tower.vocabulary - 2, tower.vocabulary - 1
    return tokens.to(device)
