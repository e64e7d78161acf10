"""What a layer hands on, replaced on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from torch import Tensor, nn

from .layout import examples_axis
from .record import LayerError
from .tap import Arguments, Function, Tap


class ReplaceOutput(Tap):
    """Context that replaces the tokens a block outputs.

    Args:
        layer: a block whose first output is ``(batch, tokens, width)`` or ``(tokens, batch, width)``.
        batch: number of examples.
        change: maps ``(batch, tokens, width)`` to what goes on in its place, which may have more examples or other tokens.
        axis: dimension of the examples in the layer's output, 0 or 1, where it is known from another pass; by default the
            shape shows it.

    Raises:
        LayerError: at the end, if the layer did not run exactly once.

    >>> import torch
    >>> layer = nn.Linear(4, 4)
    >>> with ReplaceOutput(layer, 2, tokens_as_batch):
    ...     layer(torch.zeros(2, 3, 4)).shape
    torch.Size([6, 1, 4])
    """

    def __init__(self, layer: nn.Module, batch: int, change: Callable[[Tensor], Tensor], axis: int | None = None) -> None:
        self._layer, self._batch, self._change, self.axis = layer, batch, change, axis
        self._runs = 0

    def _taps(self) -> Iterator[tuple[nn.Module, Function, bool]]:
        self._runs = 0
        yield self._layer, self._leave, True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if kind is None and self._runs != 1:
            raise LayerError(
                f"layer: {type(self._layer).__name__} ran {self._runs} times in this forward pass, expected once"
            )

    def _leave(self, _: nn.Module, args: Arguments, output: Tensor | Arguments | None) -> Tensor | Arguments | None:
        if not self._here or output is None:  # there is no output where the layer raised
            return None
        self._runs += 1
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        self.axis = examples_axis(tokens, self._batch) if self.axis is None else self.axis
        changed = self._change(tokens.transpose(0, self.axis)).transpose(0, self.axis)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def tokens_as_batch(tokens: Tensor) -> Tensor:
    """Every token as the only one of an example of its own.

    A model that reads its first token then says of each token what it would say if it read that one.

    Args:
        tokens: ``(batch, tokens, width)``.

    Returns:
        ``(batch * tokens, 1, width)``.

    >>> import torch
    >>> tokens_as_batch(torch.zeros(2, 3, 4)).shape
    torch.Size([6, 1, 4])
    """
    return tokens.flatten(0, 1)[:, None]
