"""Raw attention against the softmax written out."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from captum_gradeclip import TextImageScore
from captum_gradeclip.attr import RawAttention

from .. import reference
from ..conftest import captions, images, relative, varies
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


@pytest.mark.parametrize("blocks", [1, 3])
def test_words_in_a_pass_of_several_single_head_blocks(double: nn.Module, blocks: int) -> None:
    """The last block's attention of the end mark, in a pass whose last blocks have one head, written out."""
    score = TextImageScore(double, images((32, 32)).double())
    got = RawAttention(score, score.layers[-1]).attribute(captions(), heads="single", single_blocks=blocks)
    for item, tokens in enumerate(captions()):
        _, layers, row = reference.text_pass(double, tokens, blocks, single=True)
        attention = layers[-1].attention[0, row].detach()
        assert relative(got[item, : row + 1], attention[: row + 1]) < 1e-5 and not got[item, row + 1 :].any()
    assert varies(got)
    alone = RawAttention(score, score.layers[-1]).attribute(captions(), heads="single")
    assert relative(got, alone) < 1e-6 if blocks == 1 else relative(got, alone) > 1e-3


def test_blocks_that_do_not_run_with_one_head_are_refused(double: nn.Module) -> None:
    score = TextImageScore(double, images((32, 32)).double())
    refused: tuple[dict[str, Any], ...] = ({"single_blocks": 2}, {"heads": "single", "single_blocks": 1})
    for options in refused:
        with pytest.raises(ValueError, match="single_blocks: it counts the last layers that run with one head"):
            RawAttention(score, score.layers[-2:]).attribute(captions(), **options)
