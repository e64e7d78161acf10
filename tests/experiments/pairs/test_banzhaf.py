"""Banzhaf interactions: the second difference of a game, averaged over all coalitions, one after the other."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip.experiments.pairs import banzhaf

from ...conftest import relative, varies

pytest.importorskip("shapiq")


def _encode(images: Tensor) -> Tensor:
    """Features that no sum over pixels makes."""
    x = images.flatten(1).double()
    return F.normalize(
        torch.stack([x[:, 0] * x[:, 5], x.sum(dim=1).tanh(), x[:, 2] - x[:, 7] ** 2, 1 + x[:, 9]], dim=1), dim=1
    )


def test_all_coalitions_written_out() -> None:
    """With all coalitions the index is the mean second difference over all others, in float64."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 1, 4, 4, generator=generator)
    texts = F.normalize(torch.randn(2, 4, 4, generator=generator).double(), dim=-1)  # two words: four choices
    got = banzhaf(_encode, images, texts, (4, 4), budget=2**4, side=2)
    assert got.shape == (2, 2, 4, 4) and varies(got)

    def value(item: int, shown: set[int]) -> float:
        mask = torch.zeros(4, 4)
        for region in range(4):
            row, column = 2 * (region // 2), 2 * (region % 2)
            mask[row : row + 2, column : column + 2] = float(region in shown)
        place = sum(2**word for word in range(2) if 4 + word in shown)
        return float(_encode(images[item : item + 1] * mask)[0] @ texts[item, place])

    for item, region, word in itertools.product(range(2), range(4), range(2)):
        pair = {region, 4 + word}
        others = [player for player in range(6) if player not in pair]
        total = 0.0
        for size in range(5):
            for chosen in itertools.combinations(others, size):
                rest = set(chosen)
                total += value(item, rest | pair) - value(item, rest | {region})
                total += value(item, rest) - value(item, rest | {4 + word})
        block = got[item, word, 2 * (region // 2) : 2 * (region // 2) + 2, 2 * (region % 2) : 2 * (region % 2) + 2]
        assert relative(block, torch.full((2, 2), total / 2**4)) < 1e-4


def test_drawn_coalitions_find_a_pair_and_nothing_else() -> None:
    images = torch.ones(1, 1, 1, 6)
    left = torch.tensor([[[0.0], [1.0]]]).double()  # one word
    got = banzhaf(lambda x: x[:, 0, 0, :1].double(), images, left, (1, 6), budget=20, side=1, seed=3)
    assert torch.allclose(got, torch.tensor([[[[1.0, 0, 0, 0, 0, 0]]]]), atol=1e-6)
    assert torch.equal(got, banzhaf(lambda x: x[:, 0, 0, :1].double(), images, left, (1, 6), budget=20, side=1, seed=3))


def test_what_does_not_fit_is_refused() -> None:
    images, texts = torch.ones(1, 1, 4, 4), torch.ones(1, 2, 4)
    with pytest.raises(ValueError, match="side.*divisor"):
        banzhaf(_encode, images, texts, (4, 4), budget=64, side=3)
    with pytest.raises(ValueError, match="budget.*more than 5"):
        banzhaf(_encode, images, texts, (4, 4), budget=3, side=2)
