"""The server: shows a page to this machine alone, or to others behind a password."""

from __future__ import annotations

import hmac
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import sleep

from ..adapters.base import Foreign
from ..files import scratch
from .limits import Limits
from .style import CSS

LOCAL = ("127.0.0.1", "localhost", "::1")
"""The hosts that only this machine can reach."""


@dataclass(frozen=True)
class Place:
    """Where a page is shown.

    Attributes:
        host: the address that the server listens to (default ``"127.0.0.1"``, this machine alone).
        port: the port; ``None`` (default) for the first free one from 7860 on.
        share: whether Gradio's tunnel makes it reachable from everywhere (default false).
        password: what visitors have to give, beside any name; ``None`` (default) for nothing.
        open_to_all: whether others may come without a password (default false).

    Raises:
        ValueError: if others can come without a password and nobody has said that they may.

    >>> Place(host="0.0.0.0")
    Traceback (most recent call last):
    ValueError: password: expected one, since others can reach 0.0.0.0; give a password, or open_to_all=True
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    password: str | None = None
    open_to_all: bool = False

    def __post_init__(self) -> None:
        reached = "a shared page" if self.share else None if self.host in LOCAL else self.host
        if reached is not None and not self.password and not self.open_to_all:
            raise ValueError(
                f"password: expected one, since others can reach {reached}; give a password, or open_to_all=True"
            )
        if self.password is not None and not self.password:
            raise ValueError("password: expected at least one letter, got none")

    def allows(self, name: str, password: str) -> bool:
        """Whether a visitor may come in; the name may be any.

        >>> Place(password="secret").allows("anybody", "secret"), Place(password="secret").allows("anybody", "guess")
        (True, False)
        """
        return self.password is None or hmac.compare_digest(password.encode(), self.password.encode())


@contextmanager
def ending() -> Iterator[Callable[[], None]]:
    """Context in which the user (SIGINT) and the system (SIGTERM) end a page, so that what it opened is closed behind it.

    To stop it is how a page ends, and no error.

    Yields:
        A function that waits for the end.
    """
    told: list[int] = []
    before = {one: signal.signal(one, lambda number, _: told.append(number)) for one in (signal.SIGINT, signal.SIGTERM)}

    def wait() -> None:
        while not told:  # an event could not be set by a signal that comes while it is being waited for
            sleep(0.2)

    try:
        yield wait
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def serving(build: Callable[[], Foreign], place: Place, limits: Limits) -> Iterator[str]:
    """Context in which a page is shown, and whose files all lie in a temporary folder that goes at its end.

    Args:
        build: builds the page; Gradio is first loaded in it.
        place: where it is shown.
        limits: how much visitors may upload, and how many may wait.

    Yields:
        The address of the page.

    Raises:
        ModuleNotFoundError: if Gradio is not installed, which the extra ``app`` brings.
        OSError: if the port is taken.
    """
    with scratch() as folder:
        # Read when Gradio is imported, and again where it writes.
        settings = {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        page = None
        try:
            page = build()
            page.queue(max_size=limits.waiting, default_concurrency_limit=4, api_open=False)
            _, local, shared = page.launch(
                server_name=place.host,
                server_port=place.port,
                share=place.share,
                auth=place.allows if place.password is not None else None,
                max_file_size=round(limits.megabytes * 2**20),
                prevent_thread_lock=True,
                quiet=True,
                show_error=False,
                ssr_mode=False,
                footer_links=[],
                css=CSS,
                enable_monitoring=False,
                inbrowser=False,
                state_session_capacity=1000,
            )
            yield shared or local
        finally:
            if page is not None:
                page.close(verbose=False)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
