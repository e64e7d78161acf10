"""One call of this package: what it opens on the user's model is closed when the call ends, however it ends.

Python delivers an interrupt (Ctrl-C) at the beginning of any function, also of the ``__exit__`` that would have cleaned up.
Therefore nothing depends on a single ``__exit__``: every :class:`~captum_gradeclip.attention.tap.Tap` belongs to a call and
answers only while that call is alive, and a call is alive while a lock is held, which the interpreter itself releases
without running any Python code. The end of the call then closes what is still open, and gives this thread back its modes.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import torch
from typing_extensions import ParamSpec, Protocol

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Closable(Protocol):
    """What a call opens."""

    call: Call

    def close(self) -> None:
        """Takes everything away; a second time does nothing."""


class Call:
    """The time during which what was opened in this thread is alive."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._thread, self._process = threading.get_ident(), os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the thread of the call, and the call goes on."""
        return self.lock.locked() and threading.get_ident() == self._thread and os.getpid() == self._process

    @property
    def over(self) -> bool:
        """Whether the call has ended, or is one of a process of which this one is a copy."""
        return not self.lock.locked() or os.getpid() != self._process


class _Current(threading.local):
    call: Call | None = None


_CURRENT = _Current()
_OPEN: set[Closable] = set()


def current_call() -> Call | None:
    """The call that goes on in this thread, if there is one."""
    call = _CURRENT.call
    return call if call is not None and call.here else None


def opened(what: Closable) -> None:
    """Remembers that something is open, so that it is closed at the latest by the next call."""
    _OPEN.add(what)


def closed(what: Closable) -> None:
    """Forgets what is closed."""
    _OPEN.discard(what)


def _forget_frames(error: BaseException) -> None:
    """Ends the generators that an interrupt left suspended in frames which only the traceback keeps alive.

    Torch leaves a mode for a while by such a generator, which puts it back on the stack when it ends, at the latest when
    the traceback is forgotten. That must happen before the stack is restored. Errors keep their frames for the debugger.
    """
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, Exception):
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__context__


def close_over() -> None:
    """Closes what calls that are over have left, after a second interrupt or in a copy of the process."""
    for what in list(_OPEN):
        if what.call.over:
            what.close()


def one_call(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes a function one call of this package: it leaves hooks, modes and the grad mode as it found them.

    Args:
        function: the function; a call of it inside another call of this package belongs to that one.

    Returns:
        The function with the same arguments and results.

    >>> @one_call
    ... def forgetful():
    ...     torch.set_grad_enabled(False)
    ...     raise KeyboardInterrupt
    >>> try:
    ...     forgetful()
    ... except KeyboardInterrupt:
    ...     torch.is_grad_enabled()
    True
    """

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if current_call() is not None:
            return function(*args, **kwargs)
        close_over()
        before, this = _Modes(), Call()
        with this.lock:
            _CURRENT.call = this
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                _forget_frames(error)
                raise
            finally:
                before.restore()
                for what in [one for one in _OPEN if one.call is this]:
                    what.close()
                _CURRENT.call = None

    return call


def function_modes() -> int:
    """Number of modes on torch's stack of this thread."""
    return torch._C._len_torch_function_stack()


class _Modes:
    """What torch remembers for this thread and a ``with`` block whose end was interrupted leaves changed."""

    def __init__(self) -> None:
        self.grad, self.nesting = torch.is_grad_enabled(), _autocast_nesting()
        self.stack = [torch._C._get_function_stack_at(depth) for depth in range(function_modes())]
        self.autocast = {device: torch.is_autocast_enabled(device) for device in ("cpu", "cuda")}

    def restore(self) -> None:
        # Functions in C throughout, which an interrupt cannot keep from running.
        torch._C._set_grad_enabled(self.grad)
        kept = 0
        for mode in self.stack[: torch._C._len_torch_function_stack()]:
            if torch._C._get_function_stack_at(kept) is not mode:
                break
            kept += 1
        while torch._C._len_torch_function_stack() > kept:
            torch._C._pop_torch_function_stack()
        for mode in self.stack[kept:]:  # torch takes a mode off the stack for a while, and an interrupt can make it stay off
            torch._C._push_on_torch_function_stack(mode)
        for device, enabled in self.autocast.items():
            torch.set_autocast_enabled(device, enabled)
        while _autocast_nesting() > self.nesting:
            torch.autocast_decrement_nesting()


def _autocast_nesting() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=close_over)
