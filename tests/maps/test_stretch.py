"""Values stretched for the eye, or shared out."""

from __future__ import annotations

import torch

from captum_gradeclip.maps import normalise, normalize, shares


def test_normalizing_never_fails() -> None:
    for x in (torch.zeros(2, 2), torch.full((2, 2), -3.0), torch.tensor([[float("nan"), 1.0], [float("inf"), 0.5]])):
        y = normalize(x)
        assert y.isfinite().all() and y.min() >= 0 and y.max() <= 1
    several = normalize(torch.tensor([[[0.0, 1.0]], [[0.0, 10.0]]]))
    assert several.amax(dim=(1, 2)).tolist() == [1.0, 1.0]
    assert normalise is normalize  # the former spelling, for one version


def test_the_magnitudes_of_shares_add_up_to_one_where_there_are_any() -> None:
    assert shares([("a", -1.0), ("red", 2.0), ("dog", 5.0)]) == [("a", -0.125), ("red", 0.25), ("dog", 0.625)]
    assert shares([("a", -1.0), ("dog", 1.0)]) == [("a", -0.5), ("dog", 0.5)], "a sum of zero is no reason to show nothing"
    for words in ([("a", 0.0)], []):
        assert shares(words) == words
