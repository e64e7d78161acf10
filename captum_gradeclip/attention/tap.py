"""The base of contexts that look into a forward pass through hooks on chosen layers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn
from torch.nn.modules import module as hooks_of_all
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from typing_extensions import Self

Arguments: TypeAlias = tuple[Any, ...]
"""The positional arguments of a layer or function that this package did not write."""
Keywords: TypeAlias = dict[str, Any]
"""The keyword arguments of such a layer or function."""
Function: TypeAlias = Callable[..., Any]
"""Such a function."""


class Tap:
    """Context in which hooks on layers are attached; only the thread that entered is seen."""

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        with ExitStack() as stack:
            for handle in self._attach():
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _attach(self) -> Iterable[RemovableHandle]:
        """Registers the hooks, one after the other."""
        raise NotImplementedError

    def _here(self, kwargs: Keywords | None = None) -> bool:
        """Whether a hook runs in the thread that entered."""
        return threading.get_ident() == self._thread


def is_observed(modules: Iterable[nn.Module]) -> bool:
    """Whether somebody else's hook looks into some modules, and expects to find all tokens there.

    >>> layer = nn.Linear(2, 2)
    >>> is_observed(layer.modules())
    False
    >>> handle = layer.register_forward_hook(lambda module, inputs, output: None)
    >>> is_observed(layer.modules())
    True
    """
    everywhere = (
        *(hooks_of_all._global_forward_hooks, hooks_of_all._global_forward_pre_hooks),
        *(hooks_of_all._global_backward_hooks, hooks_of_all._global_backward_pre_hooks),
    )
    return any(everywhere) or any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in modules
    )
