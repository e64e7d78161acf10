"""Words in colors over their regions: each pixel has the color of the word whose map is highest there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import show
from captum_gradeclip.show.regions import COLORS


def test_a_pixel_has_the_color_of_its_word() -> None:
    image = Image.new("RGB", (40, 20), (128, 128, 128))
    maps = torch.zeros(2, 20, 40)
    maps[0, :, :10], maps[1, :, 30:], maps[1, :, 15:20] = 5.0, 0.01, -1.0
    figure = show.regions(image, maps, ["a", "dog", "and", "a", "cat"], [1, 4])
    (drawn,) = figure.axes[0].images
    pixels = np.asarray(drawn.get_array()).astype(int)
    for column, color in ((5, COLORS[0]), (35, COLORS[1])):
        wanted = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
        assert np.abs(pixels[10, column] - wanted).max() < 40
    assert len({*pixels[10, 17]}) == 1, "what counts against a word, and what no word is about, stays gray"
    texts = {text.get_text(): text for text in figure.axes[1].texts}
    assert texts["dog"].get_color() == COLORS[0] and texts["cat"].get_color() == COLORS[1]
    assert texts["and"].get_color() not in COLORS and texts["dog"].get_fontweight() == "bold"


def test_flat_and_unseen_maps_color_nothing() -> None:
    maps = torch.zeros(1, 4, 4)
    maps[0, 0] = torch.nan
    (drawn,) = show.regions(Image.new("RGB", (4, 4)), maps, ["dog"], [0]).axes[0].images
    pixels = np.asarray(drawn.get_array())
    assert (pixels == pixels[0, 0]).all()


def test_what_does_not_fit_is_refused() -> None:
    image, maps = Image.new("RGB", (4, 4)), torch.zeros(2, 4, 4)
    with pytest.raises(ValueError, match="maps.*4 x 4"):
        show.regions(image, maps[:, :3], ["a", "b"], [0, 1])
    with pytest.raises(ValueError, match="chosen"):
        show.regions(image, maps, ["a", "b"], [0])
    with pytest.raises(ValueError, match="chosen"):
        show.regions(image, maps, ["a", "b"], [0, 2])
