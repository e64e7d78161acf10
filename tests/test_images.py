"""One opener for all pictures: what it takes, what it refuses before anything is decoded, and that nothing else happens."""

from __future__ import annotations

import io
import os
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageSequence

from captum_gradeclip import cli, explain, images, scenes
from captum_gradeclip.experiments.data import DataError
from captum_gradeclip.experiments.data.readers import read_class_names, read_picture, read_with_mask

COMMON = {"size": (96, 96), "patch": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
SECONDS, GIGABYTES = 10.0, 1.5


def sample(mode: str = "RGB", width: int = 24, height: int = 18) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 / width, y * 255 / height, 0 * x + 60], axis=-1).astype(np.uint8)
    if mode == "F":
        return Image.fromarray((rgb[..., 0] / 255).astype(np.float32))
    if mode in ("I;16", "I"):
        return Image.fromarray(rgb[..., 0].astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    return Image.fromarray(rgb).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def every_kind() -> Iterator[tuple[str, bytes]]:
    """A small file of each accepted format, in each mode and way of packing that Pillow writes."""
    several: dict[str, object] = {"save_all": True}
    ways: dict[str, list[tuple[str, dict[str, object]]]] = {
        "PNG": [*((mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")), ("RGB", several)],
        "JPEG": [("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})],
        "MPO": [("RGB", several)],
        "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", several)],
        "TIFF": [
            *((mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "YCbCr", "LAB")),
            *(("RGB", {"compression": way}) for way in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
            ("1", {"compression": "group4"}),
            ("RGB", several),
        ],
        "GIF": [("P", {}), ("L", {}), ("P", several)],
        "BMP": [("RGB", {}), ("RGBA", {}), ("L", {}), ("P", {}), ("1", {})],
        "PPM": [("RGB", {}), ("L", {}), ("1", {}), ("I;16", {}), ("F", {})],
    }
    Image.init()
    if "AVIF" in Image.SAVE:
        ways["AVIF"] = [("RGB", {}), ("RGBA", {}), ("RGB", several)]
    for kind, variants in ways.items():
        for number, (mode, options) in enumerate(variants):
            more = {"append_images": [sample("L"), sample("RGB")]} if options is several else {}
            yield f"{kind} {mode} {number}", encoded(sample(mode), kind, **options, **more)
    yield "PPM plain", b"P3\n2 2\n255\n" + b" ".join(b"%d" % value for value in range(0, 240, 20))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        yield f"{kind} turned", encoded(sample(), kind, exif=exif)
    # A run-length bitmap, which Pillow does not write: four rows of four pixels.
    rows = b"".join(bytes([4, value, 0, 0]) for value in range(4)) + b"\0\1"
    palette = b"".join(bytes([value, value, value, 0]) for value in range(256))
    sizes = struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, 8, 1, len(rows), 0, 0, 256, 0)
    yield "BMP run-length", b"BM" + struct.pack("<IHHI", 54 + 1024 + len(rows), 0, 0, 54 + 1024) + sizes + palette + rows


FILES = dict(every_kind())


@pytest.mark.parametrize("name", FILES)
def test_each_accepted_kind_of_file(tmp_path: Path, name: str) -> None:
    if name.startswith("TIFF YCbCr"):  # Pillow 12 writes a file of this mode that it cannot read itself
        try:
            Image.open(io.BytesIO(FILES[name])).load()
        except OSError as error:
            pytest.skip(f"Pillow {PIL.__version__}: {error}")
    (tmp_path / "picture").write_bytes(FILES[name])
    got = images.read(tmp_path / "picture")
    assert got.mode == "RGB" and got.format is None
    if "plain" in name or "run-length" in name:
        assert got.width in (2, 4)
        return
    expected = sample().getchannel("R") if re.search(r" (I;16|I|F) ", name) else sample("L")
    if "turned" in name:
        expected = expected.transpose(Image.Transpose.ROTATE_270)
    assert got.size == expected.size
    alike = np.corrcoef(np.asarray(got.convert("L")).ravel(), np.asarray(expected).ravel())[0, 1]
    assert alike > (0.3 if " 1 " in name else 0.97)  # one bit for each pixel can only scatter them


def test_the_first_of_several_pictures(tmp_path: Path) -> None:
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        first, second = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
        first.save(tmp_path / "several", kind, save_all=True, append_images=[second])
        assert len(list(ImageSequence.Iterator(Image.open(tmp_path / "several")))) == 2
        red, _, blue = images.read(tmp_path / "several").getpixel((4, 4))
        assert red > 200 > 60 > blue


@pytest.mark.parametrize(
    "kind", ["DDS", "ICO", "TGA", "PCX", "SGI", "EPS", "JPEG2000", "MSP", "IM", "ICNS", "PDF", "XBM", "BLP"]
)
def test_other_formats_are_not_decoded_whatever_their_name(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    file = tmp_path / "photo.jpg"
    mode = {"MSP": "1", "XBM": "1", "BLP": "P"}.get(kind, "RGB")
    sample(mode, 32, 32).save(file, kind)

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("os.system", started)
    with pytest.raises(ValueError, match=r"'.*photo\.jpg' is not a picture that can be read \(PNG, JPEG"):
        images.read(file)
    if kind != "PDF":  # which Pillow writes only
        lazy = Image.open(file)
        for call in (images.to_rgb, lambda image: images.prepare(image, **COMMON)):
            with pytest.raises(ValueError, match=f"image: a file of the format {kind} is not decoded here"):
                call(lazy)


@pytest.fixture(scope="module")
def loaded() -> tuple[torch.nn.Module, object]:
    model, _, tokenizer = scenes.load()
    return model, tokenizer


def test_pictures_that_are_given_as_such_meet_the_same_bounds(
    tmp_path: Path, loaded: tuple[torch.nn.Module, object]
) -> None:
    model, tokenizer = loaded
    sample().save(tmp_path / "a.eps")
    sample(width=200, height=200).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    preprocess = scenes.preprocess()
    for given_, message in (
        (Image.open(tmp_path / "a.eps"), "format EPS is not decoded here"),
        (Image.open(tmp_path / "cut.jpg"), "cut off or broken"),
        (Image.new("1", (1, 60_000)), "100 times as long as wide"),
        (Image.new("1", (2, 640)), "100 times as long as wide"),
        (Image.new("1", (13_000, 13_000)), "more than 50,000,000"),
        (np.zeros((640, 2, 3), dtype=np.uint8), "100 times as long as wide"),
        (torch.zeros(1, 1).expand(3, 13_000, 13_000), "more than 32,768 patches of 8"),
        (tmp_path / "a.eps", "is not a picture that can be read"),
    ):
        for way in ("squash", "crop", "keep", preprocess):
            with pytest.raises(ValueError, match="^images: .*" + message):
                explain(model, given_, "a star", tokenizer, preprocess=way)
    found = explain(model, Image.open(tmp_path / "whole.jpg"), "a star", tokenizer)
    assert found.maps.shape == (1, 1, 12, 12)


@contextmanager
def bounded(gigabytes: float = GIGABYTES, seconds: float = SECONDS) -> Iterator[None]:
    """Fails if what is done within it takes long, or much more memory than the process has already."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = memory("VmRSS"), time.monotonic()
    yield
    assert time.monotonic() - started < seconds
    assert memory("VmHWM") - before < gigabytes


def memory(what: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 2**20


def png(width: int, height: int, depth: int = 1, kind: int = 0, rows: bytes = b"") -> bytes:
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(width: int, height: int, **tags: int) -> bytes:
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 64}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value & 0xFFFFFFFF) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(entries)) + body + bytes(4)


BOMBS = {
    "png of one bit": png(13_000, 13_000),
    "png of many pixels": png(2**31 - 1, 2**31 - 1, 16, 6),
    "png of one row": png(10_000_000, 1),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0;",
    "bmp": b"BM"
    + struct.pack("<IHHI", 99, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    "bmp upside down": b"BM"
    + struct.pack("<IHHI", 99, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 50_000, -50_000, 1, 1, 0, 0, 0, 0, 0, 0),
    "bmp of no pixels": b"BM"
    + struct.pack("<IHHI", 99, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0),
    "bmp with a header of its own": b"BM" + struct.pack("<IHHII", 99, 0, 0, 54, 2**31),
    "ppm": b"P6\n1000000000 1000000000\n255\n\0\0\0",
    "ppm of digits": b"P6\n" + b"9" * 5000 + b" 1\n255\n",
    "ppm in plain numbers": b"P3\n30000 30000\n255\n1 2 3",
    "pfm": b"PF\n100000 100000\n-1.0\n",
    "pbm": b"P1\n40000 40000\n0 1",
    "tiff": tiff(2**31, 2**31),
    "tiff of one strip": tiff(100_000, 100_000),
    "tiff with many values": tiff(16, 16, t273=2**31, t279=2**32 - 1),
    "tiff with large tiles": tiff(16, 16, t322=2**31 - 16, t323=2**31 - 16, t324=8, t325=64),
    "tiff with many samples": tiff(7000, 7000, t277=65535),
    "webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xffVP8 \0\0\0\0",
    "nothing": b"",
    "dds with unknown pixels": b"DDS "
    + struct.pack("<II", 124, 0)
    + bytes(68)
    + struct.pack("<II", 32, 0x400000)
    + bytes(44),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(x) pop\n%%EOF\n",
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_small_files_of_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path, name: str) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(BOMBS[name])
    with bounded(gigabytes=0.2, seconds=3):
        with pytest.raises(ValueError, match=r"^path: '.*photo\.png'") as error:
            images.read(file)
        with pytest.raises(DataError, match=r"photo\.png"):
            read_picture(file)
        sample().save(tmp_path / "good.png")
        with pytest.raises(DataError, match=r"photo\.png: the mask cannot be read"):
            read_with_mask(tmp_path / "good.png", file)
    assert len(str(error.value).splitlines()) == 1


def test_a_jpeg_of_many_passes_is_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "\xff\xda" * 500  # the same bytes where they begin no pass
    content = encoded(sample(), "JPEG", progressive=True, exif=exif)
    (tmp_path / "photo.jpg").write_bytes(content)
    assert images.read(tmp_path / "photo.jpg").size == (24, 18)
    last, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    (tmp_path / "photo.jpg").write_bytes(content[:end] + content[last:end] * 20_000 + content[end:])
    with bounded(gigabytes=0.2, seconds=1), pytest.raises(ValueError, match="JPEG of more than 100 passes"):
        images.read(tmp_path / "photo.jpg")


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "terminal", "sparse"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, link: bool) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    file = Path({"device": "/dev/zero", "terminal": "/dev/tty"}.get(kind, "photo.png"))
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(file))
    elif kind == "folder":
        file.mkdir()
    elif kind == "sparse":
        with file.open("wb") as content:
            content.write(b"RIFF\0\0\0\0WEBPVP8 ")
            content.truncate(2**40)
    if link:
        Path("link.png").symlink_to(file)
        file = Path("link.png")
    with bounded(gigabytes=0.2, seconds=1), pytest.raises(ValueError, match=r"it is no file but a|more than 536,870,912"):
        images.read(file)
    if kind != "sparse":
        with pytest.raises(DataError, match="expected a file"):
            read_class_names([], file)


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "photo.png")
    sample().save(tmp_path / "before.png")
    before = os.stat(tmp_path / "before.png")
    monkeypatch.setattr(images.os, "stat", lambda _: before)  # what was seen is gone when it is opened
    with pytest.raises(ValueError, match="a pipe"):
        images.read(tmp_path / "photo.png")


def test_names_of_no_file(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    for path in (tmp_path / "dangling.png", tmp_path / "missing.png", ""):
        with pytest.raises(FileNotFoundError, match="path: there is no file"):
            images.read(path)
    for path in (tmp_path / "round.png", "a\0b", "x" * 5000, tmp_path / ("y" * 300), f"{__file__}/a.png"):
        with pytest.raises(ValueError, match="path: ") as error:
            images.read(path)
        assert len(str(error.value)) < 300
    for wrong in (3, None, b"abc" and 1.5):
        with pytest.raises(TypeError):
            images.read(wrong)  # type: ignore[arg-type]


def test_premultiplied_and_transparent_colors_lie_on_white() -> None:
    for mode in ("La", "RGBa", "PA"):
        base = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
        shown = base.convert("LA").convert("La") if mode == "La" else base.convert(mode) if mode == "RGBa" else None
        if shown is not None:
            assert images.to_rgb(shown).getpixel((0, 0)) == (255, 255, 255)
    half = images.to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 128)).convert("RGBa"))
    assert half.getpixel((0, 0)) == (255, 127, 127)


def test_exif_that_cannot_be_understood_turns_nothing(tmp_path: Path) -> None:
    for orientation in (0, 9, 65535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        sample().save(tmp_path / "odd.jpg", exif=exif)
        assert images.read(tmp_path / "odd.jpg").size == (24, 18)
    sample().save(tmp_path / "odd.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(40))
    assert images.read(tmp_path / "odd.jpg").size == (24, 18)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        sample().save(tmp_path / "turned.png", exif=exif)
        turned = images.read(tmp_path / "turned.png")
        assert images.orientation(turned) == 1 and images.upright(turned) is turned
        from PIL import ImageOps

        assert turned.tobytes() == ImageOps.exif_transpose(Image.open(tmp_path / "turned.png")).convert("RGB").tobytes()


def test_a_turned_picture_and_a_mask_that_is_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    picture, mask = sample(width=20, height=20), Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20))
    picture.save(tmp_path / "turned.png", exif=exif)
    picture.save(tmp_path / "plain.png")
    mask.save(tmp_path / "mask.png")
    mask.save(tmp_path / "turned-mask.png", exif=exif)
    for one, other in (("turned.png", "mask.png"), ("plain.png", "turned-mask.png")):
        with pytest.raises(DataError, match="EXIF data of its picture state the orientation"):
            read_with_mask(tmp_path / one, tmp_path / other)
    upside_down = read_with_mask(tmp_path / "turned.png", tmp_path / "turned-mask.png")
    plain = read_with_mask(tmp_path / "plain.png", tmp_path / "mask.png")
    assert (upside_down[1] == plain[1][::-1, ::-1]).all()
    assert (np.asarray(upside_down[0]) == np.asarray(plain[0])[::-1, ::-1]).all()
    sample("F").save(tmp_path / "soft.tiff")
    with pytest.raises(DataError, match="expected whole numbers"):
        read_with_mask(tmp_path / "plain.png", tmp_path / "soft.tiff")


def test_broken_and_hostile_samples_are_skipped(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("red circle", "blue star"):
        (root / name).mkdir(parents=True)
        for number in range(2):
            sample(width=64, height=64).save(root / name / f"{number}.png")
    os.mkfifo(root / "red circle" / "a.png")
    for number, bomb in enumerate(BOMBS.values()):
        (root / "blue star" / f"bomb-{number}.png").write_bytes(bomb)
    sample(width=640, height=2).save(root / "blue star" / "long.png")
    command = ["benchmark", "faithfulness", "--data", "folders", "--root", str(root), "--methods", "RawAttention"]
    assert cli.main([*command, "--out", str(tmp_path / "stops")]) == 2
    with bounded():
        assert cli.main([*command, "--skip-broken", "--out", str(tmp_path / "skips")]) == 0


def test_a_long_picture_makes_a_figure_of_bounded_size(tmp_path: Path, loaded: tuple[torch.nn.Module, object]) -> None:
    model, tokenizer = loaded
    with bounded(gigabytes=1):
        found = explain(model, Image.new("RGB", (12, 1200)), "a star", tokenizer, preprocess="squash")
        found.save(tmp_path)
    assert max(Image.open(tmp_path / "strip.png").size) < 4000


POSITION = st.one_of(st.floats(0, 1), st.floats(0, 0.15))
"""Where a file is changed, as a share of its length; most formats say in their first bytes what to do."""
VALUES = (
    b"\0",
    b"\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\x80\0",
    b"\x20\0\0\0",
    b"9",
)
CHANGE = st.tuples(
    st.sampled_from(("write", "insert", "delete", "flip", "copy")),
    POSITION,
    POSITION,
    st.one_of(st.sampled_from(VALUES), st.binary(min_size=1, max_size=8)),
)
CHANGES = st.lists(CHANGE, min_size=1, max_size=5)


def mutated(content: bytes, changes: list[tuple[str, float, float, bytes]], cut: float) -> bytes:
    data = bytearray(content)
    for what, here, there, value in changes:
        a, b = (int(place * max(len(data) - 1, 0)) for place in (here, there))
        if what == "write":
            data[a : a + len(value)] = value
        elif what == "insert":
            data[a:a] = value
        elif what == "delete":
            del data[a : a + len(value)]
        elif what == "flip" and data:
            data[a] ^= 1 << value[0] % 8
        elif what == "copy":
            data[a : a + 64] = data[b : b + 64]
    return bytes(data[: int(len(data) * cut)] if cut < 0.9 else data)


def mended_png(data: bytes) -> bytes:
    """With the checksums of its parts put right, so that a changed PNG gets past the first of them."""
    out, place = bytearray(data), 8
    while place + 12 <= len(out):
        (length,) = struct.unpack(">I", out[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[place + 4 : end]))
        place = end + 4
    return bytes(out)


def attempt(content: bytes, place: Path) -> str:
    """Reads a file of this content; fails if anything but a picture or one clear error comes of it."""
    place.write_bytes(content)
    with bounded():
        try:
            image = images.read(place)
        except ValueError as error:
            said = str(error)
            assert said.startswith("path: ") and "picture.bin" in said and len(said.splitlines()) == 1 and len(said) < 700
            return "refused"
    assert image.mode == "RGB" and image.width * image.height <= images.MAX_PIXELS
    return "read"


def _mutations(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    chosen = settings(max_examples=examples, derandomize=True, database=None)
    found = given(name=st.sampled_from(sorted(FILES)), changes=CHANGES, cut=st.floats(0, 1.5), mend=st.booleans())
    return lambda test: chosen(found(test))


def _try(place: Path, name: str, changes: list[tuple[str, float, float, bytes]], cut: float, mend: bool) -> str:
    content = mutated(FILES[name], changes, cut)
    return attempt(mended_png(content) if mend and name.startswith("PNG") else content, place / "picture.bin")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@pytest.mark.filterwarnings("ignore")
@_mutations(400)
def test_a_changed_file_is_a_picture_or_a_clear_error(
    place: Path, name: str, changes: list[tuple[str, float, float, bytes]], cut: float, mend: bool
) -> None:
    _try(place, name, changes, cut, mend)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@_mutations(20_000)
def test_many_changed_files_are_pictures_or_clear_errors(
    place: Path, name: str, changes: list[tuple[str, float, float, bytes]], cut: float, mend: bool
) -> None:
    _try(place, name, changes, cut, mend)
