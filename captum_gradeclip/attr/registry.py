"""The methods that are known, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias, TypeVar, overload

from ..adapters.base import Foreign
from ..quoting import quoted
from .base import Method

AnyMethod: TypeAlias = "Method[Foreign, Foreign]"
"""A method, whatever its options and evidence."""
Kind: TypeAlias = type[AnyMethod]
"""The class of a method."""
Named: TypeAlias = "str | Kind | AnyMethod | type"
"""A method by name, class or object, or the Captum class that one of :data:`CAPTUM` stands for."""
_K = TypeVar("_K", bound=Kind)


class Registry(Sequence[Kind]):
    """Classes of methods in the order in which they were registered, each known by the name of its class."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    @overload
    def __getitem__(self, index: int) -> Kind: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Kind]: ...
    def __getitem__(self, index: int | slice) -> Kind | Sequence[Kind]:
        return list(self._kinds.values())[index]

    def __len__(self) -> int:
        return len(self._kinds)

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._kinds.values()))

    def register(self, kind: _K) -> _K:
        """Adds a class; usable as a decorator.

        Raises:
            ValueError: if another class of this name is there.
        """
        if self._kinds.setdefault(kind.__name__, kind) is not kind:
            raise ValueError(f"kind: a method {quoted(kind.__name__)} is registered already; give the class another name")
        return kind

    def unregister(self, kind: Kind) -> None:
        """Takes a class out again."""
        del self._kinds[kind.__name__]


METHODS, CAPTUM, BASELINES = Registry(), Registry(), Registry()
"""The methods of this package; Captum's own on the same scores; maps that every method should be measured against."""


def register(kind: _K) -> _K:
    """Makes a method known: ``compare``, the command line, tables, docs and contract tests follow from its declarations.

    Args:
        kind: the class of a method.

    Returns:
        The class itself, so that this is a decorator.

    Raises:
        ValueError: if another class of this name is there.

    >>> from captum_gradeclip.attr import RandomMap
    >>> @register
    ... class Chance(RandomMap):
    ...     info = RandomMap.info
    >>> find_method("chance") is Chance
    True
    >>> METHODS.unregister(Chance)
    """
    return METHODS.register(kind)


def find_method(method: Named) -> Kind:
    """The class of a method that is given by name, class or object.

    Args:
        method: name of its class, or the name that papers print, in any spelling; or the class; or an object of it.

    Returns:
        The class, as it was registered.

    Raises:
        ValueError: listing what there is.

    >>> from captum_gradeclip.attr import METHODS
    >>> find_method("grad-eclip").__name__, find_method("occlusion").info.name
    ('GradECLIP', 'Occlusion')
    """
    given = method if isinstance(method, type) else type(method)
    if issubclass(given, Method):
        return given
    name = given.__name__ if isinstance(method, type) else str(method)
    known: list[Kind] = [*METHODS, *CAPTUM, *BASELINES]
    for kind in known:
        if _letters(name) in (_letters(kind.__name__), _letters(kind.info.name)):
            return kind
    raise ValueError(f"methods: there is no {quoted(name)}; known are {', '.join(kind.__name__ for kind in known)}")


def find_methods(methods: Named | list[Named] | tuple[Named, ...] | Registry) -> list[Kind | AnyMethod]:
    """The methods of some names, classes or objects, each once; ``"all"`` stands for :data:`METHODS`.

    Objects stay what they are, with the layers that they were made with.

    Args:
        methods: a name, a class or an object, or several of them.

    Returns:
        Classes, and the objects that were given, in their order.

    Raises:
        ValueError: listing what there is.

    >>> [kind.__name__ for kind in find_methods(["all", "occlusion"])][-1], len(find_methods("all")) == len(METHODS)
    ('Occlusion', True)
    """
    found: list[Kind | AnyMethod] = []
    for one in methods if isinstance(methods, (list, tuple, Registry)) else [methods]:
        if isinstance(one, str) and one == "all":
            found += METHODS
        else:
            found.append(one if isinstance(one, Method) else find_method(one))
    if not found:
        raise ValueError("methods: expected at least one")
    return list(dict.fromkeys(found))


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
