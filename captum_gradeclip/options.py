"""The options of a method, declared once and checked once."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .arguments import check_number
from .quoting import quoted

_Number = TypeVar("_Number", int, float, "int | None", "float | None")


@dataclass(frozen=True)
class Options:
    """The base of the options of a method: a frozen dataclass whose fields are checked when it is made.

    A field of a ``Literal`` type takes one of its values. A number takes a finite value within the bounds that
    :func:`number` declares. Derived classes check in ``__post_init__`` what a single field cannot show.

    Raises:
        ValueError: naming the option, what was expected and what arrived.

    >>> @dataclass(frozen=True)
    ... class Mine(Options):
    ...     steps: int = number(10, least=1)
    >>> Mine(steps=0)
    Traceback (most recent call last):
    ...
    ValueError: steps: expected at least 1, got 0
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            _check(one, hints[one.name], self.__dict__[one.name])


def number(
    default: _Number, *, least: float | None = None, above: float | None = None, most: float | None = None
) -> _Number:
    """A field that holds a number.

    Args:
        default: the value where none is given.
        least: smallest value that is allowed (default: no bound).
        above: value that must be exceeded (default: no bound).
        most: largest value that is allowed (default: no bound).
    """
    value: _Number = field(default=default, metadata={"least": least, "above": above, "most": most})
    return value


def literals(kind: object) -> tuple[object, ...]:
    """The values of the ``Literal`` types in a type.

    >>> literals(Literal["a", "b"] | None)
    ('a', 'b')
    """
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(value for part in _parts(kind) if get_origin(part) is Literal for value in get_args(part))


def _parts(kind: object) -> tuple[object, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _check(one: Field[object], kind: object, value: object) -> None:
    # Of Sequence[int], the sequence can be checked.
    types = tuple(part for part in (get_origin(part) or part for part in _parts(kind)) if isinstance(part, type))
    numeric = Real if float in types else Integral if int in types else ()
    # A bool is an int to Python, and hardly ever what a number was meant to be.
    fits = bool in types if isinstance(value, bool) else isinstance(value, (types, numeric))
    values = literals(kind)
    if not fits and values and not (isinstance(value, str) and value in values):
        others = "".join(f"a {part.__name__} or " for part in types if part is not NoneType)
        raise ValueError(f"{one.name}: expected {others}one of {values}, got {quoted(value)}")
    if not fits and not values and types:
        names = " or ".join("None" if part is NoneType else part.__name__ for part in types)
        raise ValueError(f"{one.name}: expected {names}, got {quoted(value)}")
    if fits and isinstance(value, Real) and not isinstance(value, bool):
        check_number(one.name, value, **one.metadata)
