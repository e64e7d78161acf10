"""Each metric against a second implementation; the contract of torchmetrics; two processes equal one."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score, top_k_accuracy_score
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip import metrics
from captum_gradeclip.metrics import (
    ROAD,
    Deletion,
    EnergyPointingGame,
    HeatmapAveragePrecision,
    Insertion,
    InsertionMinusDeletion,
    MaskIoU,
    PixelAccuracy,
    PointingGame,
    Schedule,
    TargetedDeletion,
    TargetedInsertion,
    area_under,
    baseline,
    bootstrap_interval,
    curves,
    noisy_linear_imputation,
    paired_t_test,
    ranks,
    recall,
    reverse_recall,
    target_score,
    top_k,
    word_steps,
)
from captum_gradeclip.metrics.localization import binarize, pixel_counts


def examples(count: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps of one size and masks of another, with pixels that count for nothing."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, 1, 5, 6, generator=generator)
    masks = (torch.rand(count, 11, 13, generator=generator) < 0.3).long()
    masks[torch.rand(masks.shape, generator=generator) < 0.1] = -1
    return maps, masks


def enlarged(maps: Tensor, masks: Tensor) -> np.ndarray[Any, Any]:
    return F.interpolate(maps, size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0].numpy()


def stretched(heat: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (heat - heat.min()) / (heat.max() - heat.min())


@pytest.mark.parametrize("tolerance", [0.0, 2.0, 15.0])
def test_pointing_game_by_a_loop(tolerance: float) -> None:
    maps, masks = examples(30)
    expected = []
    for heat, mask in zip(enlarged(maps, masks), masks.tolist()):
        best, at = -np.inf, (0, 0)
        for y, row in enumerate(mask):
            for x, label in enumerate(row):
                if label >= 0 and heat[y, x] > best:
                    best, at = heat[y, x], (y, x)
        near = [
            (y - at[0]) ** 2 + (x - at[1]) ** 2 <= tolerance**2
            for y, row in enumerate(mask)
            for x, label in enumerate(row)
            if label == 1
        ]
        expected.append(any(near))
    got = metrics.pointing_game(maps, masks, tolerance)
    assert got.tolist() == expected and (tolerance > 2 or 0 < sum(expected) < 30)


def test_energy_by_a_loop() -> None:
    maps, masks = examples()
    for got, heat, mask in zip(metrics.energy_pointing_game(maps, masks), enlarged(maps, masks), masks.numpy()):
        heat = stretched(heat)
        assert abs(float(got) - heat[mask == 1].sum() / heat[mask >= 0].sum()) < 1e-5


@pytest.mark.parametrize("threshold", ["mean", 0.5, "otsu"])
def test_accuracy_and_overlap_by_scikit_learn(threshold: Any) -> None:
    maps, masks = examples()
    accuracy, of_foreground = (metrics.pixel_accuracy(maps, masks, threshold, a) for a in ("all", "foreground"))
    overlap, both = (metrics.mask_iou(maps, masks, threshold, o) for o in ("foreground", "mean"))
    pooled: dict[str, list[Any]] = {"truth": [], "found": []}
    for number, (heat, mask) in enumerate(zip(enlarged(maps, masks), masks.numpy())):
        heat = stretched(heat)
        level = {"mean": heat.mean(), "otsu": slow_otsu(heat)}.get(threshold, threshold)
        truth, found = mask[mask >= 0], (heat > level)[mask >= 0].astype(int)
        assert abs(float(accuracy[number]) - accuracy_score(truth, found)) < 1e-6
        assert abs(float(of_foreground[number]) - accuracy_score(truth[truth == 1], found[truth == 1])) < 1e-6
        assert abs(float(overlap[number]) - jaccard_score(truth, found)) < 1e-6
        assert abs(float(both[number]) - jaccard_score(truth, found, average="macro")) < 1e-6
        pooled["truth"] += truth.tolist()
        pooled["found"] += found.tolist()
    whole = PixelAccuracy(threshold)
    whole.update(maps[:2], masks[:2])
    whole.update(maps[2:], masks[2:])
    assert abs(float(whole.compute()) - accuracy_score(pooled["truth"], pooled["found"])) < 1e-6
    dataset = MaskIoU(threshold, "mean", "dataset")
    dataset.update(maps, masks)
    assert abs(float(dataset.compute()) - jaccard_score(pooled["truth"], pooled["found"], average="macro")) < 1e-6
    image = MaskIoU(threshold, "mean", "image")
    image.update(maps, masks)
    assert abs(float(image.compute()) - float(both.mean())) < 1e-6


def slow_otsu(heat: np.ndarray[Any, Any]) -> float:
    """The edge of a bin that parts the histogram with the largest variance between the parts."""
    counts, edges = np.histogram(heat.astype(np.float32), bins=256, range=(0, 1))
    centres = (edges[1:] + edges[:-1]) / 2
    best, at = -1.0, 0.0
    for cut in range(1, 256):
        low, high = counts[:cut].sum(), counts[cut:].sum()
        if low and high:
            means = (counts[:cut] * centres[:cut]).sum() / low, (counts[cut:] * centres[cut:]).sum() / high
            spread = low * high * (means[0] - means[1]) ** 2
            if spread > best * (1 + 1e-9):
                best, at = spread, edges[cut]
    return float(at)


def test_average_precision_by_scikit_learn() -> None:
    maps, masks = examples()
    one, two = (metrics.heatmap_average_precision(maps, masks, classes) for classes in ("foreground", "both"))
    for number, (heat, mask) in enumerate(zip(enlarged(maps, masks), masks.numpy())):
        heat, truth = stretched(heat)[mask >= 0], mask[mask >= 0]
        assert abs(float(one[number]) - average_precision_score(truth, heat)) < 1e-5
        both = average_precision_score(np.concatenate([1 - truth, truth]), np.concatenate([1 - heat, heat]))
        assert abs(float(two[number]) - both) < 1e-5


def test_empty_masks_constant_maps_and_wrong_inputs() -> None:
    maps, masks = torch.rand(1, 4, 4), torch.zeros(1, 4, 4)
    assert not metrics.pointing_game(maps, masks, 15).any()  # an empty mask is never a hit
    for function in (metrics.energy_pointing_game, metrics.mask_iou, metrics.heatmap_average_precision):
        assert float(function(maps, masks)) == 0
    assert float(metrics.pixel_accuracy(maps, masks, accuracy="foreground")) == 0
    flat = torch.full((1, 4, 4), 7.0)
    corner = torch.zeros(1, 4, 4)
    corner[0, 0, 0] = 1
    assert metrics.pointing_game(flat, corner).all()  # the first of equals
    assert float(metrics.energy_pointing_game(flat, corner)) == 0
    assert not binarize(flat, "mean").any()
    nothing = torch.full((1, 4, 4), -1)
    assert all(int(n) == 0 for n in pixel_counts(maps, nothing).values())
    for wrong, message in (
        ((torch.rand(2, 4, 4), masks), "masks: expected one for each of 2 maps"),
        ((torch.full((1, 4, 4), float("nan")), masks), "NaN"),
        ((maps, masks + 5), "expected 1 on the object"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.pointing_game(*wrong)
    for build, message in (
        (lambda: PixelAccuracy(accuracy="some"), "accuracy: expected one of"),
        (lambda: MaskIoU(overlap="some"), "overlap"),
        (lambda: HeatmapAveragePrecision("some"), "classes"),
        (lambda: MaskIoU("some").update(maps, masks), "threshold"),
        (lambda: metrics.pixel_accuracy(maps, masks, accuracy="some"), "accuracy"),
        (lambda: metrics.mask_iou(maps, masks, overlap="some"), "overlap"),
        (lambda: metrics.heatmap_average_precision(maps, masks, "some"), "classes"),
        (lambda: Deletion(mean_colour, performance="accuracy"), "performance"),
        (lambda: Deletion(mean_colour, baseline="white"), "baseline: expected one of"),
        (lambda: Deletion(mean_colour, auc="sum"), "auc"),
        (lambda: ROAD(mean_colour, order="some"), "order"),
        (lambda: ROAD(mean_colour, shares=(1.0,)), "shares"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    assert PointingGame().compute().isnan()


WEIGHT = torch.randn(3, 4, generator=torch.Generator().manual_seed(3))


def mean_colour(x: Tensor) -> Tensor:
    """A model of four classes that looks at the colours, each pixel as much as its place is far down."""
    weights = torch.linspace(0, 1, x.shape[-2])[:, None]
    return (x * weights).mean(dim=(2, 3)) @ WEIGHT


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
@pytest.mark.parametrize("schedule", [Schedule(), Schedule(4, 1.0), Schedule(5, 0.5, untouched=True)])
def test_curves_by_a_loop(mode: Any, schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.randn(3, 3, 7, 9, generator=generator), torch.randn(3, 1, 4, 4, generator=generator)
    background = torch.randn(3, 3, 7, 9, generator=generator)
    labels = torch.tensor([0, 2, 1])
    got = curves(
        mean_colour,
        images,
        maps,
        {"score": target_score(labels), "1": top_k(labels), "2": top_k(labels, 2)},
        mode=mode,
        background=background,
        schedule=schedule,
        batch_size=4,
    )
    heat = F.interpolate(maps, size=(7, 9), mode="bilinear", align_corners=False)
    shares = [k / schedule.points * schedule.share for k in range(schedule.points + 1)]
    shares = [*shares[1:], 1.0] if schedule.untouched and mode == "insertion" else shares
    assert shares == schedule.shares(mode)
    for item in range(3):
        order = sorted(range(63), key=lambda i: -float(heat[item].flatten()[i]))
        for point, share in enumerate(shares):
            start, other = (images, background) if mode == "deletion" else (background, images)
            x = start[item].clone()
            for i in order[: round(63 * share)]:
                x[:, i // 9, i % 9] = other[item, :, i // 9, i % 9]
            output = mean_colour(x[None])[0]
            assert abs(float(got["score"][item, point] - output[labels[item]])) < 1e-6
            place = int((output > output[labels[item]]).sum())
            assert (float(got["1"][item, point]), float(got["2"][item, point])) == (float(place < 1), float(place < 2))


def test_order_of_pixels_and_ties() -> None:
    heat = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
    assert ranks(heat, (1, 4)).tolist() == [[2, 0, 1, 3]]
    shuffled = [ranks(heat, (1, 4), torch.Generator().manual_seed(seed))[0].tolist() for seed in range(20)]
    assert {tuple(sorted(one)) for one in shuffled} == {(0, 1, 2, 3)} and len({tuple(one) for one in shuffled}) == 4
    assert all({one[1], one[2]} == {0, 1} for one in shuffled)
    for wrong in (torch.rand(2, 3, 4, 4), torch.full((1, 2, 2), float("inf"))):
        with pytest.raises(ValueError, match="maps:"):
            ranks(wrong, (4, 4))


def test_baseline_images() -> None:
    images = torch.rand(2, 3, 16, 20)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    noise = baseline(images, "random", mean, std, [7, 8])
    colours = noise * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    assert torch.allclose(colours * 255, (colours * 255).round(), atol=1e-3)
    assert colours.min() >= 0 and colours.max() < 255 / 255 and colours.std() > 0.2
    assert torch.equal(noise[1:], baseline(images[1:], "random", mean, std, [8]))  # an image's own seed, in any batch
    assert torch.allclose(baseline(images, "black", mean, std)[0, :, 0, 0], -torch.tensor(mean) / torch.tensor(std))
    assert not baseline(images, "mean", mean, std).any()
    own = baseline(images, "own-mean", mean, std)
    for number in range(2):
        for channel in range(3):
            expected = sum(images[number, channel].flatten().tolist()) / 320
            assert len(own[number, channel].unique()) == 1 and abs(float(own[number, channel, 0, 0]) - expected) < 1e-6
    from torchvision.transforms.functional import gaussian_blur

    assert torch.allclose(baseline(images, "blur", mean, std), gaussian_blur(images, [11, 11], [5.0, 5.0]), atol=1e-5)
    with pytest.raises(ValueError, match="kind: expected one of"):
        baseline(images, "white", mean, std)  # type: ignore[arg-type]


def test_performances_by_other_means() -> None:
    generator = torch.Generator().manual_seed(0)
    output, example = torch.randn(40, 5, generator=generator), torch.arange(40) % 8
    labels = torch.randint(0, 5, (8,), generator=generator)
    for k in (1, 2, 3):
        expected = top_k_accuracy_score(labels[example], output.numpy(), k=k, labels=range(5))
        assert abs(float(top_k(labels, k)(output, example).mean()) - expected) < 1e-6
    positives = torch.rand(8, 5, generator=generator) < 0.3
    positives[:, 0] = True
    gallery = torch.randn(11, 5, generator=generator)
    own = torch.arange(8) + 2
    for k in (1, 4):
        found = recall(positives, k)(output, example)
        reverse = reverse_recall(gallery, labels, own, k)(output, example)
        for row in range(40):
            n = int(example[row])
            order = output[row].argsort(descending=True).tolist()
            assert bool(found[row]) == any(positives[n, column] for column in order[:k])
            changed = gallery.clone()
            changed[own[n]] = output[row]
            best = changed[:, labels[n]].argsort(descending=True).tolist()
            assert bool(reverse[row]) == (int(own[n]) in best[:k])


def test_areas() -> None:
    curve = torch.rand(3, 11, dtype=torch.float64)
    assert torch.allclose(area_under(curve), curve.mean(dim=1))
    expected = np.trapezoid(curve.numpy(), dx=0.1, axis=1)
    assert np.allclose(area_under(curve, "trapezoid").numpy(), expected)


def test_insertion_minus_deletion_of_a_random_map_is_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.randn(200, 3, 8, 8, generator=generator), torch.rand(200, 8, 8, generator=generator)
    metric = InsertionMinusDeletion(
        mean_colour, deletion_baseline="mean", insertion_baseline="mean", schedule=Schedule(share=1.0), batch_size=512
    )
    targets = torch.zeros(200, dtype=torch.long)
    metric.update(images, maps, targets)
    assert abs(float(metric.compute())) < 0.01
    good = (images * WEIGHT[:, 0].view(1, 3, 1, 1)).sum(dim=1) * torch.linspace(0, 1, 8)[:, None]
    metric.reset()
    metric.update(images, good, targets)
    assert float(metric.compute()) > 0.1


def test_words_come_and_go() -> None:
    words, weights = ["a", "red", "dog", "a"], [0.1, 0.5, 0.9, 0.1]
    assert list(word_steps(words, weights, "deletion")) == ["a red a", "a a", "a", "", ""]
    assert list(word_steps(words, weights, "insertion")) == ["dog", "red dog", "a red dog", "a red dog a", "a red dog a"]
    with pytest.raises(ValueError, match="weights: expected 4 numbers, got 2"):
        list(word_steps(words, weights[:2], "deletion"))
    with pytest.raises(ValueError, match="mode: expected one of"):
        list(word_steps(words, weights, "both"))  # type: ignore[arg-type]


def test_road_fills_holes_by_a_linear_system() -> None:
    generator = torch.Generator().manual_seed(0)
    image, removed = torch.rand(2, 6, 7, generator=generator), torch.rand(6, 7, generator=generator) < 0.4
    got = noisy_linear_imputation(image, removed, generator, noise=0.0)
    assert torch.equal(got[:, ~removed], image[:, ~removed])
    holes = removed.nonzero().tolist()
    matrix, right = np.zeros((len(holes), len(holes))), np.zeros((len(holes), 2))
    for row, (y, x) in enumerate(holes):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy, dx) == (0, 0) or not (0 <= y + dy < 6 and 0 <= x + dx < 7):
                    continue
                weight = 1 / 6 if 0 in (dy, dx) else 1 / 12
                matrix[row, row] += weight
                if [y + dy, x + dx] in holes:
                    matrix[row, holes.index([y + dy, x + dx])] -= weight
                else:
                    right[row] += weight * image[:, y + dy, x + dx].numpy()
    expected = np.linalg.solve(matrix, right)
    assert np.allclose(got[:, removed].T.numpy(), expected, atol=1e-5)
    noisy = noisy_linear_imputation(image, removed, torch.Generator().manual_seed(1), noise=0.1) - got
    assert 0.05 < noisy[:, removed].std() < 0.2
    with pytest.raises(ValueError, match="all pixels"):
        noisy_linear_imputation(image, torch.ones(6, 7, dtype=torch.bool), generator)
    images, targets = torch.rand(4, 3, 6, 7, generator=generator), torch.zeros(4, dtype=torch.long)
    maps = torch.rand(4, 6, 7, generator=generator)
    values = {}
    for order in ("most", "least", "combined"):
        metric = ROAD(mean_colour, order=order, shares=(0.25, 0.5))
        metric.update(images, maps, targets)
        values[order] = float(metric.compute())
    assert abs(values["combined"] - (values["least"] - values["most"]) / 2) < 1e-6
    total = 0.0
    place = ranks(maps, (6, 7))
    for item in range(4):
        for share in (0.25, 0.5):
            hole = (place[item] < round(42 * share)).view(6, 7)
            filled = noisy_linear_imputation(images[item], hole, torch.Generator().manual_seed(item))
            total += float(mean_colour(filled[None])[0, 0]) / 8
    assert abs(values["most"] - total) < 1e-6


def test_significance() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(11) + 0.2, rng.random(11)
    for alternative in ("two-sided", "greater", "less"):
        got, expected = paired_t_test(first, second, alternative), stats.ttest_rel(first, second, alternative=alternative)
        assert np.allclose((got.statistic, got.p_value), (expected.statistic, expected.pvalue)) and not got.degenerate
    difference = first - second
    t = difference.mean() / (difference.std(ddof=1) / 11**0.5)
    assert abs(paired_t_test(first, second).statistic - t) < 1e-9
    same, shifted = paired_t_test(first, first), paired_t_test(first + 1, first, "greater")
    assert (same.p_value, same.degenerate, shifted.p_value, shifted.degenerate) == (1.0, True, 0.0, True)
    assert paired_t_test(first + 1, first, "less").p_value == 1.0
    assert paired_t_test([0.1 + 0.2] * 3, [0.3] * 3).p_value == 1.0  # nothing but rounding
    with pytest.raises(ValueError, match="as many points"):
        paired_t_test(first, second[:5])
    values = rng.random(80)
    low, high = bootstrap_interval(values.tolist(), resamples=4000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=rng).confidence_interval
    assert np.allclose((low, high), (theirs.low, theirs.high), atol=0.01)
    assert bootstrap_interval(values.tolist()) == bootstrap_interval(values.tolist())
    assert all(np.isnan(bootstrap_interval([])))


def own_column(targets: Tensor) -> Any:
    """Recall of the two columns that belong to a target."""
    return recall((torch.arange(4)[None] // 2) == (targets // 2)[:, None])


def every_metric() -> dict[str, Any]:
    return {
        "pointing": PointingGame(1.0),
        "energy": EnergyPointingGame(),
        "accuracy": PixelAccuracy(),
        "foreground": PixelAccuracy(0.5, "foreground", "image"),
        "precision": HeatmapAveragePrecision(),
        "overlap": MaskIoU(),
        "both": MaskIoU("mean", "mean", "dataset"),
        "deletion": Deletion(mean_colour, baseline="mean"),
        "insertion": Insertion(mean_colour, 1),
        "difference": InsertionMinusDeletion(mean_colour),
        "retrieval": Deletion(mean_colour, own_column, schedule=Schedule(share=1.0)),
        "road": ROAD(mean_colour, shares=(0.5,)),
        "targeted deletion": TargetedDeletion(mean_colour),
        "targeted insertion": TargetedInsertion(mean_colour, baseline="random", schedule=Schedule(share=1.0)),
    }


def given(metric: Any, numbers: list[int]) -> dict[str, Any]:
    """Some of eight examples, as a metric takes them."""
    maps, masks = examples(8)
    if not isinstance(metric, (Deletion, Insertion, InsertionMinusDeletion, ROAD, TargetedDeletion, TargetedInsertion)):
        return {"maps": maps[numbers], "masks": masks[numbers]}
    images = torch.rand(8, 3, 11, 13, generator=torch.Generator().manual_seed(5))
    targets = torch.tensor(numbers) % 4
    found = {"images": images[numbers], "maps": maps[numbers], "targets": targets, "seeds": numbers}
    if isinstance(metric, (TargetedDeletion, TargetedInsertion)):
        found["rivals"] = torch.arange(4)[None] != targets[:, None]
    return found


def feed(metric: Any, numbers: list[int]) -> None:
    metric.update(**given(metric, numbers))


@pytest.mark.parametrize("name", every_metric())
def test_contract_of_torchmetrics(name: str) -> None:
    whole, parts = every_metric()[name], every_metric()[name]
    feed(whole, list(range(8)))
    expected = float(whole.compute())
    assert np.isfinite(expected) and expected != 0
    for some in ([0, 1, 2], [3], [4, 5, 6, 7]):
        feed(parts, some)
    assert abs(float(parts.compute()) - expected) < 1e-6
    stepwise = every_metric()[name]
    for n in range(8):  # forward keeps what was before
        stepwise(**given(stepwise, [n]))
    assert abs(float(stepwise.compute()) - expected) < 1e-6
    copied = pickle.loads(pickle.dumps(parts))
    assert float(copied.compute()) == float(parts.compute())
    parts.reset()
    feed(parts, [0, 1])
    assert abs(float(parts.compute()) - expected) > 1e-9
    one, other = every_metric()[name], every_metric()[name]
    feed(one, [0, 1])
    feed(other, [2, 3, 4, 5, 6, 7])
    one.merge_state(other)
    assert abs(float(one.compute()) - expected) < 1e-6
    assert not list(parts.parameters())


def _one_of_two(rank: int, folder: str) -> None:
    meet, patience = f"file://{folder}/meet", timedelta(minutes=2)
    torch.distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=patience)
    try:
        values = {}
        for name, metric in every_metric().items():
            feed(metric, list(range(rank, 8, 2)))
            values[name] = float(metric.compute())
        torch.save(values, f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def test_another_number_of_seeds_than_of_images_is_told_by_both() -> None:
    metric = Deletion(lambda x: x.mean(dim=(2, 3)))
    with pytest.raises(ValueError, match="seeds: expected one for each of the images, 3, got 2"):
        metric.update(torch.rand(3, 3, 4, 4), torch.rand(3, 2, 2), torch.tensor([0, 1, 2]), seeds=[0, 1])


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """This process is the second one, since one more would only load the libraries again."""
    other = torch.multiprocessing.spawn(_one_of_two, (str(tmp_path),), nprocs=1, join=False)
    _one_of_two(1, str(tmp_path))
    while not other.join():
        pass
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    assert both[0] == both[1]
    for name, metric in every_metric().items():
        feed(metric, list(range(8)))
        assert abs(both[0][name] - float(metric.compute())) < 1e-6, name
