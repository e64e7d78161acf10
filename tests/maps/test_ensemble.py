"""The sum of maps, each over its standard deviation."""

from __future__ import annotations

import pytest
import torch

from captum_gradeclip.maps import ensemble

from ..conftest import relative


def test_against_a_loop() -> None:
    maps = [torch.randn(2, 3, 4, 5, dtype=torch.float64) * factor + factor for factor in (1e-3, 1.0, 50.0)]
    got = ensemble(maps)
    for n in range(2):
        for t in range(3):
            expected = torch.zeros(4, 5, dtype=torch.float64)
            for one in maps:
                values = one[n, t].flatten().tolist()
                mean = sum(values) / len(values)
                deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
                expected += one[n, t] / deviation
            assert relative(got[n, t], expected) < 1e-12


def test_units_do_not_matter_and_constant_maps_add_nothing() -> None:
    one, other = torch.rand(2, 6, 6), torch.randn(2, 6, 6)
    got = ensemble([one, other])
    assert relative(ensemble([1e4 * one, 1e-6 * other]), got) < 1e-5
    assert torch.equal(ensemble([one, torch.full_like(one, 0.1), other]), got)
    assert not ensemble([torch.zeros(3, 3)]).any()
    assert torch.equal(ensemble([-one, -other]), -got)


def test_padding_changes_no_order() -> None:
    """Zeros behind a text scale both maps alike where deviations are those from zero, and only there."""
    one, other = torch.rand(1, 5) + 1, torch.rand(1, 5) * torch.tensor([[1.0, 0.0, 9.0, 0.0, 0.0]])
    padded = [torch.nn.functional.pad(x, (0, 7)) for x in (one, other)]
    short, long = ensemble([one, other], dims=1, centered=False), ensemble(padded, dims=1, centered=False)[:, :5]
    assert relative(long / long.sum(), short / short.sum()) < 1e-6
    short, long = ensemble([one, other], dims=1), ensemble(padded, dims=1)[:, :5]
    assert relative(long / long.sum(), short / short.sum()) > 1e-2


def test_it_keeps_the_graph() -> None:
    maps = [torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    flat = torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *some: ensemble(some), maps)
    (gradient,) = torch.autograd.grad(ensemble([*maps, flat]).square().sum(), flat)
    assert not gradient.any()


@pytest.mark.parametrize(
    ("maps", "dims", "message"),
    [
        ([], 2, "maps: expected at least one"),
        ([torch.rand(2, 2), torch.rand(2, 3)], 2, "expected one shape of at least 2 dimensions"),
        ([torch.rand(3)], 2, "expected one shape of at least 2 dimensions"),
        ([torch.rand(3)], 0, "dims: expected an integer at least 1|dims: expected at least 1"),
    ],
)
def test_wrong_arguments(maps: list, dims: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ensemble(maps, dims)
