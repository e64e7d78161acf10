"""One forward pass, intercepted in chosen layers and remembered."""

from .interception import Interception
from .record import LayerError, Record, Rule, merge_heads, model_heads, single_head, split_heads, value_only

__all__ = [
    "Interception",
    "LayerError",
    "Record",
    "Rule",
    "merge_heads",
    "model_heads",
    "single_head",
    "split_heads",
    "value_only",
]
