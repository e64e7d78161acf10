"""Raw attention against the softmax written out."""

from __future__ import annotations

from torch import nn

from captum_gradeclip.attr import RawAttention

from ..conftest import relative, varies
from ..reference.records import both, matrix, run


def test_raw_attention(double: nn.Module) -> None:
    for score, inputs, first in both(double):
        raw = RawAttention(score, score.layers[-1]).attribute(inputs)
        (record,), _ = run(score, inputs, score.layers[-1:])
        for item, row in enumerate(score.readout.rows(inputs).tolist()):
            assert relative(raw[item].flatten(), matrix(record, item)[row, first:]) < 1e-5
        assert varies(raw)
        single = RawAttention(score, score.layers[-1]).attribute(inputs, heads="single")
        assert relative(single, raw) > 1e-2
