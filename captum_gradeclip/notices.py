"""What the package notices beside a result, told as a warning or kept beside an explanation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .quoting import MOST_OF_MESSAGE, line

_kept: ContextVar[list[str] | None] = ContextVar("kept notices", default=None)


def notice(message: str, stacklevel: int = 3) -> None:
    """Warns the user, or keeps the message where :func:`kept_notices` is entered.

    Args:
        message: a sentence that says what was noticed and what follows from it; it is made legible and one line.
        stacklevel: which caller the warning points at, as for :func:`warnings.warn` (default 3).
    """
    message = line(message, MOST_OF_MESSAGE)
    kept = _kept.get()
    if kept is None:
        warnings.warn(message, stacklevel=stacklevel)
    elif message not in kept:
        kept.append(message)


@contextmanager
def kept_notices() -> Iterator[list[str]]:
    """Context that keeps notices in place of warnings.

    It holds for this thread alone, which :func:`warnings.catch_warnings` does not.

    >>> with kept_notices() as kept:
    ...     notice("the map is zero")
    >>> kept
    ['the map is zero']
    """
    kept: list[str] = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)
