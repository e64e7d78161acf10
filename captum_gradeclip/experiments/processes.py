"""The processes that were launched together, and share the work of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")


class ProcessError(ConnectionError):
    """Another process of the run has ended or failed, or the processes do not see each other."""


@dataclass(frozen=True)
class Processes:
    """This process among all that were launched together.

    They talk through gloo, on a machine with GPUs as well: nothing but a few short messages is exchanged.

    Attributes:
        rank: the number of this process, from 0.
        count: how many they are.

    >>> Processes(0, 1).gather("alone")
    ['alone']
    """

    rank: int
    count: int

    @classmethod
    def launched(cls) -> Processes:
        """The processes that ``torchrun`` or ``accelerate launch`` has started; without one of them, this one alone.

        Raises:
            ProcessError: if they do not find each other.
        """
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(0, 1)
        from accelerate import PartialState

        try:
            # Without cpu=True, processes on a machine without GPU take themselves for the only one, without a word. One
            # process may be done hours before the slowest, and by default those that wait give up after minutes; that
            # another one has died they learn at once, since its connections close.
            state = PartialState(cpu=True, timeout=timedelta(days=7))
        except (RuntimeError, ValueError) as error:
            raise ProcessError(f"the {count} processes of this run do not find each other: {error}") from None
        if state.num_processes != count:
            raise ProcessError(
                f"{count} processes were launched, but accelerate knows of {state.num_processes}, since it was set up before"
                " this run; make its PartialState or Accelerator with cpu=True, or none at all"
            )
        return cls(state.process_index, count)

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def gather(self, mine: T) -> list[T]:
        """What each process has brought, in their order; each waits until all are here.

        Raises:
            ProcessError: if another process has ended.
        """
        if self.count == 1:
            return [mine]
        from accelerate.utils import gather_object

        try:
            found: list[T] = gather_object([mine])
        except RuntimeError:  # gloo says which socket was closed, and nothing that a user could act on
            raise ProcessError(
                f"process {self.rank} of {self.count}: another process of this run has ended; start the run again with the"
                " same folder: what has been measured is kept"
            ) from None
        return found

    def each(self, step: Callable[[], T]) -> list[T]:
        """What a short step gives in each process; where it fails in one of them, it has failed in all.

        Raises:
            Exception: that of this process.
            ProcessError: if the step has failed in another process, with its message.
        """
        failed: Exception | None = None
        result: T | None = None
        try:
            result = step()
        except Exception as error:
            failed = error
        told = self.gather((result, None if failed is None else str(failed)))
        if failed is not None:
            raise failed
        found: list[T] = []
        for rank, (value, message) in enumerate(told):
            if message is not None:
                raise ProcessError(f"process {self.rank} of {self.count} ends, since process {rank} has failed: {message}")
            found.append(value)  # type: ignore[arg-type]
        return found
