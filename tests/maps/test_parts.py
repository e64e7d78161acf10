"""Words as maps, and one map of several parts."""

from __future__ import annotations

import pytest
import torch

from captum_gradeclip import scenes
from captum_gradeclip.maps import by_parts, merge_regions, merge_words


def test_regions_of_words_sum_the_pieces_as_their_weights_do() -> None:
    tokenizer = scenes.tokenizer()
    tokens = tokenizer(["a red octagon and a blue star"])[0]
    maps = torch.randn(len(tokens), 3, 2)
    found = merge_regions(maps, tokens, tokenizer)
    assert [word for word, _ in found] == ["a", "red", "octagon", "and", "a", "blue", "star"]
    for row in range(3):
        for column in range(2):
            words = merge_words(maps[:, row, column], tokens, tokenizer)[0]
            assert [float(one[row, column]) for _, one in found] == pytest.approx([weight for _, weight in words], abs=1e-5)
    with pytest.raises(ValueError, match="tokens"):
        merge_regions(maps[:3], tokens, tokenizer)


def test_each_part_has_the_same_say() -> None:
    maps = torch.randn(2, 3, 4, 5)
    maps[1, 2] = -1.0  # nothing speaks for it
    found = by_parts(maps)
    for item in range(2):
        for row in range(4):
            for column in range(5):
                shares = [max(float(one[row, column]), 0.0) / float(one.max()) for one in maps[item] if one.max() > 0]
                assert float(found[item, 0, row, column]) == pytest.approx(max(shares))
    assert torch.allclose(by_parts(maps * torch.tensor([1.0, 10.0, 0.1])[:, None, None]), found)
    with pytest.raises(ValueError, match="maps"):
        by_parts(maps[0])
