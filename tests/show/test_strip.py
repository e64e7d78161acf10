"""The strip: panels of a useful size for every picture, labels that never touch, and what is said beside colors."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captum_gradeclip.show import Drawing, Scale, Strip, Style, overlay, save, strip, strips

from ..covering import covered
from .looking import STYLES, Scaling, collisions, panels_of, texts_of

ASPECTS = {"photo": (400, 300), "panorama": (500, 100), "tall": (75, 300), "square": (96, 96), "extreme": (900, 9)}
NARROW: dict[str, tuple[float | None, Scaling]] = {**STYLES, "40 mm, shared": (40, "shared"), "40 mm, each": (40, "each")}
TITLES = ["a dog", "a small striped blue square above a purple star in the rain", "extraordinarily" * 4, "two"]
WORDS = [[(word, 1.0) for word in title.split()] for title in TITLES]
NOTES = ["score +0.231", "score -0.004", "logit +12.345, 99.5 %", "score +0.000"]


def ramps(width: int, height: int, count: int = 4, low: float = 0.0) -> Tensor:
    return torch.stack([torch.linspace(low, 1 + n, width * height).view(height, width) for n in range(count)])


@pytest.mark.parametrize(("name", "style"), covered(ASPECTS, NARROW, per_row=2, per_column=2))
def test_labels_never_touch_and_panels_are_useful(name: str, style: str) -> None:
    size, (width, color_scale) = ASPECTS[name], NARROW[style]
    maps = ramps(*size, low=-1.0 if name == "square" else 0.0)
    maps[:, :, : size[0] // 4] = torch.nan
    look = Style(color_scale=color_scale, width=width)
    figure = strip(Image.new("RGB", size), maps, TITLES, words=WORDS, notes=NOTES, unit="cosine", style=look)
    assert not collisions(figure)
    panels = panels_of(figure)[:1] + [axis for axis in panels_of(figure)[1:] if axis.get_title()]
    assert len(panels) == 5 and max(figure.get_size_inches()) < 40
    for axis in panels:
        wide, high = (side / figure.dpi * 25.4 for side in (axis.bbox.width, axis.bbox.height))
        if name == "extreme":  # nothing but the whole width helps
            assert wide > 0.95 * (300 if width is None else width - 4)
        else:
            assert wide * high > (350 if width is None else 250 if width > 80 else 150), (wide, high)
        assert width is None or wide <= width
    assert width is None or figure.get_figwidth() * 25.4 == pytest.approx(width)


@pytest.mark.parametrize("format", ["png", "pdf", "svg"])
def test_files_have_the_width_in_millimeters(format: str, tmp_path: Path) -> None:
    figure = strip(Image.new("RGB", (40, 30)), ramps(40, 30), TITLES, style=Style(width=84, dpi=300))
    save(figure, tmp_path / f"strip.{format}", 300)
    written = (tmp_path / f"strip.{format}").read_bytes()
    if format == "png":
        assert Image.open(io.BytesIO(written)).width == pytest.approx(84 / 25.4 * 300, abs=1)
        return
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)" if format == "pdf" else rb'width="([\d.]+)pt"', written)
    assert box is not None and float(box[1]) / 72 * 25.4 == pytest.approx(84, abs=0.1)
    if format == "pdf":
        assert b"/TrueType" in written or b"/CIDFontType2" in written, "letters stay letters"


def test_the_first_axes_are_the_panels_with_their_overlays() -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    maps = ramps(40, 30, 2)
    for color_scale in ("shared", "each"):
        figure = strip(image, maps, ["a", "b"], style=Style(color_scale=color_scale))  # type: ignore[arg-type]
        assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "a", "b"]
        drawn = [np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes[:3]]
        assert np.array_equal(drawn[0], np.asarray(image))
        for one, got in zip(maps, drawn[1:]):
            scale = Scale.of(maps) if color_scale == "shared" else None
            assert np.array_equal(got, np.asarray(overlay(image, one, scale=scale)))
    assert not np.array_equal(drawn[1], np.asarray(overlay(image, maps[0], scale=Scale.of(maps))))


def test_what_is_said_beside_colors() -> None:
    maps = ramps(40, 30, 2)
    image = Image.new("RGB", (40, 30))

    def said(maps: Tensor, **options: object) -> list[str]:
        figure = strip(image, maps, [str(n) for n in range(len(maps))], **options)  # type: ignore[arg-type]
        return [text for text, _, _ in texts_of(figure)]

    plain = said(maps, unit="cosine", notes=["score +0.1", "score -0.2"])
    assert {"attribution (cosine)", "0", "2", "score +0.1", "score -0.2"} <= set(plain)
    assert "not seen by the model" not in plain
    assert {"-2", "0", "+2"} <= set(said(maps - torch.tensor([[[1.0]], [[3.0]]])[:, :, :] + 1))
    unseen = maps.clone()
    unseen[:, :5] = torch.nan
    assert "not seen by the model" in said(unseen)
    each = said(maps, style=Style(color_scale="each"))
    assert {"1", "2"} <= set(each) and each.count("0") >= 2 and "attribution" not in each


def test_flat_maps_are_said_and_not_stretched() -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    maps = torch.stack([torch.zeros(30, 40), torch.full((30, 40), 0.125), torch.full((30, 40), torch.nan), ramps(40, 30)[0]])
    figure = strip(image, maps, ["a", "b", "c", "d"])
    said = {axis.get_title(): text for text, _, axis in texts_of(figure) if axis is not None and text != axis.get_title()}
    assert said["a"] == "zero everywhere" and said["b"].split() == ["0.125", "everywhere"] and said["c"] == "not seen"
    assert "d" not in said and not collisions(figure)
    for axis in figure.axes[1:3]:
        assert np.array_equal(np.asarray(axis.get_images()[0].get_array()), np.asarray(image))
    none = strip(image, maps[:2], ["a", "b"])
    assert "attribution" not in [text for text, _, _ in texts_of(none)], "there is nothing that a bar could explain"


def test_several_pictures_stand_below_each_other() -> None:
    parts = [
        Strip(Image.new("RGB", size), ramps(*size, count=2) * scale, ["a", "b"], heading=name)
        for (name, size), scale in zip(ASPECTS.items(), (1, 10, 100, 1000, 1e4))
    ]
    figure = strips(parts, style=Style(width=150))
    assert isinstance(figure, Drawing) and not collisions(figure)
    said = [text for text, _, _ in texts_of(figure)]
    assert {"2", "20", "200", "2000", "20000", *ASPECTS} <= set(said), "each has a scale of its own"


@pytest.mark.parametrize("count", [0, 1, 30])
def test_any_number_of_texts(count: int) -> None:
    figure = strip(Image.new("RGB", (40, 30)), ramps(40, 30, count) if count else torch.zeros(0, 30, 40), ["t"] * count)
    assert len([axis for axis in figure.axes if axis.get_title()]) == count + 1 and not collisions(figure)
    assert figure.get_figwidth() < 13.5


def test_a_notebook_shows_it_without_pyplot() -> None:
    figure = strip(Image.new("RGB", (40, 30)), ramps(40, 30), TITLES)
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert shown.format == "PNG" and shown.width == pytest.approx(figure.get_figwidth() * 150, abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cmap": "virdis"}, "^cmap: matplotlib has no color map 'virdis'"),
        ({"color_scale": "own"}, "^color_scale: expected one of"),
        ({"width": 3}, "^width: expected at least 30 and at most 2000, got 3"),
        ({"width": float("nan")}, "^width: expected"),
        ({"dpi": 0}, "^dpi: expected at least 20"),
        ({"dpi": 99.5}, "^dpi: expected int"),
        ({"format": "jpg"}, "^format: expected one of"),
        ({"full_size": "yes"}, "^full_size: expected bool"),
    ],
)
def test_wrong_styles_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Style(**options)  # type: ignore[arg-type]
