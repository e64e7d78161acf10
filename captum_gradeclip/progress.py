"""How far loops are: bars on a terminal, and a line now and then where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_PAUSE = 0.1
"""Seconds between two drawings of a bar, so that short steps are not slowed down by it."""
_LINES = 30.0
"""Seconds between two lines about a loop where there is no terminal, in a log file for instance."""
_SHOWN: ContextVar[Progress | None] = ContextVar("_SHOWN", default=None)


@contextmanager
def display(console: Console | None = None) -> Iterator[None]:
    """Context in which every loop of :func:`track` has a bar, also those inside what is called, one below the other.

    A context inside another one changes nothing.

    Args:
        console: where the bars are shown; ``None`` (default) for the error output, where they do not mix with results.

    >>> with display():
    ...     outer = [sum(track(range(number), "adding", disable=True)) for number in track([2, 3], "numbers")]
    >>> outer
    [1, 3]
    """
    if _display() is not None:
        yield
        return
    with _bars(console, transient=True) as bars:
        token = _SHOWN.set(bars)
        try:
            yield
        finally:
            _SHOWN.reset(token)


def track(
    steps: Iterable[T],
    title: str,
    *,
    total: int | None = None,
    done: int = 0,
    name: Callable[[T], str] | None = None,
    costs: Sequence[float] | None = None,
    disable: bool = False,
    transient: bool = True,
    console: Console | None = None,
) -> Iterator[T]:
    """The steps themselves, with a bar that shows how many of them are done, and how long the others will take.

    Where there is no terminal, a line tells the same every half a minute, and of steps with names whenever one is finished.

    ``rich.progress.track`` draws from a thread of its own, and waits for it when its generator is thrown away. After an
    error that is when garbage is collected, perhaps while the console is locked, which that thread waits for: the process
    then hangs for good. This one has no thread.

    Args:
        steps: what to do, one after the other.
        title: what is being done.
        total: number of steps; ``None`` (default) for the length of ``steps``.
        done: how many further steps an earlier run has done (default 0).
        name: what a step is called while it is being done (default: it has no name).
        costs: how long each step takes in proportion to the others; ``None`` (default) for all alike.
        disable: whether nothing is shown (default: it is). Inside :func:`display` all loops are shown.
        transient: whether the bar is gone at the end (default True; inside :func:`display` it is).
        console: where it is shown; ``None`` (default) for the error output.

    >>> list(track([1, 2, 3], "counting", disable=True))
    [1, 2, 3]
    """
    count = len(steps) if total is None and isinstance(steps, Sized) else total
    shown = _display()
    if shown is not None:
        yield from _Line(shown, title, count, done, name, costs).follow(steps, remove=True)
    elif disable:
        yield from steps
    else:
        with _bars(console, transient) as bars:
            yield from _Line(bars, title, count, done, name, costs).follow(steps, remove=False)


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(0.25), duration(7.4), duration(200)
    ('0.2 s', '7 s', '3 min')
    """
    return f"{seconds:.1f} s" if seconds < 3 else f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class _Line(Generic[T]):
    """A loop on a display; arguments as for :func:`track`."""

    def __init__(
        self,
        bars: Progress,
        title: str,
        count: int | None,
        done: int,
        name: Callable[[T], str] | None,
        costs: Sequence[float] | None,
    ) -> None:
        self.bars, self.title, self.name, self.costs = bars, title, name, costs
        self.count, self.done = None if count is None else count + done, done
        size = count if costs is None else sum(costs)
        self.task: TaskID = bars.add_task(
            title, total=None if size is None else size + done, completed=done, told=self._told()
        )
        self.began = self.lined = self.drawn = monotonic()

    def follow(self, steps: Iterable[T], remove: bool) -> Iterator[T]:
        """The steps, each told when it begins and when it is done."""
        try:
            for number, step in enumerate(steps):
                called = "" if self.name is None else self.name(step)
                if called:
                    self.bars.update(self.task, description=f"{self.title}: {called}")
                    self.bars.refresh()
                began = monotonic()
                yield step
                self.done += 1
                self.bars.update(self.task, advance=1 if self.costs is None else self.costs[number], told=self._told())
                self._tell(called, monotonic() - began)
        finally:
            if remove:
                self.bars.remove_task(self.task)

    def _tell(self, called: str, seconds: float) -> None:
        now = monotonic()
        if not self.bars.disable:
            if now - self.drawn > _PAUSE:
                self.bars.refresh()
                self.drawn = now
        elif called or now - self.lined > _LINES:
            left = next((one.time_remaining for one in self.bars.tasks if one.id == self.task), None)
            rest = "" if not left or left < 1 else f", about {duration(left)} left"
            step = f"{called} took {duration(seconds)}; " if called else ""
            told = f"{self.title}: {step}{self._told()} done{rest}"
            self.bars.console.print(told, markup=False, highlight=False, soft_wrap=True)
            self.lined = now

    def _told(self) -> str:
        return f"{self.done}" if self.count is None else f"{self.done} of {self.count}"


def _display() -> Progress | None:
    """The bars of the context, if it goes on: after an interrupt inside of its end it may be left."""
    bars = _SHOWN.get()
    return bars if bars is not None and (bars.disable or bars.live.is_started) else None


@contextmanager
def _bars(console: Console | None, transient: bool) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[told]}", markup=False),
        TimeRemainingColumn(),
    )
    place = Console(stderr=True) if console is None else console
    with Progress(
        *columns,
        transient=transient,
        console=place,
        disable=not (place.is_interactive or place.is_jupyter),
        auto_refresh=False,
        get_time=monotonic,
        speed_estimate_period=3600,  # of steps that take minutes each, the usual 30 seconds hold none
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # what goes to a file stays there
    ) as bars:
        yield bars
