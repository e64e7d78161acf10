"""Each public function refuses arguments of a wrong kind, shape or range by their names, and takes the right ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from captum_gradeclip import (
    ClassScore,
    GradECLIP,
    ImageTextScore,
    TextImageScore,
    adapters,
    explain,
    maps,
    metrics,
    scenes,
    show,
)
from captum_gradeclip.attr import GAME, M2IB, RISE, CLIPSurgery, LayerGradCam, compare, feature_surgery
from captum_gradeclip.scores import empty_text, encode_text, tokenize

NAN, INF = float("nan"), float("inf")
torch.manual_seed(0)
X, MAPS, MASKS, TWO = torch.rand(2, 3, 16, 16), torch.rand(2, 4, 4), torch.ones(2, 16, 16), torch.tensor([0, 1])
OTHERS = torch.arange(3)[None] != TWO[:, None]
TOKENS = scenes.tokenizer()(["a red circle"])
NOT_TENSORS = (None, "x", [1.0], np.zeros((2, 4, 4)))

WRONG: dict[str, tuple[object, ...]] = {
    "images": (*NOT_TENSORS, (X * 255).byte(), X[0], X[:, :, :0], X[:0], X * NAN, X * 1j),
    "maps": (
        *NOT_TENSORS,
        torch.rand(3, 4, 4),
        torch.rand(4, 4),
        torch.rand(2, 3, 4, 4),
        MAPS * NAN,
        MAPS[:, :0],
        MAPS * 1j,
    ),
    "any maps": (*NOT_TENSORS, torch.rand(4), torch.rand(2, 3, 4, 4), MAPS * INF, MAPS[:, :0]),
    "masks": (*NOT_TENSORS, MASKS[0], MASKS * 5, MASKS * NAN, MASKS[:, :0], MASKS[:, None]),
    "targets": (None, "x", [0, 1], 0, TWO.float(), TWO > 0, TWO + 7, TWO - 9, torch.tensor([0, 1, 0]), TWO[None]),
    "columns": (None, "x", [0, 1], TWO.float(), TWO > 0, TWO + 7, TWO - 9),
    "labels": (None, "x", [0, 1], TWO.float(), TWO > 0),
    "count": (None, "x", 0, -1, 1.5, True, NAN, INF, [1]),
    "seed": (None, "x", -1, 1.5, True, NAN),
    "seeds": ("x", 3, [1], [1, 2, 3], [0, -1], [0, 0.5], [0, "x"]),
    "at least 0": (None, "x", -1, NAN, INF, True, [1]),
    "whole": ("x", 1.5, True, NAN),
    "tolerance": ("x", -1, NAN, INF, True, [1]),
    "counts": ((-1,), (0.5,), ("x",), (NAN,), 3, None),
    "weights": (None, "x", ["x", "y"], [NAN, 1], [[1, 2], [3, 4]], [1], 0.5),
    "image": (*NOT_TENSORS, X, MASKS[0] * 1j, X[0] * NAN, (X[0] > 0.5).byte(), X[0, 0]),
    "features": (*NOT_TENSORS, torch.rand(2, 8) * NAN, torch.rand(2, 7), torch.ones(2, 8).long()),
    "two features": (*NOT_TENSORS, torch.rand(2, 8) * NAN, torch.rand(2, 7), torch.rand(8), torch.ones(2, 8).long()),
    "token weights": (None, "x", [0, 1], 0, torch.rand(1, 3), torch.rand(3)),
    "token ids": (None, "x", [0, 1], torch.rand(1, 24), torch.zeros(1, 3).long(), torch.zeros(1, 24) > 0),
    "gallery": (*NOT_TENSORS, torch.rand(2), torch.rand(2, 2) * NAN, torch.rand(2, 2) * 1j),
    "booleans": (None, "x", [True], torch.eye(2), torch.zeros(2, 2) > 0, torch.ones(2) > 0),
    "tensor": (None, "x", [1.0], 0.5, np.zeros((2, 2))),
    "picture": (torch.zeros(3, 0, 0), torch.zeros(1, 3, 0, 64), None, 3, torch.rand(2), [], [3]),
    "pillow": (None, 3, "x", torch.rand(3, 64, 64)),
    "length": (None, "x", -1, 1.5, True, NAN),
    "rows": (*NOT_TENSORS, torch.tensor([5, 0]), TWO.float(), torch.tensor([0, -1]), torch.tensor([0])),
    "method": ("nonsense", 3, True),
    "names": ("nonsense", 3, ["nonsense"], [3], []),
    "map": (*NOT_TENSORS, MAPS, MAPS[0] * NAN, MAPS[0] * 1j, MAPS[0, :1], MAPS[0, 0]),
    "alpha": (None, "x", -0.5, 2, NAN),
    "texts": (3, [], [3], [""], "", "a " * 300),
    "above 0": (None, "x", 0, -1, NAN, INF, True),
    "share": (None, "x", 0, -0.5, 2, NAN, True),
    "level": (None, "x", 0, 1, 2, NAN, True),
    "shares": ((), (0,), (1,), (0.5, NAN), ("x",), 0.5, None),
    "threshold": (None, "x", NAN, INF, True, [0.5]),
    "rivals": (
        *(None, "x", [[True]], 1, torch.ones(2, 3), torch.ones(2, 3).long()),
        *(OTHERS[:1], OTHERS[0], OTHERS[:, :0], OTHERS[:, :2], OTHERS[:, [0, 1, 2, 2]]),  # of other shapes
        OTHERS & False,  # no rival
        OTHERS | True,  # the target among them
        torch.tensor([[True, True, False], [True, False, True]]),  # of one example only
    ),
    "any rivals": (
        None,
        "x",
        [[True]],
        torch.ones(2, 3),
        OTHERS[:1],
        OTHERS[0],
        OTHERS[:, :0],
        OTHERS & False,
        OTHERS | True,
    ),
    "curve": (None, "x", 0.5, [0.5, 0.1], torch.tensor(0.5), torch.rand(1), torch.rand(2, 0), TWO),
    "choice": ("nonsense", 3, ("mean",), True, [1]),
    "mean": (None, "x", (), (0, NAN, 0), ("a", "b", "c"), (0.0, 0.5), 0.5),
    "std": (None, "x", (), (1, NAN, 1), (0.0, 0.0, 0.0), (1.0, 0.5), -1.0),
    "numbers": (None, "x", ["x", "y"], [INF, 1], [NAN, 1], [[1, 2], [3, 4]], {1: 2}),
    "performance": (None, "x", 0, -1, True, 1.5),
    "model": (None, "x", 3, torch.nn.Linear(2, 2), torch.nn.Identity),
    "text": (None, 3, [], [3], [""], "", "a " * 300, torch.zeros(2, 3), torch.full((1, 8), 40_000), torch.full((1, 8), -1)),
    "tokenizer": (None, 3, "x", lambda texts: [[1, 2]], lambda texts: torch.rand(1, 3)),
    "bound images": (*NOT_TENSORS, torch.zeros(1, 3, 64, 64) * NAN, torch.zeros(0, 3, 64, 64), torch.zeros(1, 3)),
    "inputs": (
        None,
        "x",
        [1.0],
        torch.zeros(3, 64, 64),
        torch.zeros(0, 3, 64, 64),
        torch.zeros(1, 3, 0, 64),
        torch.zeros(1, 3, 64, 64) * NAN,
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 2, 64, 64),
        torch.zeros(1, 3, 4, 4),
    ),
    "tokens": (
        None,
        "x",
        [1],
        torch.zeros(8).long(),
        torch.full((1, 8), 40_000),
        torch.full((1, 8), -1),
        torch.ones(1, 8) > 0,
    ),
    "target": (None, "x", 5, -9, 0.5, True, [0, 1], [0.5], torch.tensor([True]), torch.tensor([0.5]), [], {0}),
    "indices": ("x", 3, [0.5], [9], [-9], [], [True], torch.tensor([0.5])),
    "layer": (3, "x", [], [3], torch.nn.ReLU()),
}
"""Values that are wrong for a parameter, by its kind."""


@dataclass(frozen=True)
class Case:
    """A function, arguments that it takes, and the kind of each parameter that is tried."""

    call: Callable[..., object]
    right: dict[str, object]
    kinds: dict[str, str]


def judge(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=(2, 3))


def updated(kind: Callable[..., metrics.Deletion], **given: object) -> object:
    """Makes a metric of an image and updates it; arguments of the update are told by their names."""
    inputs = {name: given.pop(name) for name in ("images", "maps", "targets", "rivals", "seeds") if name in given}
    metric = kind(judge, **given)
    metric.update(**inputs)
    return metric.compute()


def located(kind: Callable[..., metrics.PointingGame], maps: object, masks: object, **given: object) -> object:
    metric = kind(**given)
    metric.update(maps, masks)  # type: ignore[arg-type]  # that is the point
    return metric.compute()


@lru_cache(maxsize=1)
def score() -> ImageTextScore:
    model, _, tokenizer = scenes.load()
    return ImageTextScore(model, ["a red circle", "two stars"], tokenizer)


@lru_cache(maxsize=1)
def words() -> TextImageScore:
    return TextImageScore(score().model, torch.rand(2, 3, 64, 64))


IMAGE = torch.rand(1, 3, 64, 64)
PLACE = {"maps": MAPS, "masks": MASKS}
CURVE = {"images": X, "maps": MAPS, "targets": TWO, "seeds": [3, 4]}
CURVE_KINDS = {"images": "images", "maps": "maps", "targets": "targets", "seeds": "seeds"}
MASK_KINDS = {"maps": "maps", "masks": "masks"}
COLORS = {"mean": "mean", "std": "std"}


def attributed(kind: Callable[..., GradECLIP], **given: object) -> object:
    return kind.for_score(score()).attribute(**{"inputs": IMAGE, "target": 0, **given})  # type: ignore[attr-defined]


CASES: dict[str, Case] = {
    "Deletion": Case(
        partial(updated, metrics.Deletion),
        CURVE,
        {
            **CURVE_KINDS,
            **COLORS,
            "performance": "performance",
            "baseline": "choice",
            "auc": "choice",
            "batch_size": "count",
        },
    ),
    "Insertion": Case(
        partial(updated, metrics.Insertion, baseline="random"), CURVE, {**CURVE_KINDS, **COLORS, "batch_size": "count"}
    ),
    "InsertionMinusDeletion": Case(
        partial(updated, metrics.InsertionMinusDeletion),
        CURVE,
        {**CURVE_KINDS, **COLORS, "performance": "performance", "deletion_baseline": "choice", "batch_size": "count"},
    ),
    "TargetedDeletion": Case(
        partial(updated, metrics.TargetedDeletion),
        {**CURVE, "rivals": OTHERS},
        {**CURVE_KINDS, "rivals": "rivals", "baseline": "choice", "batch_size": "count"},
    ),
    "TargetedInsertion": Case(
        partial(updated, metrics.TargetedInsertion, baseline="random"),
        {**CURVE, "rivals": OTHERS},
        {**CURVE_KINDS, **COLORS, "rivals": "rivals"},
    ),
    "ROAD": Case(
        partial(updated, metrics.ROAD),
        {**CURVE, "shares": (0.5,)},
        {**CURVE_KINDS, "performance": "performance", "order": "choice", "shares": "shares"},
    ),
    "Schedule": Case(metrics.Schedule, {}, {"points": "count", "share": "share"}),
    "ranks": Case(metrics.ranks, {"maps": MAPS, "size": (4, 4)}, {"maps": "any maps"}),
    "curves": Case(
        partial(metrics.curves, judge),
        {"images": X, "maps": MAPS, "performance": {"it": metrics.target_score(TWO)}, "background": torch.zeros_like(X)},
        {"images": "images", "maps": "maps", "mode": "choice", "batch_size": "count", "background": "images"},
    ),
    "area_under": Case(metrics.area_under, {"curve": torch.rand(3)}, {"auc": "choice"}),
    "baseline": Case(
        metrics.baseline,
        {"images": X, "kind": "random", "mean": (0.5,) * 3, "std": (1.0,) * 3, "seeds": [1, 2]},
        {"images": "images", "kind": "choice", "mean": "mean", "std": "std", "seeds": "seeds"},
    ),
    "target_score": Case(metrics.target_score, {"targets": TWO}, {"targets": "labels"}),
    "margin": Case(metrics.margin, {"targets": TWO, "rivals": OTHERS}, {"targets": "columns", "rivals": "any rivals"}),
    "mean_change": Case(metrics.mean_change, {"curve": torch.rand(2, 3)}, {"curve": "curve"}),
    "top_k": Case(metrics.top_k, {"labels": TWO}, {"labels": "labels", "k": "count"}),
    "recall": Case(metrics.recall, {"positives": torch.eye(2) > 0}, {"positives": "booleans", "k": "count"}),
    "reverse_recall": Case(
        metrics.reverse_recall,
        {"gallery": torch.rand(2, 2), "targets": TWO, "own": TWO},
        {"gallery": "gallery", "targets": "labels", "own": "rows", "k": "count"},
    ),
    "pointing_game": Case(metrics.pointing_game, PLACE, {**MASK_KINDS, "tolerance": "at least 0"}),
    "energy_pointing_game": Case(metrics.energy_pointing_game, PLACE, MASK_KINDS),
    "pixel_accuracy": Case(metrics.pixel_accuracy, PLACE, {**MASK_KINDS, "threshold": "threshold", "accuracy": "choice"}),
    "mask_iou": Case(metrics.mask_iou, PLACE, {**MASK_KINDS, "threshold": "threshold", "overlap": "choice"}),
    "heatmap_average_precision": Case(metrics.heatmap_average_precision, PLACE, {**MASK_KINDS, "classes": "choice"}),
    "PointingGame": Case(partial(located, metrics.PointingGame), PLACE, {**MASK_KINDS, "tolerance": "at least 0"}),
    "EnergyPointingGame": Case(partial(located, metrics.EnergyPointingGame), PLACE, MASK_KINDS),
    "PixelAccuracy": Case(
        partial(located, metrics.PixelAccuracy),
        PLACE,
        {**MASK_KINDS, "threshold": "threshold", "accuracy": "choice", "pool": "choice"},
    ),
    "MaskIoU": Case(
        partial(located, metrics.MaskIoU),
        PLACE,
        {**MASK_KINDS, "threshold": "threshold", "overlap": "choice", "pool": "choice"},
    ),
    "HeatmapAveragePrecision": Case(
        partial(located, metrics.HeatmapAveragePrecision), PLACE, {**MASK_KINDS, "classes": "choice"}
    ),
    "noisy_linear_imputation": Case(
        metrics.noisy_linear_imputation,
        {"image": X[0], "removed": torch.eye(16) > 0, "generator": torch.Generator()},
        {"image": "image", "noise": "at least 0"},
    ),
    "paired_t_test": Case(
        metrics.paired_t_test,
        {"better": [0.5, 0.4], "other": [0.1, 0.3]},
        {"better": "numbers", "other": "numbers", "alternative": "choice"},
    ),
    "bootstrap_interval": Case(
        metrics.bootstrap_interval,
        {"values": [0.5, 0.4]},
        {"values": "numbers", "level": "level", "resamples": "count", "seed": "seed"},
    ),
    "word_steps": Case(
        lambda **given: list(metrics.word_steps(**given)),  # type: ignore[arg-type]
        {"words": ["a", "b"], "weights": [0.1, 0.2], "mode": "deletion"},
        {"mode": "choice", "weights": "weights", "counts": "counts"},
    ),
    "ImageTextScore": Case(
        ImageTextScore,
        {"model": score().model, "text": ["a red circle"], "tokenizer": scenes.tokenizer()},
        {"model": "model", "text": "text", "tokenizer": "tokenizer"},
    ),
    "TextImageScore": Case(
        TextImageScore, {"model": score().model, "images": IMAGE}, {"model": "model", "images": "bound images"}
    ),
    "ClassScore": Case(ClassScore, {"model": adapters.families()["timm ViT"].build().eval()}, {"model": "model"}),
    "encode_text": Case(encode_text, {"model": score().model, "tokens": TOKENS}, {"model": "model", "tokens": "tokens"}),
    "empty_text": Case(empty_text, {"model": score().model}, {"model": "model"}),
    "tokenize": Case(
        tokenize,
        {"model": score().model, "text": ["a red circle"], "tokenizer": scenes.tokenizer()},
        {"model": "model", "tokenizer": "tokenizer"},
    ),
    "GradECLIP": Case(partial(attributed, GradECLIP), {}, {"inputs": "inputs", "target": "target", "heads": "choice"}),
    "GradECLIP, layers": Case(
        lambda layer: GradECLIP(score(), layer).attribute(IMAGE, target=0), {"layer": score().layers[-1]}, {"layer": "layer"}
    ),
    "GradECLIP of words": Case(
        lambda inputs, target: GradECLIP.for_score(words()).attribute(inputs, target=target),
        {"inputs": TOKENS, "target": 0},
        {"inputs": "tokens", "target": "target"},
    ),
    "attribute_targets": Case(
        lambda **given: GradECLIP.for_score(score()).attribute_targets(**given),  # type: ignore[arg-type]
        {"inputs": IMAGE, "targets": [0, 1]},
        {"inputs": "inputs", "targets": "indices"},
    ),
    "RISE": Case(
        partial(attributed, RISE),
        {"n_masks": 4},
        {"inputs": "inputs", "target": "target", "n_masks": "count", "seed": "whole", "tolerance": "tolerance"},
    ),
    "M2IB": Case(
        partial(attributed, M2IB),
        {"steps": 1, "copies": 1},
        {"steps": "count", "copies": "count", "learning_rate": "above 0"},
    ),
    "GAME": Case(partial(attributed, GAME), {}, {"inputs": "inputs", "scale": "above 0"}),
    "CLIPSurgery": Case(partial(attributed, CLIPSurgery), {}, {"inputs": "inputs", "target": "target"}),
    "LayerGradCam": Case(partial(attributed, LayerGradCam), {}, {"inputs": "inputs", "target": "target"}),
    "compare": Case(
        lambda **given: compare(score(), **given),  # type: ignore[arg-type]
        {"inputs": IMAGE, "targets": [0], "methods": ["Grad-ECLIP"]},
        {"inputs": "inputs", "targets": "indices", "methods": "names"},
    ),
    "feature_surgery": Case(
        feature_surgery,
        {"image_features": torch.rand(1, 4, 8), "text_features": torch.rand(2, 8)},
        {"image_features": "features", "text_features": "two features"},
    ),
    "merge_words": Case(
        maps.merge_words,
        {"attributions": torch.rand(TOKENS.shape), "tokens": TOKENS, "tokenizer": scenes.tokenizer()},
        {"attributions": "token weights", "tokens": "token ids", "tokenizer": "tokenizer"},
    ),
    "point_prompts": Case(
        maps.point_prompts,
        {"attribution": torch.rand(4, 4), "size": (64, 64)},
        {"attribution": "map", "threshold": "share"},
    ),
    "to_pixels": Case(
        maps.to_pixels, {"attributions": torch.rand(1, 4, 4), "frame": maps.Frame.crop((8, 6))}, {"attributions": "tensor"}
    ),
    "infer_grid": Case(maps.infer_grid, {"tokens": 65, "size": (64, 64)}, {"tokens": "count"}),
    "nearest_multiple": Case(maps.nearest_multiple, {"length": 10, "unit": 4}, {"length": "at least 0", "unit": "count"}),
    "normalize": Case(maps.normalize, {"attributions": torch.rand(4, 4)}, {"attributions": "tensor", "dims": "count"}),
    "normalize_to": Case(maps.normalize_to, {"attributions": torch.rand(4, 4), "scale": 1.0}, {"attributions": "tensor"}),
    "overlay": Case(
        show.overlay,
        {"image": scenes.SceneDataset(1)[0].image, "attribution": torch.rand(96, 96)},
        {"attribution": "tensor", "image": "pillow", "alpha": "alpha"},
    ),
    "explain": Case(
        partial(explain, score().model),
        {"images": scenes.SceneDataset(1)[0].image, "texts": ["a red circle"], "tokenizer": scenes.tokenizer()},
        {"images": "picture", "texts": "texts", "tokenizer": "tokenizer", "method": "method"},
    ),
    "SceneDataset": Case(
        scenes.SceneDataset, {"length": 3}, {"length": "length", "seed": "seed", "size": "count", "split": "choice"}
    ),
}

SAID = {
    "deletion_baseline": "baseline",
    "texts": "texts?",
    "method": "methods?",
}
"""Other names by which a message may call a parameter: that of the metric inside."""


@pytest.mark.parametrize("name", CASES)
def test_right_arguments_are_taken(name: str) -> None:
    case = CASES[name]
    case.call(**case.right)


@pytest.mark.parametrize(("name", "parameter"), [(name, one) for name, case in CASES.items() for one in case.kinds])
def test_wrong_arguments_are_refused_by_their_names(name: str, parameter: str) -> None:
    case = CASES[name]
    wrong = []
    for value in WRONG[case.kinds[parameter]]:
        try:
            case.call(**{**case.right, parameter: value})
        except (ValueError, TypeError, AssertionError) as error:
            if not re.search(rf"\b({SAID.get(parameter, parameter)})\b", str(error)):
                wrong.append(f"{value!r:.60}: {type(error).__name__} without the name: {error!s:.90}")
        except Exception as error:
            wrong.append(f"{value!r:.60}: {type(error).__name__}: {error!s:.90}")
        else:
            wrong.append(f"{value!r:.60}: taken")
    assert not wrong, "\n".join(wrong)


def junk() -> st.SearchStrategy[object]:
    """Anything that people pass by mistake: numbers, strings, collections, tensors of some shape and type."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([-(2**40), NAN, INF, -0.5, 1j]),
        st.text(max_size=3),
        st.binary(max_size=3),
    )
    shapes = st.lists(st.sampled_from([0, 1, 2, 3, 8, 16]), max_size=4)
    kinds = st.sampled_from(
        [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]
    )
    tensors = st.builds(lambda shape, kind: (torch.rand(shape) * 4).to(kind), shapes, kinds)
    several = st.one_of(
        st.lists(plain, max_size=3), st.tuples(plain, plain), st.dictionaries(st.text(max_size=2), plain, max_size=2)
    )
    return st.one_of(plain, several, tensors, tensors.map(lambda one: one.numpy()))


PAIRS = [(name, one) for name, case in CASES.items() for one in case.kinds]


def check_named(pair: tuple[str, str], value: object) -> None:
    name, parameter = pair
    case = CASES[name]
    try:
        case.call(**{**case.right, parameter: value})
    except (ValueError, TypeError, AssertionError, FileNotFoundError) as error:
        named = re.search(rf"\b({SAID.get(parameter, parameter)})\b", str(error))
        if not named:
            raise AssertionError(f"{name}, {parameter}: {value!r:.60}") from error


@settings(max_examples=400)
@given(st.sampled_from(PAIRS), junk())
def test_no_argument_fails_deep_inside(pair: tuple[str, str], value: object) -> None:
    check_named(pair, value)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(st.sampled_from(PAIRS), junk())
def test_no_argument_fails_deep_inside_in_ten_thousand_tries(pair: tuple[str, str], value: object) -> None:
    check_named(pair, value)
