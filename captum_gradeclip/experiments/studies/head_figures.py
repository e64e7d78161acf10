"""What the results of all heads say together: a row, a cell and a sentence for those that matter."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...metrics import linear_regression
from ...quoting import legible
from ..data import DataError
from ..records import HeadResult
from ..tables import Cell
from .heatmap import Heatmap
from .report import Count, Figures4, told_regression

POINTING, CARRIED, PATCHES, LOST = "pointing game", "carried", "carried by patches", "lost without it"
ALL = "all texts"
_MOST = 24
"""The most heads of which each has a row in the table."""
_SHOWN = 12
"""Of more heads, how many that point best, and how many that the score needs most, have one."""
_Array = npt.NDArray[np.float64]


class HeadFigures:
    """The results of some kinds of texts as arrays ``(pictures, layers, heads)``, with what is read from them.

    Args:
        results: one for each picture, at least one.

    Raises:
        DataError: for results of different numbers of layers or heads.

    >>> result: HeadResult = {"kind": "color", "texts": 1, "pointing": [[1.0, 0.0]], "together": [1.0],
    ...     "carried": [[0.1, 0.2]], "patches": [[0.1, 0.1]], "lost": [[0.3, 0.0]], "score": 0.5, "chance": 0.1}
    >>> HeadFigures([result]).best()
    ('layer 1, head 1', [1.0])
    """

    def __init__(self, results: Sequence[HeadResult]) -> None:
        if len({np.shape(one["pointing"]) for one in results}) != 1:
            raise DataError("records: expected the same numbers of layers and heads in all of them")
        self.pointing: _Array = np.array([one["pointing"] for one in results])
        self.together: _Array = np.array([one["together"] for one in results])
        self.carried: _Array = np.array([one["carried"] for one in results])
        self.patches: _Array = np.array([one["patches"] for one in results])
        self.lost: _Array = np.array([one["lost"] for one in results])
        self.score = float(np.mean([one["score"] for one in results]))
        self.chance = float(np.mean([one["chance"] for one in results]))
        self.texts = sum(one["texts"] for one in results)

    def best(self) -> tuple[str, list[float]]:
        """The head that points best on every other picture, and its pointing game on the rest of them."""
        chosen = self.pointing[::2].mean(axis=0)
        layer, head = np.unravel_index(chosen.argmax(), chosen.shape)
        rest = self.pointing[1::2] if len(self.pointing) > 1 else self.pointing
        return _named(int(layer), int(head)), rest[:, layer, head].tolist()


def over_all_texts(results: Sequence[HeadResult]) -> HeadResult:
    """The mean over all texts of a picture.

    Args:
        results: those of all kinds of its texts.
    """
    texts = [one["texts"] for one in results]

    def mean(values: Sequence[object]) -> _Array:
        return np.asarray(np.average(np.array(values), axis=0, weights=texts))

    return {
        "kind": ALL,
        "texts": sum(texts),
        "pointing": mean([one["pointing"] for one in results]).tolist(),
        "together": mean([one["together"] for one in results]).tolist(),
        "carried": mean([one["carried"] for one in results]).tolist(),
        "patches": mean([one["patches"] for one in results]).tolist(),
        "lost": mean([one["lost"] for one in results]).tolist(),
        "score": float(mean([one["score"] for one in results])),
        "chance": float(mean([one["chance"] for one in results])),
    }


def _named(layer: int, head: int) -> str:
    return f"layer {layer + 1}, head {head + 1}"


def head_rows(read: HeadFigures) -> dict[str, dict[str, Cell]]:
    """All heads; or of many those that point best and those that the score needs most, in the order of the layers."""
    _, layers, heads = read.pointing.shape
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    if len(places) > _MOST:
        kept = {
            place
            for values in (read.pointing.mean(axis=0), read.lost.mean(axis=0))
            for place in sorted(places, key=values.__getitem__, reverse=True)[:_SHOWN]
        }
        places = [place for place in places if place in kept]
    rows: dict[str, dict[str, Cell]] = {}
    for layer in range(layers):
        for _, head in (place for place in places if place[0] == layer):
            one = {POINTING: read.pointing, CARRIED: read.carried, PATCHES: read.patches, LOST: read.lost}
            rows[_named(layer, head)] = {
                column: Figures4.of(values[:, layer, head].tolist()) for column, values in one.items()
            }
        rows[f"layer {layer + 1}, all heads"] = {
            POINTING: Figures4.of(read.together[:, layer].tolist()),
            CARRIED: Figures4.of(read.carried[:, layer].sum(axis=1).tolist()),
            PATCHES: Figures4.of(read.patches[:, layer].sum(axis=1).tolist()),
        }
    return rows


def kind_row(read: HeadFigures) -> dict[str, Cell]:
    """The best head, all heads together, and what they have of the score."""
    return {
        f"best head's {POINTING}": Figures4.of(read.best()[1]),
        "all heads of the last layer": Figures4.of(read.together[:, -1].tolist()),
        "chance": Figures4(read.chance),
        CARRIED: Figures4.of(read.carried.sum(axis=(1, 2)).tolist()),
        PATCHES: Figures4.of(read.patches.sum(axis=(1, 2)).tolist()),
        "score": Figures4(read.score),
        "texts": Count(read.texts),
    }


def maps_of_all(read: HeadFigures) -> list[Heatmap]:
    """Pointing game, what is carried and what is lost, with the first layer at the bottom."""
    _, layers, heads = read.pointing.shape
    rows, columns = [f"layer {layer + 1}" for layer in range(layers)], [f"head {head + 1}" for head in range(heads)]
    pointing = np.concatenate([read.pointing, read.together[:, :, None]], axis=2).mean(axis=0)
    return [
        Heatmap(f"{POINTING}, {read.chance:.2f} by chance", pointing, rows, [*columns, "all"], POINTING),
        Heatmap(
            f"{CARRIED}, of a score of {read.score:.2f}", read.carried.mean(axis=0), rows, columns, "cosine", signed=True
        ),
        Heatmap(f"{LOST}, of a score of {read.score:.2f}", read.lost.mean(axis=0), rows, columns, "cosine", signed=True),
    ]


def maps_by_kind(read: Mapping[str, HeadFigures]) -> list[Heatmap]:
    """The pointing game above chance, for each kind of texts."""
    found = []
    for kind, one in read.items():
        _, layers, heads = one.pointing.shape
        rows, columns = [str(layer + 1) for layer in range(layers)], [str(head + 1) for head in range(heads)]
        above = one.pointing.mean(axis=0) - one.chance
        found.append(Heatmap(legible(kind), above, rows, columns, f"{POINTING} above chance", signed=True))
    return found


def findings(read: Mapping[str, HeadFigures]) -> list[str]:
    """What follows, in sentences."""
    total = read[ALL]
    said = []
    for kind, one in read.items():
        name, values = one.best()
        said.append(
            f"{kind}: {name} points best, at {np.mean(values):.4f} on the pictures that it was not chosen by"
            f" ({one.chance:.4f} by chance)"
        )
    carried, patches, lost, pointing = (
        values.mean(axis=0) for values in (total.carried, total.patches, total.lost, total.pointing)
    )
    layer, head = np.unravel_index(lost.argmax(), lost.shape)
    said.append(
        f"all heads carry {carried.sum():.4f} of a score of {total.score:.4f} to first order, {patches.sum():.4f} by"
        f" patches; the score falls most without {_named(int(layer), int(head))}, by {lost.max():.4f}"
    )
    for name, values in ((f"what is {CARRIED}", carried), (POINTING, pointing)):
        line = linear_regression(lost.flatten().tolist(), values.flatten().tolist())
        said.append(told_regression(f"{name} on what is {LOST}, head by head", line))
    return said


def every_head(read: Mapping[str, HeadFigures]) -> str:
    """One line for each kind of texts, layer and head."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["kind", "layer", "head", POINTING, CARRIED, PATCHES, LOST])
    for kind, one in read.items():
        means = [values.mean(axis=0) for values in (one.pointing, one.carried, one.patches, one.lost)]
        for layer, head in np.ndindex(*means[0].shape):
            writer.writerow([legible(kind), layer + 1, head + 1, *(f"{values[layer, head]:.6f}" for values in means)])
    return file.getvalue()
