"""Pairs in tables and shards, and the order in which they come."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from captum_gradeclip.experiments.data.base import DataError
from captum_gradeclip.tuning import ScenePairs, ShardPairs, TablePairs
from captum_gradeclip.tuning.batches import Order


def picture(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(file, "png")
    return file.getvalue()


def write_shard(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_table_has_paths_and_captions(tmp_path: Path, separator: str) -> None:
    (tmp_path / "a.png").write_bytes(picture("red"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    rows = [("title", "filepath"), ("a red sheet", "a.png"), ("a broken one", "b.png"), ("", "a.png"), ("gone", "c.png")]
    file = tmp_path / "pairs.csv"
    file.write_text("".join(separator.join(row) + "\n" for row in rows))
    pairs = TablePairs(file, path="filepath", caption="title")
    assert len(pairs) == 4 and (pairs[0].id, pairs[0].caption) == ("a.png", "a red sheet")
    assert pairs[0].image.getpixel((0, 0)) == (255, 0, 0)
    for index, message in ((1, "not a picture"), (2, "expected a text"), (3, "there is no file")):
        with pytest.raises((ValueError, OSError), match=message):
            pairs[index]
    with pytest.raises(DataError, match="path, caption is missing"):
        TablePairs(file)


def test_shards_have_pictures_with_texts_of_their_names(tmp_path: Path) -> None:
    first = {"a/0.txt": b"a red sheet\n", "a/0.png": picture("red"), "a/0.meta.json": b"{}", "note": b"hello"}
    second = {
        "1.PNG": picture("blue"),
        "1.json": json.dumps({"caption": "a blue sheet"}).encode(),
        "2.png": picture("green"),
        "3.png": b"no picture",
        "3.txt": b"a broken one",
        "4.txt": b"a text without a picture",
        "5.png": picture("green"),
        "5.txt": b"  ",
    }
    for number, members in enumerate((first, second), start=9):
        write_shard(tmp_path / f"s-{number:02d}.tar", members)
    pairs = ShardPairs(str(tmp_path / "s-{09..10}.tar"))
    assert [(pair.id, pair.caption) for pair in (pairs[0], pairs[1])] == [("a/0", "a red sheet"), ("1", "a blue sheet")]
    assert pairs[1].image.getpixel((0, 0)) == (0, 0, 255) and len(pairs) == 5
    for index, message in ((2, "2: it has no caption"), (3, "image: it cannot be read"), (4, "5: its caption is empty")):
        with pytest.raises(ValueError, match=message):
            pairs[index]


def test_shards_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar file")
    write_shard(tmp_path / "empty.tar", {"a.txt": b"a text"})
    for name, message in (("text.tar", "cannot be read"), ("none.tar", "cannot be read"), ("empty.tar", "got none")):
        with pytest.raises(DataError, match=f"shards: .*{message}"):
            ShardPairs(tmp_path / name)


def test_each_pass_over_the_data_is_a_permutation_of_its_own() -> None:
    order = Order(10, 3)
    passes = [[order[place].index for place in range(start, start + 10)] for start in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes) and len({tuple(one) for one in passes}) == 3
    assert [Order(10, 3)[place].index for place in range(10, 20)] == passes[1]
    assert [Order(10, 4)[place].index for place in range(10)] != passes[0]


def test_scenes_come_with_captions_that_are_true_of_them() -> None:
    pairs = ScenePairs(2, split="validation", size=48)
    assert pairs[1].image.size == (48, 48) and pairs[1].id == "validation-0-000001"
    assert pairs[1].caption == ScenePairs(9, split="validation", size=48)[1].caption
