"""A layer that is left out: it hands on what it is given."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from .tap import Arguments, Function, Tap


class Bypass(Tap):
    """Context in which a module returns its first argument.

    Args:
        module: the module, which returns one tensor of the shape that it is given, such as a norm.

    >>> import torch
    >>> norm, x = nn.LayerNorm(2), torch.tensor([[1.0, 3.0]])
    >>> with Bypass(norm):
    ...     norm(x)
    tensor([[1., 3.]])
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def _taps(self) -> Iterator[tuple[nn.Module, Function, bool]]:
        yield self._module, self._skip, True

    def _skip(self, _: nn.Module, args: Arguments, output: object) -> object:
        return args[0] if self._here and output is not None else None
