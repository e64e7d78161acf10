"""A folder that belongs to one run at a time."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import TracebackType

from ..quoting import quoted
from .records import RecordError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)


class LockedError(RecordError):
    """Another run is at work in the folder."""


class Lock:
    """Keeps other runs out of a folder, by a lock on a file in it that the system releases however the process ends.

    The first process of a run takes the folder for itself, settles what lies in it, and then shares it with the other
    processes of the run. Another run finds it taken until the last of them has ended. The file goes with the last one that
    leaves; what a killed run has left of it locks nothing.

    On Windows, and on file systems without locks, nothing is kept out.

    Args:
        folder: an existing folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Lock(Path(folder)) as mine:
    ...     mine.take()
    ...     Lock(Path(folder)).take()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    captum_gradeclip.experiments.lock.LockedError: out: another run is at work in ...
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / ".lock"
        self._file: int | None = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is None or sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # other processes of this run are still at work here
        finally:
            os.close(self._file)
            self._file = None

    def take(self) -> None:
        """Takes the folder for this process alone.

        Raises:
            LockedError: if another one has it.
        """
        if sys.platform != "win32":
            self._lock(fcntl.LOCK_EX)

    def share(self) -> None:
        """Takes the folder, or keeps it, together with the other processes of this run.

        Raises:
            LockedError: if a process has it for itself.
        """
        if sys.platform != "win32":
            self._lock(fcntl.LOCK_SH)

    def _lock(self, how: int) -> None:
        if sys.platform == "win32":
            return
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666) if self._file is None else self._file
            self._file = file
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                self._file = None
                raise LockedError(
                    f"out: another run is at work in {quoted(self.folder)}; wait for its end, or choose another folder"
                ) from None
            except OSError as error:
                logger.warning("%s cannot be locked (%s): see to it that no other run uses it", self.folder, error.strerror)
                return
            try:
                if os.path.samestat(os.fstat(file), os.stat(self.path)):
                    return
            except FileNotFoundError:
                pass
            # The run that held this file has taken it away while this one opened it; what is locked now is nothing.
            os.close(file)
            self._file = None
