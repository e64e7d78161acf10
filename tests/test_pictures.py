"""Reading files and drawing results: any picture in, no exception on any map out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import images, show
from captum_gradeclip.maps import Frame
from captum_gradeclip.notices import kept_notices

COMMON = {"size": (64, 64), "patch": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 255 / width, y * 255 / height, 0 * x + 60], axis=-1).astype(np.uint8))


def test_every_kind_of_file(tmp_path: Path) -> None:
    rgb = gradient()
    files = {
        "rgb.png": rgb,
        "rgb.jpg": rgb,
        "rgb.webp": rgb,
        "grey.png": rgb.convert("L"),
        "palette.png": rgb.convert("P"),
        "bits.png": rgb.convert("1"),
        "alpha.png": rgb.convert("RGBA"),
        "grey-alpha.png": rgb.convert("LA"),
        "cmyk.jpg": rgb.convert("CMYK"),
        "palette.gif": rgb.convert("P"),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        read = images.read(tmp_path / name)
        assert read.mode == "RGB" and read.size == (40, 30)
        assert np.asarray(read).std() > 5
    deep = Image.fromarray((np.asarray(rgb.convert("L")).astype(np.uint16)) * 257)
    deep.save(tmp_path / "deep.png")
    assert abs(np.asarray(images.read(tmp_path / "deep.png"))[..., 0].astype(int) - np.asarray(rgb.convert("L"))).max() <= 1


def test_exif_rotation_and_transparency(tmp_path: Path) -> None:
    rgb = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    rgb.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert images.read(tmp_path / "turned.jpg").size == (30, 40)
    hidden = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    hidden.save(tmp_path / "hidden.png")
    assert images.read(tmp_path / "hidden.png").getpixel((0, 0)) == (255, 255, 255)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    gradient(400, 300).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(FileNotFoundError, match=r"no file.*missing\.png"):
        images.read(tmp_path / "missing.png")
    for name, message in (("text.png", "not a picture"), ("empty.png", "not a picture"), ("cut.jpg", "cut off")):
        with pytest.raises(ValueError, match=message):
            images.read(tmp_path / name)


def test_three_ways_to_the_models_input() -> None:
    image = gradient(100, 60)
    keep = images.prepare(image, resize="keep", **COMMON)
    assert keep.pixels.shape == (1, 3, 64, 104) and keep.frame.box == (0, 0, 100, 60)
    squash = images.prepare(image, resize="squash", **COMMON)
    assert squash.pixels.shape == (1, 3, 64, 64) and squash.frame.box == (0, 0, 100, 60)
    crop = images.prepare(image, resize="crop", **COMMON)
    assert crop.pixels.shape == (1, 3, 64, 64) and crop.frame.box == (20, 0, 80, 60)
    assert -1 <= keep.pixels.min() < keep.pixels.max() <= 1
    assert images.prepare(image, resize="keep", scale=0.5, **COMMON).pixels.shape == (1, 3, 32, 48)


def test_the_longer_side_in_pixels() -> None:
    wide = images.prepare(gradient(100, 60), resize=200, **COMMON)
    assert wide.pixels.shape == (1, 3, 120, 200) and wide.frame.box == (0, 0, 100, 60)
    assert images.prepare(gradient(60, 100), resize=200, scale=0.5, **COMMON).pixels.shape == (1, 3, 104, 64)
    for resize, message in (
        (0, "resize: expected at least 1"),
        (True, "resize: expected"),
        (7, "smaller than a patch of 8"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            images.prepare(gradient(100, 60), resize=resize, **COMMON)


def test_too_many_patches_are_fewer_unless_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "USUAL_TOKENS", 50)
    for size in ((100, 60), (60, 100), (800, 8), (333, 331)):
        with kept_notices() as kept:
            shrunk = images.prepare(gradient(*size), **COMMON)
        tokens = shrunk.pixels.shape[-2] // 8 * (shrunk.pixels.shape[-1] // 8)
        assert 25 < tokens <= 50 and shrunk.frame == Frame.whole(size)
        assert len(kept) == 1 and kept[0].startswith(f"max_tokens: {size[0]} x {size[1]} pixels give")
        most = int(re.findall(r"max_tokens=(\d+) takes all", kept[0])[0])
        with kept_notices() as kept:
            whole = images.prepare(gradient(*size), max_tokens=most, **COMMON)
        assert not kept and whole.pixels.shape[-1] == images.nearest_multiple(size[0], 8)
        with pytest.raises(ValueError, match="max_tokens=") as error:
            images.prepare(gradient(*size), max_tokens=most - 1, **COMMON)
        fits = float(re.findall(r"scale=([\d.]+) fits", str(error.value))[0])
        if min(size) * fits >= 8:
            assert images.prepare(gradient(*size), max_tokens=most - 1, scale=fits, **COMMON).pixels.numel() > 0


def test_the_interpolation_is_the_one_that_is_named() -> None:
    image = gradient(100, 60)
    kinds = [images.prepare(image, resize="squash", interpolation=kind, **COMMON).pixels for kind in ("bicubic", "nearest")]
    assert torch.equal(images.prepare(image, resize="squash", **COMMON).pixels, kinds[0]) and not torch.equal(*kinds)
    with pytest.raises(ValueError, match="interpolation: expected one of nearest, .*bicubic.*, got 'cubic'"):
        images.prepare(image, interpolation="cubic", **COMMON)


def test_crop_agrees_with_open_clips_own_transform() -> None:
    from open_clip import image_transform

    image = gradient(96, 64)
    expected = image_transform(64, is_train=False, mean=(0.5,) * 3, std=(0.5,) * 3)(image)
    got = images.prepare(image, resize="crop", **COMMON).pixels[0]
    assert (got - expected).abs().max() < 0.02


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="expected finite pixels"):
        images.to_rgb(Image.fromarray(np.full((9, 9), np.nan, dtype=np.float32)))
    for image, options, message in (
        (gradient(7, 30), {}, "smaller than a patch of 8"),
        (gradient(40, 30), {"scale": 0.1}, "smaller than a patch"),
        (gradient(40, 30), {"max_tokens": 4}, r"more than max_tokens=4; shrink it \(scale=0\.\d+ fits\)"),
        (gradient(40, 30), {"resize": "fit"}, "resize: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            images.prepare(image, **{**COMMON, **options})


MAPS = {
    "zero": torch.zeros(30, 40),
    "constant": torch.full((30, 40), 3.0),
    "negative": -torch.rand(30, 40),
    "nan": torch.full((30, 40), float("nan")),
    "infinite": torch.full((30, 40), float("inf")),
    "half": torch.rand(30, 40).to(torch.bfloat16),
    "with graph": torch.rand(30, 40, requires_grad=True),
}


@pytest.mark.parametrize("name", MAPS)
def test_drawing_never_fails_on_a_map(tmp_path: Path, name: str) -> None:
    one = MAPS[name]
    assert show.overlay(gradient(), one).size == (40, 30)
    words = [("a", 0.0), ("dog", float(torch.nan_to_num(one).max())), ("<b>&", float("nan")), ("cost$5$", -1.0)]
    figure = show.strip(gradient(), torch.stack([one, one]), ["one $x^$", "two"], words=[words, []])
    show.save(figure, tmp_path / "strip.png")
    show.save(show.words_figure([words, []], ["first", "second"]), tmp_path / "words.png")
    assert Image.open(tmp_path / "strip.png").size[0] > 300


def test_the_overlay_shows_the_highest_place() -> None:
    hot = torch.zeros(30, 40)
    hot[10:14, 20:24] = 1
    change = np.abs(np.asarray(show.overlay(Image.new("RGB", (40, 30), "grey"), hot)).astype(int) - 128).max(axis=-1)
    assert change[12, 22] > 50 and change[0, 0] == 0
    with pytest.raises(ValueError, match="expected the picture's height and width 30 x 40, got"):
        show.overlay(gradient(), torch.zeros(40, 30))


def test_the_page_is_escaped_and_stands_alone() -> None:
    page = show.words_html([[("<script>alert(1)</script>", 1.0), ("a&b", float("nan")), ('"q"', -2.0)]], ["<i>title</i>"])
    assert "<script>" not in page and "<i>" not in page and "&lt;script&gt;" in page and "a&amp;b" in page
    assert "http" not in page and "nan" not in page.split("title=")[0]
    assert "rgb(230,180,186);color:#000" in page and "rgb(111,156,201);color:#000" in page, "red for, blue against"
    assert show.words_html([]).startswith("<!DOCTYPE html>")


def test_wrong_numbers_of_titles() -> None:
    with pytest.raises(ValueError, match="one map"):
        show.strip(gradient(), torch.zeros(2, 30, 40), ["only one"])
