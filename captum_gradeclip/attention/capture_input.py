"""What a layer is given, as the place where the graph begins."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .record import LayerError
from .tap import Arguments, Function, Keywords, Tap


class CaptureInput(Tap):
    """Context in which the first tensor that a layer is given starts the graph, so that its gradient can be asked for.

    Where the same tensor is given several times, as query, key and value, it starts the graph in all these places. A tensor
    that is already part of a graph stays part of it. The forward pass is to run inside, under ``torch.no_grad()``.

    Args:
        layer: a module whose first floating point tensor is its input.

    >>> layer = nn.Linear(2, 1)
    >>> with CaptureInput(layer) as entry, torch.no_grad():
    ...     output = layer(torch.ones(1, 2))
    >>> torch.autograd.grad(output.sum(), entry.tensor)[0].shape
    torch.Size([1, 2])
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._found: list[Tensor] = []

    @property
    def tensor(self) -> Tensor:
        """The layer's input.

        Raises:
            LayerError: if the layer did not run exactly once.
        """
        if len(self._found) != 1:
            raise LayerError(f"layer: {type(self._layer).__name__} ran {len(self._found)} times, expected once")
        return self._found[0]

    def _taps(self) -> Iterator[tuple[nn.Module, Function]]:
        yield self._layer, self._begin

    def _begin(self, _: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
        if not self._here:
            return None
        torch.set_grad_enabled(True)
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point()]
        if not given:
            return None
        first = given[0]
        entry = first if first.requires_grad else first.detach().requires_grad_()
        self._found.append(entry)

        def start(x: object) -> object:
            return entry if x is first else x

        return tuple(start(x) for x in args), {name: start(x) for name, x in kwargs.items()}
