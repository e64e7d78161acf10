"""Hooks of ours beside those of the user: no copy of the module takes them along, and no thread finds them half changed.

Torch keeps the hooks of a module in dictionaries that a copy, a pickle or a fork of the module iterates over. A hook that
is registered there while another thread copies the module breaks the copy, or is copied with it. We therefore put one
object in the place of such a dictionary: it shows torch the user's hooks and ours, and everybody who copies it the user's.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import count
from typing import SupportsIndex

from torch import nn

_BEFORE = ("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")
_BEHIND = ("_forward_hooks", "_forward_hooks_always_called")


class Beside(OrderedDict[int, object]):
    """A dictionary of a module's hooks, with ours at its end.

    What others add or remove meanwhile goes to their own dictionary, and stays when ours are gone.

    >>> theirs = OrderedDict({1: "theirs"})
    >>> both = Beside(theirs)
    >>> both.ours = {-1: "ours"}
    >>> list(both.values()), deepcopy(both)
    (['theirs', 'ours'], OrderedDict([(1, 'theirs')]))
    """

    def __init__(self, theirs: OrderedDict[int, object]) -> None:
        super().__init__()
        self.theirs = theirs
        self.ours: dict[int, object] = {}
        self.changed = False
        """Whether somebody else registered a hook here, whose handle then refers to this object."""

    # What torch and the user ask of a dictionary of hooks.
    # ruff: noqa: D102
    def items(self) -> Sequence[tuple[int, object]]:  # type: ignore[override]  # torch only iterates over it
        return [*self.theirs.items(), *self.ours.items()]

    def keys(self) -> Sequence[int]:  # type: ignore[override]
        return [*self.theirs.keys(), *self.ours.keys()]

    def values(self) -> Sequence[object]:  # type: ignore[override]
        return [*self.theirs.values(), *self.ours.values()]

    def __iter__(self) -> Iterator[int]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.theirs) + len(self.ours)

    def __contains__(self, key: object) -> bool:
        return key in self.theirs or key in self.ours

    def __getitem__(self, key: int) -> object:
        return self.theirs[key] if key in self.theirs else self.ours[key]

    def __setitem__(self, key: int, value: object) -> None:
        self.changed = True
        self.theirs[key] = value

    def __delitem__(self, key: int) -> None:
        del self.theirs[key]

    def move_to_end(self, key: int, last: bool = True) -> None:
        self.theirs.move_to_end(key, last)

    def __deepcopy__(self, memo: dict[int, object]) -> OrderedDict[int, object]:
        return deepcopy(self.theirs, memo)

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[object, ...]:
        return self.theirs.__reduce_ex__(protocol)


class Hook:
    """One hook of ours on a module.

    Args:
        module: the module.
        function: called as torch calls a hook of this kind.
        behind: whether it is called behind the module with its output, also when the module raised, rather than before
            the module with its arguments and keyword arguments (default False).
    """

    def __init__(self, module: nn.Module, function: Callable[..., object], behind: bool = False) -> None:
        self.module, self.function = module, function
        self.names = _BEHIND if behind else _BEFORE
        self.key = next(_KEYS)

    def attach(self) -> None:
        """Adds the hook behind those that the module has."""
        with _lock:
            for name, value in zip(self.names, (self.function, True)):
                hooks = self.module.__dict__[name]
                if not isinstance(hooks, Beside):
                    hooks = self.module.__dict__[name] = Beside(hooks)
                hooks.ours = {**hooks.ours, self.key: value}

    def remove(self) -> None:
        """Takes the hook away, however much of it is there; a second time does nothing."""
        with _lock:
            for name in self.names:
                hooks = self.module.__dict__.get(name)
                if not isinstance(hooks, Beside):
                    continue
                hooks.ours = {key: value for key, value in hooks.ours.items() if key != self.key}
                if not hooks.ours and not hooks.changed:
                    self.module.__dict__[name] = hooks.theirs


@contextmanager
def own_hooks(module: nn.Module) -> Iterator[None]:
    """Context at the end of which a module has no other hooks than before, whatever has happened to those that were added.

    >>> layer = nn.Linear(2, 2)
    >>> with own_hooks(layer):
    ...     handle = layer.register_forward_hook(lambda module, inputs, output: None)
    >>> len(layer._forward_hooks)
    0
    """
    kept = {name: set(module.__dict__[name]) for name in (*_BEFORE, *_BEHIND)}
    try:
        yield
    finally:
        for name, keys in kept.items():
            for key in set(module.__dict__[name]) - keys:
                module.__dict__[name].pop(key, None)


def theirs(module: nn.Module, name: str) -> object:
    """The hooks of a module under one of torch's names, without ours."""
    hooks = module.__dict__.get(name)
    return hooks.theirs if isinstance(hooks, Beside) else hooks


# Torch counts the keys of its hooks upward from 0.
_KEYS = count(-1, -1)
_lock = threading.Lock()


def _unlock() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that does not exist in the child may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)
