"""Data of one's own: CSV files and CLEVR's scenes in their real formats, and errors that name file, line and column."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import scenes
from captum_gradeclip.experiments.chunks import checksum
from captum_gradeclip.experiments.data import (
    CaptionRows,
    Clevr,
    DataArguments,
    DataError,
    LeftOutError,
    RegionRows,
    SceneRegions,
    SceneTriples,
    TripleRows,
    make_dataset,
)

TRIPLES = "image,base,matched,mismatched,matched_phrase,mismatched_phrase,kind\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        Image.new("RGB", (8, 6), "red").save(tmp_path / f"{name}.png")
        mask = np.zeros((6, 8), dtype=np.uint8)
        mask[:3] = 255
        Image.fromarray(mask if name == "a" else 255 - mask).save(tmp_path / f"{name}-mask.png")
    Image.new("L", (3, 3), 255).save(tmp_path / "small-mask.png")
    Image.new("L", (8, 6)).save(tmp_path / "empty-mask.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "own.csv"
    file.write_bytes(text.encode())
    return file


def test_triples(folder: Path) -> None:
    rows = 'a.png,sheep,stand,jump,"stand on sheep, now",jump over sheep,verb + noun\n\nb.png,horse,young,white,young horse,'
    data = TripleRows(write(folder, "\ufeff" + TRIPLES + rows + "white horse,adjective + noun\n"))
    assert len(data) == 2 and data[0].triple and data[1].triple and data[1].index == 1
    assert data[0].triple.matched_phrase == "stand on sheep, now" and data[0].triple.kind == "verb + noun"
    assert data[1].id == "line 4: b.png" and data[1].image.size == (8, 6)


def test_captions_of_one_picture_belong_together(folder: Path) -> None:
    data = CaptionRows(write(folder, "Caption;Image;note\r\nA dog;a.png;x\r\nA cat;b.png;\r\nTwo dogs;a.png;\r\n"))
    assert [one.captions for one in (data[0], data[1])] == [("A dog", "Two dogs"), ("A cat",)]
    elsewhere = CaptionRows(write(folder, "image\tcaption\na.png\tA dog\n"), folder)
    assert elsewhere[0].captions == ("A dog",)


def test_regions_of_one_picture(folder: Path) -> None:
    rows = "a.png,red,color,a-mask.png\na.png,blue,color,b-mask.png\na.png,ball,shape,a-mask.png\n"
    (sample,) = RegionRows(write(folder, "image,text,kind,mask\n" + rows))
    red, blue, ball = sample.regions
    assert int(red.mask.sum()) == 24 and red.others is not None and torch.equal(red.others, blue.mask)
    assert ball.kind == "shape" and ball.others is None


BROKEN: dict[str, tuple[type, str, str]] = {
    "missing column": (CaptionRows, "image,text\na.png,b\n", r"own.csv: line 1: expected the columns .* caption is missing"),
    "no rows": (
        CaptionRows,
        "image,caption\n\n",
        r"own.csv: line \d: expected rows under the columns image, caption, got none",
    ),
    "nothing": (CaptionRows, "", r"own.csv: line 1: expected rows"),
    "too few cells": (CaptionRows, "image,caption\na.png,x\nb.png\n", r"own.csv: line 3: expected 2 cells .*, got 1"),
    "too many cells": (CaptionRows, "image,caption\na.png,x,y\n", r"own.csv: line 2: expected 2 cells .*, got 3"),
    "empty cell": (
        CaptionRows,
        "image,caption\na.png, \n",
        r"own.csv: line 2, column 2 \(caption\): expected a text, got not",
    ),
    "after a cell of two lines": (
        CaptionRows,
        'image,caption\na.png,"x\ny"\nb.png,\n',
        r"own.csv: line 4, column 2 \(caption\)",
    ),
    "open quote": (CaptionRows, 'image,caption\na.png,"x\n', r"own.csv: line 2: it is no CSV"),
    "no picture": (CaptionRows, "image,caption\nc.png,x\n", r"own.csv: line 2, column 1 \(image\): there is no file"),
    "broken picture": (CaptionRows, "image,caption\nbroken.png,x\n", r"own.csv: line 2, column 1 \(image\): .*broken.png"),
    "no mask": (RegionRows, "image,text,kind,mask\na.png,x,y,z.png\n", r"own.csv: line 2, column 4 \(mask\): there is no"),
    "broken mask": (
        RegionRows,
        "image,text,kind,mask\na.png,x,y,broken.png\n",
        r"own.csv: line 2, column 4 \(mask\): .*mask c",
    ),
    "other size": (
        RegionRows,
        "image,text,kind,mask\na.png,x,y,small-mask.png\n",
        r"column 4 \(mask\): expected the picture's 8 x 6",
    ),
    "empty mask": (
        RegionRows,
        "image,text,kind,mask\na.png,x,y,empty-mask.png\n",
        r"line 2, column 4 \(mask\): .* without any",
    ),
    "no phrase": (
        TripleRows,
        TRIPLES + "a.png,x,y,z,,v,w\n",
        r"own.csv: line 2, column 5 \(matched_phrase\): expected a text",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_name_file_line_and_column(folder: Path, name: str) -> None:
    kind, text, message = BROKEN[name]
    with pytest.raises(DataError, match=message):
        kind(write(folder, text))[0]


def test_other_files(folder: Path) -> None:
    with pytest.raises(DataError, match="nothing.csv: No such file"):
        CaptionRows(folder / "nothing.csv")
    (folder / "latin.csv").write_bytes("image,caption\na.png,Bär\n".encode("latin-1"))
    with pytest.raises(DataError, match="latin.csv: expected text in UTF-8"):
        CaptionRows(folder / "latin.csv")
    with pytest.raises(DataError, match="annotations: the data set 'csv' needs it"):
        make_dataset("csv", DataArguments(), {"csv": CaptionRows})


def thing(**changes: Any) -> dict[str, Any]:
    """An object as CLEVR's files have it."""
    usual = {
        "color": "red",
        "size": "large",
        "shape": "sphere",
        "material": "metal",
        "rotation": 12.5,
        "3d_coords": [1.0, 2.0, 0.7],
        "pixel_coords": [100, 80, 11.2],
    }
    return {name: one for name, one in {**usual, **changes}.items() if one is not ...}


