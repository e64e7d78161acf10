"""Arguments that take one of several names."""

from __future__ import annotations

from typing import TypeVar, get_args

T = TypeVar("T")


def one_of(parameter: str, value: T, names: object) -> T:
    """Checks that an argument is one of the names of a ``Literal`` type.

    Args:
        parameter: name of the parameter, for the error message.
        value: what was given.
        names: a ``Literal`` type.

    Returns:
        The value itself.

    Raises:
        ValueError: if the value is not among the names; the message lists them.

    >>> from typing import Literal
    >>> one_of("mode", "deletion", Literal["deletion", "insertion"])
    'deletion'
    """
    if value not in get_args(names):
        raise ValueError(f"{parameter}: expected one of {get_args(names)}, got {value!r}")
    return value
