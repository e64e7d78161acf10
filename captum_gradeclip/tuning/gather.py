"""Features of all processes in every process, with the graph of the own ones."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of these; in a single process the rows themselves.

    The gradient of a loss of all rows that every process computes goes back to the process that a row comes from, once for
    each process. Averaged over the processes, as data-parallel training does, it is that of one process with all rows.

    Args:
        rows: ``(n, ...)``, with another ``n`` of at least 0 in each process, and the same other dimensions.

    Returns:
        ``(N, ...)`` with the sum N of all ``n``.

    >>> gather(torch.eye(2)).shape
    torch.Size([2, 2])
    """
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return rows
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, own)
    most = int(torch.cat(counts).max())
    padded = F.pad(rows, (*(0, 0) * (rows.dim() - 1), 0, most - len(rows)))
    parts: Tensor = _Gathered.apply(padded.contiguous())
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts)])


class _Gathered(torch.autograd.Function):
    """The rows of all processes, ``(n, ...)`` to ``(processes, n, ...)``; what torch has for it, it calls deprecated."""

    @staticmethod
    def forward(ctx: object, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[distributed.get_rank()]