def clevr(folder: Path, *things: dict[str, Any], change: Callable[[str], str] = str) -> Path:
    """A miniature of CLEVR in its format, with the masks of its objects."""
    scene = {
        "image_index": 0,
        "objects": list(things),
        "relationships": {"left": [[] for _ in things]},
        "image_filename": "CLEVR_val_000000.png",
        "split": "val",
        "directions": {"left": [-0.6, -0.7, 0.0]},
    }
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    Image.new("RGB", (320, 160)).save(folder / "images" / "CLEVR_val_000000.png")
    numbers = np.zeros((160, 320), dtype=np.uint8)
    for number, one in enumerate(things, 1):
        x, y = (int(value) for value in (one.get("pixel_coords") or [0, 0])[:2])
        numbers[y - 10 : y + 10, x - 10 : x + 10] = number
    Image.fromarray(numbers).save(folder / "masks" / "CLEVR_val_000000.png")
    file = folder / "CLEVR_val_scenes.json"
    file.write_text(change(json.dumps({"info": {"split": "val"}, "scenes": [scene]}, indent=1)))
    return file


def test_clevr(tmp_path: Path) -> None:
    things = [
        thing(),
        thing(color="gray", size="small", material="rubber", pixel_coords=[220, 40, 9.0]),
        thing(shape="cube", color="red", size="small", pixel_coords=[290, 120, 8.0]),
    ]
    data = Clevr(clevr(tmp_path, *things), tmp_path)
    regions = {(one.kind, one.text): one for one in data[0].regions}
    assert [text for kind, text in regions if kind in ("material", "size", "location")] == [
        *("matte", "metal"),
        *("small", "big"),
        *("left", "right"),
    ]
    red, matte, right = regions["color", "red"], regions["material", "matte"], regions["location", "right"]
    assert int(red.mask.sum()) == 800 and red.others is not None and int(red.others.sum()) == 400
    assert (
        int(matte.mask.sum()) == 400 and bool(matte.mask[40, 220]) and bool(right.mask[120, 290]) and not right.mask[80, 100]
    )
    assert int(regions["size + shape", "big sphere"].mask.sum()) == 400 and ("location + color", "left red thing") in regions
    for text, kind in (("sphere", "shape"), ("left sphere", "location + shape"), ("left", "location")):
        one = regions[f"left thing: {kind}", text]
        assert bool(one.mask[80, 100]) and one.others is not None and bool(one.others[40, 220]) and not one.others[120, 290]


@pytest.mark.parametrize(
    ("things", "message"),
    [
        (
            [thing(color="orange")],
            r"line 9, column 6 \(scenes\[0\].objects\[0\].color\): expected one of gray, .* got 'orange'",
        ),
        ([thing(shape=...)], r"line \d+, column \d+ \(scenes\[0\].objects\[0\].shape\): expected one of .*, got nothing"),
        ([thing(pixel_coords="here")], r"\(scenes\[0\].objects\[0\].pixel_coords\): expected the center .*, got 'here'"),
        (
            [thing(), thing(pixel_coords=[4])],
            r"\(scenes\[0\].objects\[1\].pixel_coords\): expected \[x, y, depth\], got \[4\]",
        ),
        ([thing(), thing(pixel_coords=["1", 2, 3])], r"\(scenes\[0\].objects\[1\].pixel_coords\[0\]\): expected a number"),
    ],
)
def test_malformed_clevr(tmp_path: Path, things: list[dict[str, Any]], message: str) -> None:
    for one in things:
        one.setdefault("pixel_coords", [50, 50, 1])
    file = clevr(tmp_path, thing())
    scene = {"image_filename": "CLEVR_val_000000.png", "objects": things}
    text = json.dumps({"info": {}, "scenes": [scene]}, indent=1)
    file.write_text(text)
    with pytest.raises(
        DataError, match="CLEVR_val_scenes.json: .*" + message.replace("line 9, column 6", r"line \d+, column \d+")
    ):
        Clevr(file, tmp_path)


