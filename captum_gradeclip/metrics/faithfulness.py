"""The former place of what ``baselines``, ``curves``, ``scoring`` and ``words`` hold; deprecated, kept for one version."""

from .baselines import Baseline, baseline
from .curves import (
    Auc,
    Deletion,
    Insertion,
    InsertionMinusDeletion,
    Mode,
    Schedule,
    area_under,
    curves,
    ranks,
)
from .scoring import ScoreChoice, ScoreFunction, recall, reverse_recall, score_function, target_score, top_k
from .words import word_steps

Canvas = Baseline
Performance = ScoreFunction
Traced = ScoreChoice
canvas = baseline
traced_by = score_function

__all__ = [
    "Auc",
    "Canvas",
    "Deletion",
    "Insertion",
    "InsertionMinusDeletion",
    "Mode",
    "Performance",
    "Schedule",
    "Traced",
    "area_under",
    "canvas",
    "curves",
    "ranks",
    "recall",
    "reverse_recall",
    "target_score",
    "top_k",
    "traced_by",
    "word_steps",
]
