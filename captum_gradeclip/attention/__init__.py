"""One forward pass, intercepted in chosen layers and remembered."""

from .interception import EACH, Interception
from .layer_input import LayerInput
from .record import (
    LayerError,
    Record,
    Rule,
    kept_attention,
    merge_heads,
    model_heads,
    single_head,
    split_heads,
    value_only,
)

__all__ = [
    "EACH",
    "Interception",
    "LayerError",
    "LayerInput",
    "Record",
    "Rule",
    "kept_attention",
    "merge_heads",
    "model_heads",
    "single_head",
    "split_heads",
    "value_only",
]
