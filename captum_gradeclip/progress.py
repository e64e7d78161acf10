"""How far a loop is, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

T = TypeVar("T")
_PAUSE = 0.1
"""Seconds between two drawings of a bar, so that short steps are not slowed down by it."""


def track(
    steps: Iterable[T],
    title: str,
    *,
    total: int | None = None,
    disable: bool = False,
    transient: bool = True,
    console: Console | None = None,
) -> Iterator[T]:
    """The steps themselves, with a bar that shows how many of them are done.

    ``rich.progress.track`` draws from a thread of its own, and waits for it when its generator is thrown away. After an
    error that is when garbage is collected, perhaps while the console is locked, which that thread waits for: the process
    then hangs for good. This one has no thread.

    Args:
        steps: what to do, one after the other.
        title: what is being done.
        total: number of steps; ``None`` (default) for the length of ``steps``.
        disable: whether nothing is shown (default: it is).
        transient: whether the bar is gone at the end (default True).
        console: where it is shown; ``None`` (default) for the output.

    >>> list(track([1, 2, 3], "counting", disable=True))
    [1, 2, 3]
    """
    count = len(steps) if total is None and isinstance(steps, Sized) else total
    with Progress(transient=transient, disable=disable, console=console, auto_refresh=False) as bar:
        task = bar.add_task(title, total=count)
        drawn = monotonic()
        for step in steps:
            yield step
            bar.advance(task)
            if monotonic() - drawn > _PAUSE:
                bar.refresh()
                drawn = monotonic()