def test_the_place_of_an_error_is_where_an_editor_finds_it(tmp_path: Path) -> None:
    file = clevr(tmp_path, thing(), thing(material="wood"))
    with pytest.raises(DataError) as told:
        Clevr(file, tmp_path)
    lines = file.read_text().splitlines()
    number = int(str(told.value).partition("line ")[2].partition(",")[0])
    column = int(str(told.value).partition("column ")[2].partition(" ")[0])
    # The object that holds the wrong value begins there.
    assert lines[number - 1][column - 1 :].startswith("{") and "wood" in "".join(lines[number : number + 9])
    assert "wood" not in "".join(lines[number - 9 : number])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"scenes": [}', r"it is no JSON, it may be cut off: .*line 1 column 13"),
        ("[]", r"line 1, column 1 \(the whole\): expected an object with scenes"),
        ("{}", r"line 1, column 1 \(scenes\): expected a list of scenes, got nothing"),
        ('{"info": 1,\n "scenes": []}', r"line 2, column 12 \(scenes\): expected at least one scene"),
        ('{"scenes": [\n  {"objects": []}]}', r"line 2, column 3 \(scenes\[0\].image_filename\): expected the name"),
        ('{"scenes": [\n  7]}', r"line 1, column 12 \(scenes\[0\]\): expected a scene, got 7"),
        (
            '{"scenes": [{"image_filename": "a",\n"objects": [true]}]}',
            r"line 2, column 12 .*objects\[0\]\): expected an object",
        ),
    ],
)
def test_files_that_are_not_clevr(tmp_path: Path, text: str, message: str) -> None:
    file = clevr(tmp_path, thing())
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        Clevr(file, tmp_path)


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    data = Clevr(clevr(tmp_path, thing()), tmp_path)
    mask = tmp_path / "masks" / "CLEVR_val_000000.png"
    Image.new("L", (320, 160), 2).save(mask)
    with pytest.raises(DataError, match="CLEVR_val_000000.png: expected 0, or the number of one of 1 objects from 1, got 2"):
        data[0]
    Image.new("L", (20, 10)).save(mask)
    with pytest.raises(DataError, match="expected one number for each of 320 x 160 pixels"):
        data[0]
    mask.unlink()
    with pytest.raises(DataError, match="the mask cannot be read"):
        data[0]


def test_triples_of_scenes_are_true() -> None:
    data = SceneTriples(40)
    kinds, left_out = [], 0
    for index in range(len(data)):
        scene = scenes.SceneDataset(40, "evaluation", 0, counts=(2, 3, 4)).scene(index // 2)
        try:
            triple = data[index].triple
        except LeftOutError:
            left_out += 1
            continue
        assert triple is not None
        kinds.append(triple.kind)
        colors, shapes = {one.colour for one in scene.things}, {one.shape for one in scene.things}
        assert triple.base in shapes and triple.base in triple.matched_phrase and triple.matched in triple.matched_phrase
        if triple.kind == "adjective + noun":
            assert (triple.matched, triple.base) in {(one.colour, one.shape) for one in scene.things}
            assert triple.mismatched not in colors
        else:
            assert {triple.matched, triple.mismatched} in ({"left", "right"}, {"above", "below"})
    assert kinds.count("adjective + noun") == 40 and kinds.count("relation + noun") == 40 - left_out > 20


def test_regions_of_scenes_lie_on_their_things() -> None:
    data = SceneRegions(30)
    for index in range(30):
        item = scenes.SceneDataset(30, "evaluation", 0, counts=(2, 3, 4))[index]
        things = item.masks.any(dim=0)
        for region in data[index].regions:
            rest = torch.zeros_like(things) if region.others is None else region.others
            assert region.mask.any() and not (region.mask & ~things).any() and not (region.mask & rest).any()
            if not region.kind.startswith("left thing"):
                assert torch.equal(region.mask | rest, things)
    kinds = {region.kind for index in range(30) for region in data[index].regions}
    assert {"color", "shape", "material", "size", "location", "size + shape", "location + color"} < kinds
    assert "left thing: location + shape" in kinds


def test_the_checksum_knows_regions_and_triples(folder: Path) -> None:
    rows = "image,text,kind,mask\na.png,red,color,{0}-mask.png\n"
    sums = [checksum(RegionRows(write(folder, rows.format(name)))[0]) for name in ("a", "b", "a")]
    assert sums[0] == sums[2] != sums[1]
    sums = [checksum(TripleRows(write(folder, f"{TRIPLES}a.png,x,{word},z,u,v,w\n"))[0]) for word in ("y", "t")]
    assert sums[0] != sums[1]
    assert SceneTriples(3).about != SceneTriples(3, seed=1).about
