"""What a layer hands on, changed on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from .layout import examples_axis
from .record import LayerError


class LayerOutput:
    """Context in which the tokens that a block hands on are others; only the thread that entered is seen.

    Args:
        layer: a block, whose first output is ``(batch, tokens, width)``, or tokens first.
        batch: number of examples.
        change: what goes on in place of ``(batch, tokens, width)``; it may have more examples, or other tokens.
        axis: of the examples in the layer's output, where it is known from another pass; told by the shape if not given.

    Raises:
        LayerError: at the end, if the layer did not run exactly once.

    >>> import torch
    >>> layer = nn.Linear(4, 4)
    >>> with LayerOutput(layer, 2, each_token):
    ...     layer(torch.zeros(2, 3, 4)).shape
    torch.Size([6, 1, 4])
    """

    def __init__(self, layer: nn.Module, batch: int, change: Callable[[Tensor], Tensor], axis: int | None = None) -> None:
        self._layer, self._batch, self._change, self.axis = layer, batch, change, axis
        self._runs = 0

    def __enter__(self) -> LayerOutput:
        self._thread = threading.get_ident()
        self._handle = self._layer.register_forward_hook(self._leave)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._handle.remove()
        if kind is None and self._runs != 1:
            raise LayerError(
                f"layer: {type(self._layer).__name__} ran {self._runs} times in this forward pass, expected once"
            )

    def _leave(self, _: nn.Module, args: Any, output: Any) -> Any:
        if threading.get_ident() != self._thread:
            return None
        self._runs += 1
        tokens = output[0] if isinstance(output, tuple) else output
        self.axis = examples_axis(tokens, self._batch) if self.axis is None else self.axis
        changed = self._change(tokens.transpose(0, self.axis)).transpose(0, self.axis)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def each_token(tokens: Tensor) -> Tensor:
    """Every token as the only one of an example of its own, ``(batch, tokens, width)`` to ``(batch * tokens, 1, width)``.

    A model that reads its first token then says of each token what it would say if it read that one.

    >>> import torch
    >>> each_token(torch.zeros(2, 3, 4)).shape
    torch.Size([6, 1, 4])
    """
    return tokens.flatten(0, 1)[:, None]
