"""The base of contexts that look into a forward pass through hooks on chosen layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn
from torch.nn.modules import module as hooks_of_all

from .call import Call, closed, current_call, opened
from .hooks import Hook, theirs

if TYPE_CHECKING:
    from typing_extensions import Self

Arguments: TypeAlias = tuple[Any, ...]
"""The positional arguments of a layer or function that this package did not write."""
Keywords: TypeAlias = dict[str, Any]
"""The keyword arguments of such a layer or function."""
Function: TypeAlias = Callable[..., Any]
"""Such a function."""


class Tap:
    """Context in which hooks on layers are attached; only the thread that entered is seen.

    It belongs to the call that goes on (see :mod:`~captum_gradeclip.attention.call`), or is one itself.

    >>> class Calls(Tap):
    ...     def __init__(self, layer):
    ...         self.layer, self.count = layer, 0
    ...     def _taps(self):
    ...         yield self.layer, self.see
    ...     def see(self, layer, args, kwargs):
    ...         self.count += self._here
    >>> layer = nn.Identity()
    >>> with Calls(layer) as calls:
    ...     for _ in range(3):
    ...         _ = layer(1)
    >>> calls.count, len(layer._forward_pre_hooks)
    (3, 0)
    """

    call: Call
    _hooks: Sequence[Hook] = ()
    _own: bool

    def __enter__(self) -> Self:
        around = current_call()
        self.call, self._own = around or Call(), around is None
        if self._own:
            self.call.lock.acquire()
        opened(self)
        try:
            self._hooks = [Hook(*hook) for hook in self._taps()]
            for hook in self._hooks:
                hook.attach()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Takes the hooks away; a second time does nothing."""
        if self._own and self.call.lock.locked():
            self.call.lock.release()
        for hook in self._hooks:
            hook.remove()
        closed(self)

    @property
    def modules(self) -> list[nn.Module]:
        """The modules that are looked into."""
        return [hook[0] for hook in self._taps()]

    def _taps(self) -> Iterable[tuple[nn.Module, Function] | tuple[nn.Module, Function, bool]]:
        """The hooks: module, function, and whether it is called behind the module."""
        raise NotImplementedError

    @property
    def _here(self) -> bool:
        """Whether a hook runs in the thread that entered, while the context is open."""
        return self.call.here


class SeeOutputs(Tap):
    """Context in which the outputs of some modules are seen.

    Args:
        modules: the modules.
        see: given a module, its arguments and its output; what it returns is left out.

    >>> from torch import ones
    >>> model, seen = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), []
    >>> with SeeOutputs(list(model), lambda module, args, output: seen.append(tuple(output.shape))):
    ...     output = model(ones(1, 4))
    >>> seen
    [(1, 3), (1, 2)]
    """

    def __init__(self, modules: Sequence[nn.Module], see: Callable[[nn.Module, object, Any], object]) -> None:
        self._watched, self._see = modules, see

    def _taps(self) -> Iterable[tuple[nn.Module, Function, bool]]:
        for module in self._watched:
            yield module, self._show, True

    def _show(self, module: nn.Module, args: Arguments, output: object) -> None:
        if self._here and output is not None:
            self._see(module, args, output)


def is_observed(modules: Iterable[nn.Module]) -> bool:
    """Whether somebody else's hook looks into some modules, and expects to find all tokens there.

    Args:
        modules: the modules; hooks that this package has put on them do not count.

    Returns:
        True also where a hook is on all modules of torch.

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
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(everywhere) or any(theirs(part, name) for part in modules for name in names)
