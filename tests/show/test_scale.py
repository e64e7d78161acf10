"""Colors that people can read: as light as values are high, told apart without red or green, clear where nothing is."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from captum_gradeclip.show import Scale, flat, overlay, palette
from captum_gradeclip.show.bar import bar_colors, ends, told
from captum_gradeclip.show.overlay import ALPHA
from captum_gradeclip.show.scale import DIVERGING, SEQUENTIAL, STEPS, diverges, lightness

MIDDLE = STEPS // 2
PERCEPTUAL = ["plasma", "viridis", "inferno", "magma", "cividis"]
# Machado, Oliveira, Fernandes: "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009, severity 1.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colors: np.ndarray) -> np.ndarray:
    shares = np.asarray(colors, dtype=float) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def encoded(colors: np.ndarray) -> np.ndarray:
    colors = np.clip(colors, 0, 1)
    return 255 * np.where(colors <= 0.0031308, 12.92 * colors, 1.055 * colors ** (1 / 2.4) - 0.055)


def seen_with(deficiency: str, colors: np.ndarray) -> np.ndarray:
    """Colors as somebody sees them who lacks one kind of cones."""
    return encoded(linear(colors) @ np.array(DEFICIENCIES[deficiency]).T)


def lab(colors: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB with the white D65, in which a distance of 1 can just be seen."""
    xyz = linear(colors) @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def test_lightness_is_that_of_cielab() -> None:
    colors = np.random.default_rng(0).uniform(0, 255, (50, 3))
    assert np.allclose(lightness(colors), lab(colors)[:, 0], atol=0.02)


@pytest.mark.parametrize("cmap", [None, *PERCEPTUAL])
def test_higher_values_are_lighter_for_every_eye(cmap: str | None) -> None:
    """The lightness alone orders the values, so that no color has to be told from another."""
    colors, opacity = palette(cmap, signed=False)
    assert (np.diff(lightness(colors)) > 0).all() and (np.diff(opacity) >= 0).all()
    assert opacity[0] == 0 and opacity[-1] == 1
    tenths = colors[:: STEPS // 10]
    for deficiency in DEFICIENCIES:
        simulated = seen_with(deficiency, tenths)
        assert (np.diff(lightness(simulated)) > 0).all(), deficiency
        assert np.linalg.norm(np.diff(lab(simulated), axis=0), axis=1).min() > 4, deficiency


@pytest.mark.parametrize("cmap", [None, "RdBu_r", "PuOr", "BrBG"])
def test_both_signs_become_darker_away_from_zero_and_differ_for_every_eye(cmap: str | None) -> None:
    colors, opacity = palette(cmap, signed=True)
    light = lightness(colors)
    down, up = light[:MIDDLE][::-1], light[MIDDLE + 1 :]
    for half in (down, up):  # matplotlib keeps 256 colors of these maps, so that neighbors may be the same
        assert (np.diff(half) <= 0).all() and (np.diff(half[::4]) < 0).all()
    assert opacity[MIDDLE] == 0 and np.allclose(opacity, opacity[::-1]) and (np.diff(opacity[MIDDLE:]) >= 0).all()
    for share in (0.4, 0.7, 1.0):  # of the same magnitude
        place = round(share * MIDDLE)
        pair = colors[[MIDDLE - place, MIDDLE + place]]
        for deficiency in DEFICIENCIES:
            low, high = lab(seen_with(deficiency, pair))
            assert np.linalg.norm(low - high) > 20, (deficiency, share)


def test_a_map_without_a_middle_is_not_used_for_signs() -> None:
    assert all(diverges(one) and diverges(f"{one}_r") for one in ("RdBu", "PuOr", "BrBG", "coolwarm", "Spectral", "PiYG"))
    assert not any(map(diverges, [*PERCEPTUAL, "Reds", "gray", "Blues_r"]))
    assert np.array_equal(palette("viridis", signed=True)[0], palette(DIVERGING, signed=True)[0])
    assert np.array_equal(palette(None, signed=False)[0], palette(SEQUENTIAL, signed=False)[0])
    assert not np.array_equal(palette("PuOr", signed=True)[0], palette(DIVERGING, signed=True)[0])
    for wrong in ("virdis", "", 3):
        with pytest.raises(ValueError, match="^cmap: matplotlib has no color map"):
            palette(wrong, signed=False)  # type: ignore[arg-type]


@given(st.lists(st.lists(st.floats(-10, 10) | st.just(float("nan")), min_size=1, max_size=6), min_size=1, max_size=4))
@settings(max_examples=200)
def test_the_shared_scale_spans_all_maps_that_are_not_flat(lists: list[list[float]]) -> None:
    maps = [torch.tensor(one) for one in lists]
    values: list[float] = []
    for one in maps:
        finite = [float(value) for value in one if math.isfinite(value)]
        if finite and max(finite) - min(finite) > 1e-6 * max(map(abs, finite)):
            values += finite
            assert flat(one) is None
        else:
            assert flat(one) is not None
    scale = Scale.of(maps)
    if not values:
        assert scale == Scale(0.0, 0.0)
    elif min(values) < -0.01 * max(map(abs, values)):
        assert scale.signed and scale.high == -scale.low == max(map(abs, values))
    else:
        assert not scale.signed and (scale.low, scale.high) == (min(values), max(values))


def test_what_a_flat_map_is() -> None:
    assert flat(torch.zeros(2, 2)) == 0 and flat(torch.full((2, 2), 0.1) + 1e-9) == pytest.approx(0.1)
    assert math.isnan(flat(torch.full((2,), torch.nan)) or 0) and flat(torch.tensor([1.0, torch.inf])) == 1
    assert flat(torch.tensor([1e-12, 2e-12])) is None, "small values are values"
    large = np.array([-3e38, 0, 3e38], dtype=np.float32)
    assert Scale.of([torch.tensor([-3e38, 3e38])]).places(large).tolist() == [0, 127, 254]


@pytest.mark.parametrize("signed", [False, True])
def test_an_overlay_is_its_equation(signed: bool) -> None:
    """Pixel by pixel in double precision."""
    generator = torch.Generator().manual_seed(0)
    one = torch.rand(7, 5, generator=generator) - (0.5 if signed else 0)
    one[0, 0], one[1, 1] = torch.nan, torch.inf
    image = Image.fromarray(torch.randint(0, 256, (7, 5, 3), generator=generator).byte().numpy())
    finite = one[torch.isfinite(one)]
    high = float(finite.abs().max())
    low = -high if signed else float(finite.min())
    got = np.asarray(overlay(image, one, alpha=0.6)).astype(float)
    for y in range(7):
        for x in range(5):
            pixel = np.asarray(image)[y, x].astype(float)
            gray = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]
            if not torch.isfinite(one[y, x]):
                veil = 0.4 * gray + 0.6 * 200
                assert np.abs(got[y, x] - veil * (0.75 if (x + y) % 6 == 0 else 1)).max() <= 1
                continue
            share = round((float(one[y, x]) - low) / (high - low) * 254) / 254
            far = abs(2 * share - 1) if signed else share
            opacity = min(1.0, far / 0.3)
            place = 0.5 + np.sign(share - 0.5) * (0.2 + 0.3 * far) if signed else share
            color = 255 * np.array(matplotlib.colormaps["RdBu_r" if signed else "plasma"](place))[:3]
            expected = (1 - opacity) * pixel + opacity * (0.6 * color + 0.4 * gray)
            assert np.abs(got[y, x] - expected).max() <= 1


