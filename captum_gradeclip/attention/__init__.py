"""One forward pass, intercepted in chosen layers and remembered."""

from .branch import Branches
from .interception import Interception
from .layer_input import LayerInput
from .layer_output import LayerOutput, each_token
from .layout import examples_axis
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
    value_value,
)

__all__ = [
    "Branches",
    "Interception",
    "LayerError",
    "LayerInput",
    "LayerOutput",
    "Record",
    "Rule",
    "each_token",
    "examples_axis",
    "kept_attention",
    "merge_heads",
    "model_heads",
    "single_head",
    "split_heads",
    "value_only",
    "value_value",
]
