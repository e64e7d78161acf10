"""What each method costs, as a ratio to one plain forward pass of the same images in the same round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from rich.progress import track
from torch import Tensor

from ..loading import Loaded
from ..prompts import prompt_ensemble
from ..scores import ImageTextScore
from .explainers import RANDOM, Explainer, Question, explainers
from .published import TIME
from .tables import Cell, Table


def time_table(
    loaded: Loaded,
    pixels: Tensor,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    methods: str | Sequence[str] = "all",
    rounds: int = 15,
    rise_masks: int = 100,
    published: bool = False,
) -> Table:
    """Seconds per image from pixels and text to the map, everything included, and their ratio to a plain forward pass.

    All methods take turns in every round, so that a slow minute of the machine hits each of them. The text is encoded
    beforehand for all; two rows more say what CLIP Surgery costs with the label set, and if its labels are encoded for every
    image, as in the released code.

    Args:
        loaded: model and tokenizer.
        pixels: ``(N, 3, H, W)``.
        names: of the labels that CLIP Surgery compares; the first is explained.
        templates: around them.
        methods: ``"all"``, or names.
        rounds: of which the median is told.
        rise_masks: of RISE; its ratio is to as many forward passes.
        published: put the seconds of the papers beside ours.
    """
    model, tokenizer = loaded.model, loaded.tokenizer

    def encoded(labels: bool = True) -> ImageTextScore:
        score = ImageTextScore(model, prompt_ensemble(model, tokenizer, list(names), list(templates)))
        score.labels = labels  # type: ignore[assignment]
        return score

    score, labelled = encoded(labels=False), encoded()
    count = len(pixels)
    chosen = [one for one in explainers(methods, rise_masks=rise_masks) if one.name not in (RANDOM, "centre prior")]

    def call(explainer: Explainer, make: Callable[[], ImageTextScore]) -> Tensor:
        return explainer.explain(Question(make(), pixels, [0] * count, list(range(count))))

    calls: dict[str, Callable[[], object]] = {}
    for explainer in chosen:
        calls[explainer.name] = partial(call, explainer, lambda: score)
        if explainer.name == "CLIP Surgery":
            calls[f"{explainer.name}, {len(names)} labels"] = partial(call, explainer, lambda: labelled)
            calls[f"{explainer.name}, {len(names)} labels encoded"] = partial(call, explainer, encoded)
    plain = torch.no_grad()(lambda: score(pixels))
    times: dict[str, list[float]] = {name: [] for name in calls}
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    for call_once in (plain, *calls.values()):
        call_once()
    for _ in track(range(rounds), f"batch {count}", transient=True):
        base = _seconds(plain, pixels)
        for name, call_once in calls.items():
            spent = _seconds(call_once, pixels)
            times[name].append(spent / count)
            passes = rise_masks if name == "RISE" else 1
            ratios[name].append(spent / base / passes)
    rows = {}
    for name in calls:
        rows[name] = {
            "seconds per image": _quartiles(times[name]),
            "forward passes": _quartiles(ratios[name]),
        }
    note = f"RISE: {rise_masks} masks, ratio to {rise_masks} forward passes. Medians of {rounds} rounds."
    known = {name: {"seconds per image": seconds} for name, seconds in TIME.items()} if published else None
    columns = ["seconds per image", "forward passes"]
    title = f"Time, batch {count}, {tuple(pixels.shape[-2:])}, {torch.get_num_threads()} threads"
    return Table(title, columns, rows, frozenset(columns), note, known)


def _seconds(call: Callable[[], object], pixels: Tensor) -> float:
    started = time.perf_counter()
    call()
    if pixels.is_cuda:
        torch.cuda.synchronize(pixels.device)
    return time.perf_counter() - started


def _quartiles(values: Sequence[float]) -> Cell:
    if len(values) < 2:
        return Cell(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4)
    return Cell(middle, low, high)
