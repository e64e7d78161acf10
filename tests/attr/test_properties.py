"""What holds for any input: hypothesis looks for one for which it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from captum_gradeclip import GradECLIP, ImageTextScore

from ..conftest import FAMILIES, captions, images, relative, stir

few = settings(max_examples=25)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "spatial_weight": st.sampled_from(["loosened", "softmax", "none"]),
        "similarity": st.sampled_from(["cosine", "dot"]),
        "heads": st.sampled_from(["single", "model", "each"]),
        "relu_before_sum": st.booleans(),
    },
)


@pytest.fixture(scope="module")
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, captions())


@few
@given(
    count=st.integers(1, 5),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    layers=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    options=OPTIONS,
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_maps_are_finite_and_not_negative(
    score: ImageTextScore,
    count: int,
    rows: int,
    columns: int,
    layers: list,
    dtype: torch.dtype,
    options: dict,
    seed: int,
    data,
) -> None:
    x = images((8 * rows, 8 * columns), count, seed).to(dtype)
    target: Any = data.draw(st.one_of(st.integers(-3, 2), st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    target = data.draw(st.sampled_from([target, torch.tensor(target)]))
    if isinstance(target, Tensor) and target.dim() == 0:
        target = int(target)
    method = GradECLIP(score, [score.layers[n] for n in layers])
    maps = method.attribute(x, target=target, **options)
    assert maps.shape == (count, 4 if options.get("heads") == "each" else 1, rows, columns)
    assert maps.dtype == torch.float32 and maps.isfinite().all() and maps.min() >= 0


@few
@given(order=st.permutations(range(4)), options=OPTIONS, seed=st.integers(0, 99))
def test_the_order_of_the_batch_does_not_matter(score: ImageTextScore, order: list, options: dict, seed: int) -> None:
    x, targets = images((32, 24), 4, seed), [0, 1, 2, 1]
    method = GradECLIP(score, score.layers[-2:])
    options = {**options, "relu_attributions": False}
    maps = method.attribute(x, target=targets, **options)
    shuffled = method.attribute(x[list(order)], target=[targets[n] for n in order], **options)
    assert relative(shuffled, maps[list(order)]) < 1e-4


@few
@given(factor=st.floats(0.01, 100), options=OPTIONS, seed=st.integers(0, 99))
def test_a_positive_factor_on_the_score_rescales_the_map(
    score: ImageTextScore, factor: float, options: dict, seed: int
) -> None:
    x = images((32, 32), 2, seed)
    # A bare callable sums over the rows that are read, so the last layer alone is the same question.
    one = GradECLIP(score, score.layers[-1:]).attribute(x, target=1, **options)
    other = GradECLIP(lambda y: factor * score(y), score.layers[-1:]).attribute(x, target=1, **options)
    assert relative(other / factor, one) < 1e-3
    bare = GradECLIP(lambda y: score(y), score.layers[-2:]).attribute(x, target=1, **options)
    scaled = GradECLIP(lambda y: factor * score(y), score.layers[-2:]).attribute(x, target=1, **options)
    assert relative(scaled / factor, bare) < 1e-3


@few
@given(
    place=st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 31), st.integers(0, 31)),
    value=st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)
def test_what_is_not_finite_goes_in_as_an_error(score: ImageTextScore, place: tuple, value: float) -> None:
    x = images((32, 32), 2)
    x[place] = value
    for call in (GradECLIP(score, score.layers[-1]).attribute, GradECLIP(score, score.layers[-1]).attribute_targets):
        with pytest.raises(ValueError, match="inputs: the images hold NaN or infinite values"):
            call(x, [0, 1])


@few
@given(prefix=st.integers(0, 4), heads=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_any_number_of_prefix_tokens(prefix: int, heads: int, seed: int) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)
            self.prefix = nn.Parameter(torch.zeros(prefix, 8))
            self.block = nn.TransformerEncoderLayer(8, heads, 16, batch_first=True, dropout=0.0)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).mT
            tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], dim=1)
            tokens = self.block(tokens)
            return self.head(tokens[:, 0] if prefix else tokens.mean(dim=1))

    torch.manual_seed(seed)
    model = stir(Small(), seed)
    x = images((32, 24), 2, seed)
    maps = GradECLIP(model, model.block).attribute(x, target=1, relu_attributions=False)
    assert maps.shape == (2, 1, 4, 3) and maps.isfinite().all() and maps.std() > 0


@pytest.mark.slow
def test_a_thousand_calls_leave_nothing_behind() -> None:
    import gc
    import resource

    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    score = ImageTextScore(model, captions())
    x = images((32, 32))

    def living() -> tuple[int, int]:
        gc.collect()
        tensors = sum(isinstance(thing, Tensor) for thing in gc.get_objects())
        hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in score.modules())
        return tensors, hooks

    def call(times: int) -> None:
        for n in range(times):
            method = GradECLIP(score, score.layers[-1 - n % 2 :])
            method.attribute(x, target=n % 3)
            method.attribute_targets(x)

    call(100)
    before, memory = living(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call(1000)
    assert living() == before and before[1] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 * 2**10  # KiB


@pytest.mark.slow
def test_eight_threads_give_what_one_gives() -> None:
    import threading

    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    score = ImageTextScore(model, captions())
    inputs = [images(size, seed=n) for n, size in enumerate([(32, 32), (40, 24), (24, 56), (64, 64)] * 2)]
    layers = [score.layers[-1 - n % 2 :] for n in range(8)]
    expected = [GradECLIP(score, layers[n]).attribute(inputs[n], target=n % 3) for n in range(8)]
    failures: list[object] = []

    def work(n: int) -> None:
        try:
            for _ in range(50):
                if relative(GradECLIP(score, layers[n]).attribute(inputs[n], target=n % 3), expected[n]) > 1e-5:
                    failures.append(n)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert not any(thread.is_alive() for thread in threads) and not failures
