"""The time that something takes."""

from __future__ import annotations

import time
from types import TracebackType

import torch


class Stopwatch:
    """Context whose ``seconds`` say how long it took, with the work that a GPU still had to do.

    Args:
        device: device on which the work runs (default the CPU).

    >>> with Stopwatch() as watch:
    ...     total = sum(range(1000))
    >>> watch.seconds > 0
    True
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._started = self._now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds = self._now() - self._started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
