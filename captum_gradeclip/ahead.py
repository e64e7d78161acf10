"""Work that threads do while the main thread is busy with what came before."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")
MOST_WORKERS = 4
"""The most threads that are started unless somebody asks for more: a few decode faster than most models look."""


def ahead(function: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """The results of a function, in the order of its items, which threads work on ahead of whoever takes the results.

    Threads do where processes would cost more than they bring: what decodes and resizes pictures leaves Python's lock to
    others, and nothing has to be copied from one process to another.

    Args:
        function: what is done with each item, in a thread; what it notices is kept where :func:`.notices.kept_notices` was
            entered by whoever takes the results.
        items: what it is done with; at most two for each thread, and one, are taken before their results are asked for.
        workers: number of threads; with 0, each item is worked on when its result is asked for.

    Yields:
        The result for each item. Where the function raised an error, the same error is raised here.

    >>> list(ahead(abs, [3, -2, -1], workers=2))
    [3, 2, 1]
    """
    if not workers:
        yield from map(function, items)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as threads:
        try:
            for item in items:
                waiting.append(threads.submit(copy_context().run, function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def usual_workers(items: int) -> int:
    """How many threads are started for some items where nobody says it: none for one item.

    >>> usual_workers(1), 1 <= usual_workers(500) <= MOST_WORKERS
    (0, True)
    """
    return 0 if items < 2 else min(MOST_WORKERS, os.cpu_count() or 1, items)
