"""Hostile uploads: each is refused in a line that says what to do and shows no path of the server."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from captum_gradeclip.app import Limits
from captum_gradeclip.app.picture import scene_picture, texts_about, uploaded

LIMITS = Limits()


def png_of(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, with next to no pixels in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n%%EOF\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
HOSTILE = {
    "60-megapixels.png": (png_of(10_000, 6_000), "25,000,000"),
    "bomb.png": (png_of(2**31 - 1, 2**31 - 1), "more than"),
    "long.png": (png_of(20_000, 100), "100 times as long as wide"),
    "text.jpg": (b"just some words\n" * 50, "is not a picture that can be read"),
    "script.svg": (SVG, "is not a picture that can be read"),
    "script.png": (SVG, "is not a picture that can be read"),
    "post.eps": (EPS, "is not a picture that can be read"),
    "post.jpg": (EPS, "is not a picture that can be read"),
    "empty.png": (b"", "is not a picture that can be read"),
    "cut.png": (png_of(100, 100), "cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    content, said = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^picture: ") as refused:
        uploaded(tmp_path / name, LIMITS)
    message = str(refused.value)
    assert said in message and name in message
    assert str(tmp_path) not in message and "\n" not in message and len(message) < 500


def test_a_file_over_the_limit_is_not_opened(tmp_path: Path) -> None:
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(300_000_000)  # a hole that takes no room
    with pytest.raises(ValueError, match=r"large.jpg has 286\.1 megabytes, more than the 20 that this page takes; make it"):
        uploaded(tmp_path / "large.jpg", LIMITS)


def test_pictures_within_the_limits_are_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (60, 40), (255, 0, 0, 0)).save(tmp_path / "a.png", exif=exif)
    image = uploaded(tmp_path / "a.png", Limits(megapixels=0.0024))
    assert image.size == (40, 60) and image.mode == "RGB" and image.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match="2,399"):
        uploaded(tmp_path / "a.png", Limits(megapixels=0.002399))


def test_scenes_by_seed() -> None:
    assert scene_picture(5).tobytes() == scene_picture(5).tobytes() != scene_picture(6).tobytes()
    for seed in range(20):
        texts = texts_about(seed)
        assert len(texts) == len(set(texts)) <= Limits().texts
