"""The figure of methods by texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_gradeclip.show import Row, Scale, Style, matrix, overlay

from ..covering import covered
from .looking import STYLES, collisions, panels_of, texts_of

ASPECTS = {"photo": (200, 150), "panorama": (250, 50), "tall": (50, 200), "square": (96, 96)}
TITLES = ["a dog", "a small striped blue square above a purple star in the rain", "extraordinarily" * 4]
WORDS = [[(word, 1.0) for word in title.split()] for title in TITLES]
NOTES = ["score +0.231", "score -0.004", "score +0.000"]
METHODS = [
    "Grad-ECLIP\n36 ms",
    "raw attention\n30 ms\nfor any text",
    "Attention Rollout\n25 ms\nfor any text",
    "GAME\n1.2 s",
]


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_label() == "panel"]


def drawn(axis: Axes) -> np.ndarray:
    return np.asarray(axis.get_images()[0].get_array())


def ramps(width: int, height: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    one = torch.linspace(low, high, width * height).view(height, width)
    return torch.stack([one, 0.5 * one, 0.1 * one])


@pytest.mark.parametrize(("name", "style"), covered(ASPECTS, STYLES, per_row=2, per_column=2))
def test_labels_never_touch_and_panels_are_useful(name: str, style: str) -> None:
    size, (width, color_scale) = ASPECTS[name], STYLES[style]
    rows = [Row(one, ramps(*size, high=10.0**-n), WORDS, "cosine") for n, one in enumerate(METHODS)]
    unseen = ramps(*size, low=-1.0)
    unseen[:, :, :9] = torch.nan
    rows += [Row("refused", None), Row("signed", unseen), Row("small", 1e-7 * ramps(*size)), Row("zero", 0 * ramps(*size))]
    figure = matrix(Image.new("RGB", size), rows, TITLES, notes=NOTES, style=Style(color_scale=color_scale, width=width))
    assert not collisions(figure) and max(figure.get_size_inches()) < 60
    assert width is None or figure.get_figwidth() * 25.4 == pytest.approx(width)
    assert len(panels(figure)) == 3 * 7
    for axis in panels(figure):
        wide, high = (side / figure.dpi * 25.4 for side in (axis.bbox.width, axis.bbox.height))
        assert wide * high > (300 if width is None else 60), (wide, high)
    said = [text.replace("\n", " ") for text, _, _ in texts_of(figure)]
    assert "not seen by the model" in said and "zero everywhere" in said
    assert [said.count(note) >= 1 for note in NOTES] == [True] * 3 and said.count("cosine") >= 4


def test_a_row_shares_its_scale_or_each_map_has_its_own() -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    rows = [Row("a", ramps(40, 30)), Row("b", ramps(40, 30, -2.0, 1.0))]
    for color_scale in ("shared", "each"):
        figure = matrix(image, rows, ["x", "y", "z"], style=Style(color_scale=color_scale))  # type: ignore[arg-type]
        found = iter(panels(figure))
        for row in rows:
            assert row.maps is not None
            for one in row.maps:
                scale = Scale.of(row.maps) if color_scale == "shared" else None
                assert np.array_equal(drawn(next(found)), np.asarray(overlay(image, one, scale=scale)))
        said = [text for text, _, _ in texts_of(figure)]
        if color_scale == "shared":
            assert {"0", "1", "-2", "+2"} <= set(said) and "lowest" not in said
        else:
            assert {"0 ... 0.1", "-0.2 ... 0 ... +0.2", "lowest", "highest", "-largest", "+largest"} <= set(said)


def test_many_methods_stand_in_two_blocks_and_many_texts_in_further_ones() -> None:
    image, maps = Image.new("RGB", (40, 30)), ramps(40, 30)
    figure = matrix(image, [Row(str(n), maps) for n in range(7)], ["a", "b", "c"])
    lefts = sorted({round(axis.get_position().x0, 3) for axis in panels(figure)})
    assert len(lefts) == 6 and len(panels(figure)) == 21 and np.array_equal(drawn(figure.axes[0]), np.asarray(image))
    many = matrix(image, [Row("a", ramps(40, 30).repeat(4, 1, 1))], [str(n) for n in range(12)], style=Style(width=84))
    assert len({round(axis.get_position().x0, 3) for axis in panels(many)}) < 4 and not collisions(many)
    assert len(panels(many)) == 12 and max(many.get_size_inches()) < 20


def test_rows_that_do_not_fit_are_refused() -> None:
    image = Image.new("RGB", (30, 20))
    for rows in ([Row("b $1", torch.randn(3, 20, 30))], [Row("b $1", None, [[("a", 1.0)]])]):
        with pytest.raises(ValueError, match=r"one map and caption for each of the 2 titles.*'b \$1'"):
            matrix(image, rows, ["a", "b"])


def test_panels_that_are_no_ordinary_map() -> None:
    image = Image.new("RGB", (30, 20), (10, 200, 30))
    signed = torch.linspace(-3, -1, 600).view(20, 30)
    cropped = signed.clone()
    cropped[:, 20:] = torch.nan
    rows = [
        Row("signed", torch.stack([signed, signed + 0.5])),
        Row("refused", None, [[("a", 1.0)], [("b", 1.0)]]),
        Row("zero", torch.zeros(2, 20, 30)),
        Row("cropped", torch.stack([cropped, cropped])),
    ]
    for color_scale in ("shared", "each"):
        figure = matrix(image, rows, ["a", "b"], style=Style(color_scale=color_scale))  # type: ignore[arg-type]
        pictures = [drawn(axis) for axis in panels(figure)]
        assert len(pictures) == 6, "a refused row has no picture"
        first, second = (len(np.unique(one.reshape(-1, 3), axis=0)) for one in pictures[:2])
        assert first > 50 and second > 50, "negative values have colors as well"
        assert np.array_equal(pictures[2], np.asarray(image)) and np.array_equal(pictures[3], np.asarray(image))
        unseen = pictures[4][:, 20:].astype(int)
        assert (unseen.max(axis=-1) == unseen.min(axis=-1)).all(), "what the model did not see is gray"
        assert np.ptp(pictures[4][:, :20].astype(int), axis=-1).max() > 50
        told = [text.replace("\n", " ") for text, _, _ in texts_of(figure)]
        joined = " ".join(told)
        assert joined.count("not defined") == 2 and told.count("zero everywhere") == 2
    tall, wide = (matrix(image.resize(size), rows[1:2], ["a", "b"]) for size in ((5, 500), (500, 5)))
    assert tall.get_figheight() < 5 and wide.get_figheight() > 0.5
    assert panels_of(tall) and not collisions(tall) and not collisions(wide)
