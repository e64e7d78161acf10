"""One forward pass, intercepted in chosen layers and remembered."""

from ..former import former_names
from .as_written import AsWritten
from .bypass import Bypass
from .call import one_call
from .capture_input import CaptureInput
from .interception import Interception, RowInterception, RowReadings
from .layout import examples_axis
from .probe import shown_patches
from .record import (
    LayerError,
    Record,
    Rule,
    kept_attention,
    merge_heads,
    model_heads,
    single_head,
    split_heads,
    take_rows,
    value_only,
    value_value,
)
from .replace_output import ReplaceOutput, tokens_as_batch
from .several_answers import Answer, SeveralAnswers
from .side_path import SidePath
from .tap import SeeOutputs, Tap, is_observed

__getattr__ = former_names(
    __name__,
    {"Branches": "SidePath", "LayerInput": "CaptureInput", "LayerOutput": "ReplaceOutput", "each_token": "tokens_as_batch"},
)

__all__ = [
    "Answer",
    "AsWritten",
    "Bypass",
    "CaptureInput",
    "Interception",
    "LayerError",
    "Record",
    "ReplaceOutput",
    "RowInterception",
    "RowReadings",
    "Rule",
    "SeeOutputs",
    "SeveralAnswers",
    "SidePath",
    "Tap",
    "examples_axis",
    "is_observed",
    "kept_attention",
    "merge_heads",
    "model_heads",
    "one_call",
    "shown_patches",
    "single_head",
    "split_heads",
    "take_rows",
    "tokens_as_batch",
    "value_only",
    "value_value",
]
