"""Arguments: whether each is of the kind, shape and range that a function needs, refused by its name if not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from .quoting import quoted

T = TypeVar("T")
Kind = Literal["floats", "integers", "numbers", "booleans"]
Examples = tuple[str, int]


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

    >>> one_of("mode", "deletion", Literal["deletion", "insertion"])
    'deletion'
    """
    if not isinstance(value, str) or value not in get_args(names):
        raise ValueError(f"{parameter}: expected one of {get_args(names)}, got {quoted(value)}")
    return value


def check_number(
    name: str,
    value: object,
    *,
    whole: bool = False,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> None:
    """Refuses anything but a finite number within bounds. A boolean is an ``int`` to Python, but is not meant as a number.

    Args:
        name: name of the parameter.
        value: what was given.
        whole: whether it has to be an integer (default False).
        least: smallest value that is allowed (default: no bound).
        above: value that must be exceeded (default: no bound).
        below: value that must not be reached (default: no bound).
        most: largest value that is allowed (default: no bound).

    Raises:
        TypeError: for anything but a number.
        ValueError: for a number that is not finite or out of bounds.

    >>> check_number("level", 1.5, above=0, below=1)
    Traceback (most recent call last):
    ...
    ValueError: level: expected above 0 and below 1, got 1.5
    """
    limits = ("at least", least), ("above", above), ("below", below), ("at most", most)
    bounds = " and ".join(f"{word} {bound:g}" for word, bound in limits if bound is not None)
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise TypeError(
            f"{name}: expected {'an integer' if whole else 'a number'}{bounds and f' {bounds}'}, got {quoted(value)}"
        )
    number = float(value)
    low = (least is None or number >= least) and (above is None or number > above)
    high = (most is None or number <= most) and (below is None or number < below)
    if not (math.isfinite(number) and low and high):
        raise ValueError(f"{name}: expected {bounds or 'a finite number'}, got {number:g}")


def check_numbers(
    name: str,
    values: object,
    *,
    count: int | None = None,
    whole: bool = False,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> list[float]:
    """Numbers of a sequence, an array or a tensor of one dimension, refused unless each is finite and within bounds.

    Args:
        name: name of the parameter.
        values: what was given.
        count: how many there have to be; ``None`` (the default) for any number.
        whole: whether they have to be integers (default False).
        least: smallest value that is allowed (default: no bound).
        above: value that must be exceeded (default: no bound).
        below: value that must not be reached (default: no bound).

    Raises:
        TypeError: for anything but numbers.
        ValueError: for another count, or a number that is not finite or out of bounds.

    >>> check_numbers("seeds", torch.tensor([3, 4]), count=2, whole=True)
    [3, 4]
    >>> check_numbers("std", (1.0, 0.0), above=0)
    Traceback (most recent call last):
    ...
    ValueError: std: expected above 0, got 0
    """
    what = "integers" if whole else "numbers"
    found = values.tolist() if isinstance(values, (Tensor, np.ndarray)) else values
    if not isinstance(found, Iterable) or isinstance(found, (str, bytes, Mapping)):
        raise TypeError(f"{name}: expected a sequence of {what}, got {type(values).__name__}")
    numbers = list(found)
    if count is not None and len(numbers) != count:
        raise ValueError(f"{name}: expected {count} {what}, got {len(numbers)}")
    for place, number in enumerate(numbers):
        if isinstance(number, Tensor) and number.numel() == 1 and not number.is_complex():
            numbers[place] = number = number.item()
        check_number(name, number, whole=whole, least=least, above=above, below=below)
    return numbers


def check_tensor(name: str, value: object, *shapes: str, kind: Kind = "numbers", examples: Examples | None = None) -> Tensor:
    """The argument itself, refused unless it is a tensor of one of some shapes and of a kind.

    Args:
        name: name of the parameter.
        value: what was given.
        shapes: the shapes that are allowed, such as ``"(N, 1, h, w)"``: a letter stands for any length of at least 1, a
            number for itself. Without any, every shape is allowed.
        kind: ``"floats"``, ``"integers"``, ``"booleans"`` or ``"numbers"`` (the default): floats, integers or booleans.
        examples: name and first dimension of what there has to be as many of; ``None`` (the default) for any number.

    Raises:
        TypeError: for anything but a tensor, or one of another kind.
        ValueError: for another shape or length.

    >>> check_tensor("maps", torch.rand(2, 4, 4), "(N, h, w)", "(N, 1, h, w)").shape
    torch.Size([2, 4, 4])
    >>> check_tensor("maps", torch.rand(4, 4), "(N, h, w)", "(N, 1, h, w)")
    Traceback (most recent call last):
    ...
    ValueError: maps: expected numbers (N, h, w) or (N, 1, h, w), each side at least 1, got shape (4, 4)
    """
    wanted = " or ".join(shapes)
    expected = f"{name}: expected {kind} {wanted}".rstrip()
    if not isinstance(value, Tensor):
        hint = "; torch.as_tensor makes one" if isinstance(value, Sequence) or hasattr(value, "__array__") else ""
        raise TypeError(f"{expected} as a tensor, got {type(value).__name__}{hint}")
    if not _is_kind(value, kind):
        hint = "; scale them to the model's range first, as its own preprocessing does" if kind == "floats" else ""
        raise TypeError(f"{expected}, got {value.dtype}{hint}")
    if shapes and not any(_has_shape(value, shape) for shape in shapes):
        raise ValueError(f"{expected}, each side at least 1, got shape {tuple(value.shape)}")
    if examples is not None and (value.dim() == 0 or len(value) != examples[1]):
        raise ValueError(f"{name}: expected one for each of {examples[1]} {examples[0]}, got shape {tuple(value.shape)}")
    return value


def check_strings(name: str, values: object) -> list[str]:
    """One string or several as a list.

    Raises:
        TypeError: for anything else.

    >>> check_strings("texts", "a red circle"), check_strings("texts", ("two", "stars"))
    (['a red circle'], ['two', 'stars'])
    """
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Iterable) or isinstance(values, (bytes, Mapping, Tensor, np.ndarray)):
        raise TypeError(f"{name}: expected strings, got {type(values).__name__}")
    strings = list(values)
    for one in strings:
        if not isinstance(one, str):
            raise TypeError(f"{name}: expected strings, got {type(one).__name__} among them")
    return strings


def check_sides(name: str, sides: Sequence[int]) -> tuple[int, int]:
    """Two sides of a picture, in the order given.

    Raises:
        TypeError: for anything but two integers.
        ValueError: for a side below 1.

    >>> check_sides("size", (64, 48))
    (64, 48)
    """
    if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) != 2:
        raise TypeError(f"{name}: expected two sides in pixels, got {quoted(sides)}")
    for side in sides:
        check_number(name, side, whole=True, least=1)
    return sides[0], sides[1]


def check_finite(name: str, value: Tensor) -> None:
    """Refuses a tensor that holds NaN or infinite values.

    Raises:
        ValueError: naming it.
    """
    # The extremes of a tensor with NaN are NaN; they are read in one pass, which a mask of all elements is not.
    extremes = value.aminmax() if value.numel() and not value.is_complex() else (value,)
    if not all(bool(torch.isfinite(one).all()) for one in extremes):
        raise ValueError(f"{name}: expected finite values, got NaN or infinite values among them")


def _is_kind(value: Tensor, kind: Kind) -> bool:
    floats, booleans = value.is_floating_point(), value.dtype == torch.bool
    integers = not (floats or booleans or value.is_complex())
    return {"floats": floats, "booleans": booleans, "integers": integers, "numbers": not value.is_complex()}[kind]


def _has_shape(value: Tensor, shape: str) -> bool:
    sides = [side.strip() for side in shape.strip("()").split(",") if side.strip()]
    return value.dim() == len(sides) and all(
        length == int(side) if side.isdigit() else length > 0 for length, side in zip(value.shape, sides)
    )