def test_cold_places_keep_the_picture_and_scales_are_comparable() -> None:
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    hot = torch.zeros(30, 40)
    hot[10:20, 10:20] = 1
    original = np.asarray(image)
    alone, shared = overlay(image, 0.05 * hot), overlay(image, 0.05 * hot, scale=Scale.of([hot, 0.05 * hot]))
    assert np.array_equal(np.asarray(overlay(image, hot)), np.asarray(alone)), "each by itself is stretched"
    assert np.array_equal(np.asarray(alone)[:10], original[:10]), "cold"
    change = np.abs(np.asarray(shared).astype(int) - original)
    assert change.max() < 60 < np.abs(np.asarray(alone).astype(int) - original)[10:20, 10:20].max()
    assert np.array_equal(np.asarray(overlay(image, hot, scale=1.0)), np.asarray(overlay(image, hot)))
    assert np.array_equal(np.asarray(overlay(image, hot - 0.5, scale=0.5)), np.asarray(overlay(image, hot - 0.5)))
    assert np.array_equal(np.asarray(overlay(image, torch.full((30, 40), 3.0))), original), "flat"
    assert not np.array_equal(np.asarray(overlay(image, torch.full((30, 40), 3.0), scale=3.0)), original)
    assert np.array_equal(np.asarray(overlay(image, hot, scale=0.0)), original)


def test_a_bar_has_the_colors_of_the_overlay() -> None:
    """On gray, an overlay of a ramp is the bar, but for its squares."""
    for signed in (False, True):
        ramp = torch.linspace(-1 if signed else 0, 1, STEPS).expand(8, -1).contiguous()
        drawn = np.asarray(overlay(Image.new("RGB", (STEPS, 8), (236, 236, 236)), ramp)).astype(int)
        assert np.abs(drawn - bar_colors(signed, None)).max() <= 15
        opaque = palette(None, signed)[1] == 1
        expected = ALPHA * palette(None, signed)[0] + (1 - ALPHA) * 236
        assert np.abs(drawn[0] - expected)[opaque].max() <= 1


def test_numbers_have_the_digits_of_their_scale() -> None:
    assert [told(value, 0.258) for value in (0.258, 0.0001, 0.1)] == ["0.258", "0", "0.1"]
    assert [told(value, 0.3, signed=True) for value in (0.3, -0.3, 0.0)] == ["+0.3", "-0.3", "0"]
    assert [told(value, 581) for value in (581.4, 0.895)] == ["581", "1"]
    assert told(2e-9, 2e-9) == "2e-09" and told(3e9, 3e9) == "3e+09" and told(float("nan"), float("nan")) == "nan"
    assert [number for _, number in ends(Scale(-0.5, 0.5, True))] == ["-0.5", "0", "+0.5"]
