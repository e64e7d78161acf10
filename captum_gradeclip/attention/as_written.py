"""Compiled modules that run as they were written while somebody looks into them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import nn

from .tap import Tap

if TYPE_CHECKING:
    from typing_extensions import Self


class AsWritten(Tap):
    """Context in which compiled modules around some layers, and these layers, run as they were written.

    Compiled code makes no calls that could be intercepted, and a hook inside it would break its graph or go unseen. All
    other compiled modules stay compiled: blocks that were compiled one by one (``block.compile()``) in front of the first
    layer, for example. While the context is open, other threads run as it was written what is put aside.

    Args:
        layers: the layers that are looked into.
        modules: the modules among which compiled ones are searched.

    >>> inner = nn.Linear(2, 2)
    >>> model, seen = nn.Sequential(inner), []
    >>> model.compile(backend="eager")
    >>> handle = inner.register_forward_hook(lambda *_: seen.append(model._compiled_call_impl))
    >>> with AsWritten([inner], [model]):
    ...     output = model(next(inner.parameters()))
    >>> seen, model._compiled_call_impl is None
    ([None], False)
    """

    def __init__(self, layers: Sequence[nn.Module], modules: Iterable[nn.Module]) -> None:
        compiled = {part: name for part in modules if (name := _compiled(part))}
        self._aside = {part: name for part, name in compiled.items() if any(one in layers for one in part.modules())}

    def __enter__(self) -> Self:
        super().__enter__()
        for part, name in self._aside.items():
            _put_aside(part, name, self)
        return self

    def close(self) -> None:
        """Compiles again what is put aside for nobody else; a second time does nothing."""
        for part, name in self._aside.items():
            _put_back(part, name, self)
        super().close()

    def _taps(self) -> tuple[()]:
        return ()


def is_wrapper(module: nn.Module) -> bool:
    """Whether a module is what :func:`torch.compile` makes of another one, which is inside it."""
    return "_orig_mod" in module._modules and "dynamo_ctx" in vars(module)


def _compiled(module: nn.Module) -> str | None:
    """The attribute by which a module is compiled; ``None`` if it is not."""
    if is_wrapper(module):
        return "forward"
    return "_compiled_call_impl" if vars(module).get("_compiled_call_impl") is not None else None


_ASIDE: WeakKeyDictionary[nn.Module, tuple[object, set[Tap]]] = WeakKeyDictionary()
"""What modules had before, and for whom it was put aside: several threads may look into one module."""
_lock = threading.Lock()


def _put_aside(module: nn.Module, name: str, who: Tap) -> None:
    with _lock:
        # In this order an interrupt between two lines leaves nothing that _put_back would not find.
        users = _ASIDE.setdefault(module, (vars(module)[name], set()))[1]
        users.add(who)
        module.__dict__[name] = module._modules["_orig_mod"] if name == "forward" else None


def _put_back(module: nn.Module, name: str, who: Tap) -> None:
    with _lock:
        if module not in _ASIDE:
            return
        before, users = _ASIDE[module]
        users.discard(who)
        if not users:
            module.__dict__[name] = before
            del _ASIDE[module]


def _unlock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that does not exist in the child may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
