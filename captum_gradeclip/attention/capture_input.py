"""What a layer is given, as the place where the graph begins."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from .record import LayerError


class LayerInput:
    """Context in which the first tensor that a layer is given starts the graph, to be asked for its gradient.

    Where the same tensor is given several times, as query, key and value, it starts the graph in all these places.

    The forward pass is to run inside, under ``torch.no_grad()``. Only the thread that entered is seen.

    Args:
        layer: a module whose first tensor is its input.

    >>> layer = nn.Linear(2, 1)
    >>> with LayerInput(layer) as entry, torch.no_grad():
    ...     output = layer(torch.ones(1, 2))
    >>> torch.autograd.grad(output.sum(), entry.tensor)[0].shape
    torch.Size([1, 2])
    """

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._found: list[Tensor] = []

    @property
    def tensor(self) -> Tensor:
        """The input.

        Raises:
            LayerError: if the layer did not run exactly once.
        """
        if len(self._found) != 1:
            raise LayerError(f"layer: {type(self._layer).__name__} ran {len(self._found)} times, expected once")
        return self._found[0]

    def __enter__(self) -> LayerInput:
        self._thread = threading.get_ident()
        self._handle = self._layer.register_forward_pre_hook(self._begin, with_kwargs=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._handle.remove()

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> tuple[Any, Any] | None:
        if threading.get_ident() != self._thread or kwargs is None:
            return None
        torch.set_grad_enabled(True)
        given = (x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point())
        first = next(given, None)
        if first is None:
            return None
        entry = first.detach().requires_grad_()
        self._found.append(entry)

        def start(x: Any) -> Any:
            return entry if x is first else x

        return tuple(start(x) for x in args), {name: start(x) for name, x in kwargs.items()}
