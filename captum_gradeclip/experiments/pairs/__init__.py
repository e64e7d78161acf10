"""Words and regions of scenes: captions of two things, and all that competes to say which region each word means."""

from __future__ import annotations

from .banzhaf import banzhaf
from .captions import KINDS, WORDS, PairBatch, caption
from .contenders import Contender, Growing, contenders, growing
from .integrated_jacobians import integrated_jacobians

__all__ = [
    "KINDS",
    "WORDS",
    "Contender",
    "Growing",
    "PairBatch",
    "banzhaf",
    "caption",
    "contenders",
    "growing",
    "integrated_jacobians",
]
