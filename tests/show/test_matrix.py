"""The figure of methods by texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip.show import Row, matrix


def test_a_matrix_has_one_legend_and_refuses_missing_maps() -> None:
    image = Image.new("RGB", (30, 20))
    rows = [Row(f"method {number}", torch.randn(3, 20, 30)) for number in range(7)]
    figure = matrix(image, rows, ["a", "b $1", "c"], same_scale=True)
    figure.canvas.draw()
    legends = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert len(legends) == 1 and next(one.get_text() for one in legends[0].get_xticklabels()) == "lowest"
    with pytest.raises(ValueError, match="one map and caption for each of the 2 titles"):
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
    for same_scale in (False, True):
        figure = matrix(image, rows, ["a", "b"], same_scale=same_scale)
        panels = [axis for axis in figure.axes[:24] if axis.get_images()]
        pictures = [np.asarray(axis.get_images()[0].get_array()) for axis in panels]
        assert len(pictures) == 6, "a refused row has no picture"
        first, second = (len(np.unique(one.reshape(-1, 3), axis=0)) for one in pictures[:2])
        assert first > 100 and second > 100, "negative values have colours as well"
        assert np.array_equal(pictures[0], pictures[1]) != same_scale
        assert np.array_equal(pictures[4][:, 20:], np.asarray(image)[:, 20:]), "what the model did not see"
        assert not np.array_equal(pictures[4][:, :20], np.asarray(image)[:, :20])
        told = [text.get_text() for axis in figure.axes for text in axis.texts]
        assert told.count("not defined\nfor this model") == 2 and told.count("nothing") == (0 if same_scale else 2)
    tall, wide = (matrix(image.resize(size), rows[1:2], ["a", "b"]) for size in ((5, 500), (500, 5)))
    assert tall.get_figheight() < 5 and wide.get_figheight() > 1
