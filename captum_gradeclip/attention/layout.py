"""Which dimension of a layer's tensor holds the examples; libraries differ in it, and only a shape can show it."""

from __future__ import annotations

from torch import Tensor

from .record import LayerError


def examples_axis(x: Tensor, batch: int) -> int:
    """The dimension of the examples: 0 for ``(batch, tokens, width)``, 1 for ``(tokens, batch, width)``.

    Args:
        x: a tensor that a layer was given or has returned.
        batch: number of examples, at least 1.

    Returns:
        0 or 1.

    Raises:
        LayerError: if the shape does not show it.

    >>> import torch
    >>> examples_axis(torch.zeros(2, 50, 8), 2), examples_axis(torch.zeros(50, 2, 8), 2)
    (0, 1)
    """
    if x.dim() != 3 or (x.shape[0] == batch) == (x.shape[1] == batch):
        raise LayerError(
            f"layer: a tensor of shape {tuple(x.shape)} does not show which of its dimensions are the {batch} examples and"
            " which the tokens; choose a block of a transformer, or use another batch size"
        )
    return 0 if x.shape[0] == batch else 1
