"""Interrupts: what a command that is stopped before its end has kept, told in a line."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..quoting import quoted

CODE = 128 + signal.SIGINT
"""What a command exits with that the user has stopped."""


@contextmanager
def told_to_end(out: Path) -> Iterator[None]:
    """Context that says what is kept when measuring is stopped, by the user or by ``torchrun`` if another process has died.

    Args:
        out: where records are kept.

    Raises:
        KeyboardInterrupt: saying so, in place of one that says nothing.
        SystemExit: on SIGTERM, after saying so.
    """
    kept = f"what has been measured is kept in {quoted(out)}: the same command goes on from there"

    def end(number: int, frame: FrameType | None) -> None:
        # A caught error could be taken for that of a method; this is none that anything but the interpreter catches.
        print(f"gradeclip: told to end ({signal.Signals(number).name}); {kept}", file=sys.stderr)
        raise SystemExit(128 + number)

    handled = threading.current_thread() is threading.main_thread()  # only there can signals be handled
    before = signal.signal(signal.SIGTERM, end) if handled else None
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None
    finally:
        if handled:
            signal.signal(signal.SIGTERM, before)
