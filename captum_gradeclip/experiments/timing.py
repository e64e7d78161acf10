"""What each method costs, as a ratio to one plain forward pass of the same images in the same round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ..adapters.loading import Loaded
from ..arguments import check_number
from ..attr import RISE, CLIPSurgery, Stopwatch
from ..progress import track
from ..scores import ImageTextScore
from .explainers import Batch, Explainer, explainers
from .prompt_score import PromptScore
from .tables import REFERENCES, Cell, Table


def take_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device | str = "cpu", title: str = "rounds"
) -> dict[str, list[float]]:
    """Seconds of each call in each round; all calls take turns, so that a slow minute of the machine hits each of them.

    Before the first round each is called once, so that what is prepared only once is charged to none of them.

    Args:
        calls: functions by name.
        rounds: number of rounds, at least 1.
        device: device that they run on; a GPU is waited for.
        title: what the progress bar says.

    Returns:
        By name, one value for each round.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in track(range(rounds), title):
        for name, call in calls.items():
            with Stopwatch(device) as watch:
                call()
            times[name].append(watch.seconds)
    return times


def time_table(
    loaded: Loaded,
    pixels: Tensor,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    methods: str | Sequence[str] = "all",
    rounds: int = 15,
    rise_masks: int = 100,
) -> Table:
    """Seconds per image from pixels and text to the map, everything included, and their ratio to a plain forward pass.

    The text is encoded beforehand for all methods. Two further rows show what CLIP Surgery costs with the set of labels, and
    if these labels are encoded for every image, as in its published code.

    Args:
        loaded: model and tokenizer.
        pixels: images ``(N, 3, H, W)``.
        names: the labels that CLIP Surgery compares, at least two; the first one is explained.
        templates: sentences with ``{}`` in the place of a label.
        methods: ``"all"`` (default), or names of methods.
        rounds: number of rounds, at least 1 (default 15); the table holds medians and quartiles over them.
        rise_masks: number of RISE's masks, at least 1 (default 100); its ratio is that to as many forward passes.

    Returns:
        The table, whose columns are seconds per image and forward passes; the lowest values are the best.

    Raises:
        ValueError: for a number below 1.

    >>> from captum_gradeclip.adapters import loading
    >>> names, pixels = ["red circle", "star"], torch.zeros(2, 3, 32, 32)
    >>> table = time_table(loading.load(), pixels, names, ["{}"], methods=["GradECLIP"], rounds=2)
    >>> list(table.rows), table.columns, table.rows["GradECLIP"]["seconds per image"].value > 0
    (['GradECLIP'], ['seconds per image', 'forward passes'], True)
    """
    check_number("rounds", rounds, whole=True, least=1)
    check_number("rise_masks", rise_masks, whole=True, least=1)

    def encoded() -> PromptScore:
        return PromptScore(loaded, names, templates)

    labelled, count = encoded(), len(pixels)
    score = ImageTextScore(loaded.model, labelled.text_features)

    def call(explainer: Explainer, make: Callable[[], ImageTextScore]) -> Tensor:
        return explainer.explain(Batch(make(), pixels, [0] * count, list(range(count))))

    plain = "plain forward pass"
    calls: dict[str, Callable[[], object]] = {plain: torch.no_grad()(lambda: score(pixels))}
    passes: dict[str, int] = {}
    for explainer in explainers(methods, rise_masks=rise_masks):
        if explainer.id in REFERENCES or not explainer.is_defined(Batch(score, pixels[:1], [0], [0])):
            continue
        calls[explainer.id] = partial(call, explainer, lambda: score)
        if explainer.kind is RISE:
            passes[explainer.id] = rise_masks
        if explainer.kind is CLIPSurgery:
            calls[f"CLIP Surgery, {len(names)} labels"] = partial(call, explainer, lambda: labelled)
            calls[f"CLIP Surgery, {len(names)} labels encoded"] = partial(call, explainer, encoded)
    times = take_turns(calls, rounds, pixels.device, f"batch {count}")
    rows = {
        name: {
            "seconds per image": _quartiles([seconds / count for seconds in spent]),
            "forward passes": _quartiles([a / b / passes.get(name, 1) for a, b in zip(spent, times[plain])]),
        }
        for name, spent in times.items()
        if name != plain
    }
    note = f"Medians of {rounds} rounds. RISE has {rise_masks} masks, and a ratio to {rise_masks} forward passes."
    columns = ["seconds per image", "forward passes"]
    title = f"Time, batch {count}, {tuple(pixels.shape[-2:])}, {torch.get_num_threads()} threads"
    return Table(title, columns, rows, frozenset(columns), note)


def _quartiles(values: Sequence[float]) -> Cell:
    if len(values) < 2:
        return Cell(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4)
    return Cell(middle, low, high)
