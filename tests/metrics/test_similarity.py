"""Every similarity against a second implementation: scipy's, POT's other solvers, a literal sum."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import linprog
from scipy.spatial.distance import cosine, jensenshannon
from scipy.stats import entropy, wasserstein_distance_nd
from torch import Tensor

from captum_gradeclip.metrics import (
    cosine_similarity,
    covariance,
    js_divergence,
    kl_divergence,
    linear_regression,
    optimal_transport,
    pearson_correlation,
)

Measure = Callable[[Tensor, Tensor], Tensor]
MEASURES: dict[str, Measure] = {
    "cosine": cosine_similarity,
    "correlation": pearson_correlation,
    "covariance": covariance,
    "KL": kl_divergence,
    "JS": js_divergence,
    "transport": optimal_transport,
}
EPS = 1e-7


def single(row: int, column: int, side: int = 6) -> Tensor:
    found = torch.zeros(side, side)
    found[row, column] = 2.5
    return found


def half(first: bool) -> Tensor:
    found = torch.zeros(6, 6)
    found[:3] = 1.0
    return found if first else 1 - found


RANDOM = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
OTHER = torch.rand(6, 6, generator=torch.Generator().manual_seed(1))
PAIRS = {
    "random": (RANDOM, OTHER),
    "identical": (RANDOM, RANDOM),
    "a map and a mask": (RANDOM, half(True)),
    "disjoint": (half(True) * RANDOM, half(False) * OTHER),
    "a single pixel": (single(0, 0), OTHER),
    "two single pixels": (single(0, 0), single(5, 2)),
    "a zero map": (torch.zeros(6, 6), half(True)),
}


def shares(values: Tensor) -> np.ndarray:
    flat = values.double().flatten().numpy()
    return flat / flat.sum() if flat.sum() > 0 else np.full(flat.shape, 1 / flat.size)


def literal_kl(one: Tensor, other: Tensor) -> float:
    p, q = shares(one), shares(other)
    return sum(b * math.log(EPS + b / (a + EPS)) for a, b in zip(p, q))


def places(side: int = 6) -> np.ndarray:
    return np.array([((row + 0.5) / side, (column + 0.5) / side) for row in range(side) for column in range(side)])


def linear_program(one: Tensor, other: Tensor, squared: bool = False) -> float:
    """The transport written out as the linear program that it is."""
    p, q, where = shares(one), shares(other), places()
    costs = np.linalg.norm(where[:, None] - where[None], axis=-1)
    if squared:
        costs = costs**2 / costs.max() ** 2
    count = len(p)
    leaving = np.kron(np.eye(count), np.ones((1, count)))
    arriving = np.kron(np.ones((1, count)), np.eye(count))
    found = linprog(costs.ravel(), A_eq=np.vstack([leaving, arriving])[:-1], b_eq=np.concatenate([p, q])[:-1])
    assert found.status == 0
    return float(found.fun)


SECOND: dict[str, Callable[[Tensor, Tensor], float]] = {
    "cosine": lambda x, y: 1 - cosine(x.double().flatten(), y.double().flatten()) if x.any() else math.nan,
    "correlation": lambda x, y: stats.pearsonr(x.double().flatten(), y.double().flatten())[0] if x.any() else math.nan,
    "covariance": lambda x, y: np.cov(x.double().flatten(), y.double().flatten(), bias=True)[0, 1],
    "KL": literal_kl,
    "JS": lambda x, y: jensenshannon(shares(x), shares(y)) ** 2,
    "transport": lambda x, y: wasserstein_distance_nd(places(), places(), shares(x), shares(y)),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", MEASURES)
def test_against_a_second_implementation(name: str, pair: str) -> None:
    one, other = PAIRS[pair]
    found = float(MEASURES[name](one[None], other[None])[0])
    assert found == pytest.approx(SECOND[name](one, other), abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("pair", PAIRS)
def test_transport_against_the_linear_program(pair: str) -> None:
    one, other = PAIRS[pair]
    for cost in ("euclidean", "squared"):
        found = float(optimal_transport(one[None], other[None], cost=cost)[0])
        assert found == pytest.approx(linear_program(one, other, cost == "squared"), abs=1e-9)


def test_transport_against_another_solver_of_pot() -> None:
    ot = pytest.importorskip("ot")
    where = places()
    costs = np.linalg.norm(where[:, None] - where[None], axis=-1)
    blurred = ot.sinkhorn2(shares(RANDOM), shares(OTHER), costs, reg=2e-3, numItermax=100_000)
    assert float(optimal_transport(RANDOM[None], OTHER[None])[0]) == pytest.approx(float(np.asarray(blurred)), rel=0.02)


def test_divergence_is_that_of_scipy_where_nothing_is_zero() -> None:
    expected = entropy(shares(OTHER + 0.1), shares(RANDOM + 0.1))
    assert float(kl_divergence(RANDOM[None] + 0.1, OTHER[None] + 0.1)[0]) == pytest.approx(expected, abs=1e-4)


def test_bounds() -> None:
    one, other = half(True)[None], half(False)[None]
    assert float(cosine_similarity(one, other)) == 0 and float(cosine_similarity(one, one)) == pytest.approx(1)
    assert float(js_divergence(one, other)) == pytest.approx(math.log(2)) and float(js_divergence(one, one)) == 0
    assert float(optimal_transport(one, one)) == 0 and float(optimal_transport(one, other)) == pytest.approx(0.5)
    assert float(covariance(one, one)) == pytest.approx(0.25) and float(covariance(one, other)) == pytest.approx(-0.25)
    corners = single(0, 0)[None], single(5, 5)[None]
    assert float(optimal_transport(*corners)) == pytest.approx(math.sqrt(2) * 5 / 6)
    assert float(optimal_transport(*corners, cost="squared")) == pytest.approx(1)


def test_mass_is_added_up_in_the_cells_of_a_grid() -> None:
    # in float64, since the sum of sixteen float32 numbers differs in its last digits with the order of its parts
    fine, other = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    coarse = [one.view(1, 8, 4, 8, 4).sum(dim=(2, 4)) for one in (fine, other)]
    assert float(optimal_transport(fine, other, grid=8)) == pytest.approx(float(optimal_transport(*coarse)), abs=1e-9)
    oblong = torch.rand(1, 4, 32)
    assert float(optimal_transport(oblong, oblong.flip(2), grid=16)) < 1


@pytest.mark.parametrize("name", MEASURES)
def test_each_pair_by_itself_and_any_type(name: str) -> None:
    maps, masks = torch.stack([RANDOM, OTHER]), torch.stack([half(True), half(False)])
    together = MEASURES[name](maps, masks.bool())
    apart = torch.cat([MEASURES[name](one[None].double(), mask[None].long()) for one, mask in zip(maps, masks)])
    assert torch.allclose(together, apart, atol=1e-12) and together.dtype == torch.float64
    # the largest numbers that there are
    assert not MEASURES[name](maps * 1e38, masks).isinf().any()


@pytest.mark.parametrize("name", MEASURES)
def test_errors_name_the_argument(name: str) -> None:
    measure = MEASURES[name]
    with pytest.raises(TypeError, match=r"maps: expected numbers \(N, h, w\) as a tensor, got list"):
        measure([[1.0]], RANDOM[None])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"others: expected the shape of maps \(1, 6, 6\), got \(1, 5, 6\)"):
        measure(RANDOM[None], OTHER[None, 1:])
    with pytest.raises(ValueError, match="maps: expected finite values"):
        measure(RANDOM[None] / 0, OTHER[None])


@pytest.mark.parametrize("name", ["KL", "JS", "transport"])
def test_a_signed_map_is_no_distribution(name: str) -> None:
    with pytest.raises(ValueError, match=r"others: expected values of at least 0, .* got -1; .*stretched"):
        MEASURES[name](RANDOM[None], single(0, 0)[None] * -0.4)


def test_errors_of_options() -> None:
    with pytest.raises(ValueError, match="grid: expected at least 1 and at most 32, got 33"):
        optimal_transport(RANDOM[None], OTHER[None], grid=33)
    with pytest.raises(ValueError, match="cost: expected one of"):
        optimal_transport(RANDOM[None], OTHER[None], cost="taxi")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eps: expected above 0, got 0"):
        kl_divergence(RANDOM[None], OTHER[None], eps=0)


def test_regression_against_the_normal_equations() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=40)
    y = 0.3 * x + generator.normal(size=40)
    found = linear_regression(x, y)
    slope, intercept = np.linalg.lstsq(np.stack([x, np.ones(40)], axis=1), y, rcond=None)[0]
    residuals = y - slope * x - intercept
    assert found.slope == pytest.approx(slope) and found.intercept == pytest.approx(intercept)
    assert found.r_squared == pytest.approx(1 - residuals @ residuals / ((y - y.mean()) @ (y - y.mean())))
    error = math.sqrt(residuals @ residuals / 38 / ((x - x.mean()) @ (x - x.mean())))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(slope / error), 38))


def test_where_there_is_no_line() -> None:
    for x, y in (([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3])):
        assert not linear_regression(x, y).defined
    flat = linear_regression([1, 2, 3], [5, 5, 5])
    assert flat.defined and (flat.slope, flat.r_squared, flat.p_value) == (0, 0, 1)
    with pytest.raises(ValueError, match="y: expected as many values as x, 3, got 2"):
        linear_regression([1, 2, 3], [1, 2])
