"""What the page keeps for its visitors, each thing under a name that nobody can guess, and no more than fits."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

from ..arguments import check_number

T = TypeVar("T")


class Store(Generic[T]):
    """Things by tokens; the one that was not asked for the longest makes room for a new one.

    A visitor holds a token alone, so that two visitors can never be given each other's things.

    Args:
        most: how many things are kept, at least 1 (default 64).
        room: how many bytes they may take together, at least 1 (default 10^9); the newest is kept in any case.

    >>> store = Store(most=1)
    >>> first, second = store.put("a"), store.put("b")
    >>> store.get(first), store.get(second), first == second
    (None, 'b', False)
    """

    def __init__(self, most: int = 64, room: int = 10**9) -> None:
        check_number("most", most, whole=True, least=1)
        check_number("room", room, whole=True, least=1)
        self._most, self._room = most, room
        self._things: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._lock = Lock()

    def put(self, thing: T, size: int = 0) -> str:
        """Keeps a thing of some bytes (default 0), and returns its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._things[token] = thing, size
            while len(self._things) > 1 and (
                len(self._things) > self._most or sum(taken for _, taken in self._things.values()) > self._room
            ):
                self._things.popitem(last=False)
        return token

    def get(self, token: str | None) -> T | None:
        """The thing of a token; ``None`` if it has made room, or there never was one."""
        with self._lock:
            if token is None or token not in self._things:
                return None
            self._things.move_to_end(token)
            return self._things[token][0]
