"""Metrics that a ``MetricCollection`` never takes for one another."""

from __future__ import annotations

import torch
from torchmetrics import Metric


class Ungrouped(Metric):
    """A metric that stays in a compute group of its own.

    A :class:`torchmetrics.MetricCollection` updates only one of all metrics whose states are equal after the first batch.
    Two metrics of different settings, or on different models, may well agree on one batch: all pointing games do where the
    map points at the middle of its object. What decides a result here, a function for example, cannot be read off a state,
    so each of these metrics has one that equals nothing, not even itself.

    Args:
        settings: keyword arguments of :class:`torchmetrics.Metric`.
    """

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        # NaN stays what it is when states are summed, merged, reset, gathered or copied, and no comparison finds it equal.
        self.add_state("apart", torch.tensor(float("nan")), dist_reduce_fx="max")
