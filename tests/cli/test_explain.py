"""Many pictures from the shell: what is explained, what is kept, what is told of those that fail."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import adapters, cli, explain, images, index, scenes
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.cli import common, explain as command
from captum_gradeclip.cli.common import in_flags
from captum_gradeclip.cli.main import build_parser

from ..test_files import contents

Told = pytest.CaptureFixture[str]


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A folder of three pictures, one of them turned by its EXIF data, with files that are none beside them."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for number, name in enumerate(("One.PNG", "two.jpg", "three.jpg")):
        image = scenes.draw(scenes.sample_scene(0, number, "evaluation", counts=(3,)), 120)[0].resize((150, 120))
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "three.jpg" else 1
        image.save(folder / name, exif=exif)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> int:
    return cli.main(["explain", *map(str, arguments)])


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "explanation.json").read_text())
    return found


TEXTS = ("--text", "a red circle", "--text", "something blue")


def test_a_page_for_each_picture(shots: Path, tmp_path: Path, capsys: Told) -> None:
    out = tmp_path / "out"
    assert run(shots / "One.PNG", shots / "two.jpg", *TEXTS, "--html", "--out", out) == 0
    for name in ("one", "two"):
        page = (out / name / "explanation.html").read_text()
        assert "a red circle" in page and page.count('<button class="gc-word"') == 5 and "://" not in page
        assert f'href="{name}/explanation.html"' in (out / "index.html").read_text() and len(page) < 500_000
        assert {"regions_0", "regions_1"} <= set(np.load(out / name / "maps.npz"))
    before = contents(out / "one")
    assert run(shots / "One.PNG", shots / "two.jpg", *TEXTS, "--html", "--out", out, "--resume") == 0
    assert contents(out / "one") == before and "2 of them by an earlier run" in capsys.readouterr().out
    assert run(shots / "One.PNG", "a red circle", "--out", tmp_path / "plain") == 0
    assert not (tmp_path / "plain" / "explanation.html").exists()


def test_a_folder_becomes_a_folder_of_results_and_an_index(shots: Path, tmp_path: Path, capsys: Told) -> None:
    out = tmp_path / "out"
    assert run(shots, *TEXTS, "--out", out) == 0
    assert {one.name for one in out.iterdir()} == {"one", "two", "three", "index.json", "index.csv", "index.html"}
    assert "3 of 3 pictures were explained" in capsys.readouterr().out
    assert told(out / "three")["size"] == [120, 150]  # upright

    model, _, tokenizer = scenes.load()
    rows = list(csv.DictReader((out / "index.csv").open()))
    assert [row["picture"] for row in rows] == [
        str(shots / name) for name in ("One.PNG",) * 2 + ("three.jpg",) * 2 + ("two.jpg",) * 2
    ]
    for row in rows:
        found = explain(model, images.read(row["picture"]), row["text"], tokenizer)
        assert found.scores is not None and abs(float(row["score"]) - float(found.scores)) < 1e-6 and row["error"] == ""
        assert abs(told(out / row["folder"])["texts"][0]["score"]) > 0

    page = (out / "index.html").read_text()
    assert page.count("<img") == 3 and 'src="three/strip.png"' in page and "http" not in page and "<script" not in page
    assert 'href="three/strip.png"' in page and 'alt=""' not in page


def test_a_page_links_a_pdf_that_it_cannot_show(shots: Path, tmp_path: Path) -> None:
    assert run(shots, *TEXTS, "--format", "pdf", "--out", "out") == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<img" not in page and '<a href="three/strip.pdf">strip.pdf</a>' in page


def test_names_folders_and_patterns_together_mean_each_picture_once(shots: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a red circle\n\n  something blue \n")
    given = (shots / "two.jpg", shots, os.path.join("shots", "*.jpg"))
    assert run(*given, "--texts", "texts.txt", "--text", "a star", "--out", "out") == 0
    found = json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]
    assert [Path(one["picture"]).name for one in found] == ["two.jpg", "One.PNG", "three.jpg"]
    assert [one["text"] for one in found[0]["texts"]] == ["a star", "a red circle", "something blue"]


def test_files_that_fail_are_told_at_the_end(shots: Path, tmp_path: Path, capsys: Told) -> None:
    (shots / "broken.png").write_text("no picture")
    (shots / "cut <b>.jpg").write_bytes((shots / "two.jpg").read_bytes()[:500])
    out = tmp_path / "out"
    assert run(shots, *TEXTS, "--out", out) == 1
    printed = capsys.readouterr()
    assert "3 of 5 pictures were explained" in printed.out
    assert (
        "not explained: " in printed.err
        and "broken.png' is not a picture that can be read" in printed.err
        and "cut <b>.jpg" in printed.err
    )
    found = {Path(one["picture"]).name: one for one in json.loads((out / "index.json").read_text())["pictures"]}
    assert "is not a picture" in found["broken.png"]["error"] and found["broken.png"]["folder"] == ""
    assert "cannot be read" in found["cut <b>.jpg"]["error"] and found["two.jpg"]["error"] == ""
    assert "&lt;b&gt;" in (out / "index.html").read_text() and "<b>" not in (out / "index.html").read_text()


def test_an_error_that_all_pictures_would_meet_ends_the_run(shots: Path, tmp_path: Path, capsys: Told) -> None:
    assert run(shots, *TEXTS, "--layers", "9", "--out", "out") == 2
    assert "--layers: expected 1 to" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_second_run_never_replaces_the_first_one_unasked(shots: Path, tmp_path: Path, capsys: Told) -> None:
    assert run(shots / "two.jpg", "a star") == 0 and run(shots / "two.jpg", "a ring") == 0 and run(shots, *TEXTS) == 0
    assert "are in gradeclip-out-3" in capsys.readouterr().out
    texts = [told(tmp_path / name)["texts"][0]["text"] for name in ("gradeclip-out", "gradeclip-out-2")]
    assert texts == ["a star", "a ring"] and (tmp_path / "gradeclip-out-3" / "index.json").exists()

    before = contents(tmp_path)
    for given in ((shots / "two.jpg", "a cross", "--out", "gradeclip-out"), (shots, *TEXTS, "--out", "gradeclip-out-3")):
        assert run(*given) == 2
        assert "holds results of an earlier run; " in (said := capsys.readouterr().err) and "--overwrite replaces" in said
    assert contents(tmp_path) == before
    assert run(shots / "two.jpg", "a cross", "--out", "gradeclip-out", "--overwrite") == 0
    assert told(tmp_path / "gradeclip-out")["texts"][0]["text"] == "a cross"
    assert run(shots, "--text", "a cross", "--out", "gradeclip-out-3", "--overwrite") == 0
    assert told(tmp_path / "gradeclip-out-3" / "one")["texts"][0]["text"] == "a cross"


def test_resume_explains_what_is_missing_only(
    shots: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shots / "two.jpg").rename(tmp_path / "later.jpg")
    assert run(shots, *TEXTS, "--out", "out") == 0
    (tmp_path / "later.jpg").rename(shots / "two.jpg")
    before, explained = contents(tmp_path / "out"), []
    original = command.explain_inputs

    def counting(loaded: Any, inputs: Any, *more: Any) -> Any:
        explained.extend(name for name, _ in inputs)
        return original(loaded, inputs, *more)

    monkeypatch.setattr(command, "explain_inputs", counting)
    assert run(shots, *TEXTS, "--out", "out", "--resume") == 0
    assert (
        explained == ["two.jpg"] and "3 of 3 pictures were explained, 2 of them by an earlier run" in capsys.readouterr().out
    )
    kept = {name: what for name, what in before.items() if not Path(name).name.startswith("index")}
    assert kept and kept.items() <= contents(tmp_path / "out").items()
    assert len(json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]) == 3

    # What is damaged is made again only where that was asked for.
    (tmp_path / "out" / "one" / "maps.npz").unlink()
    assert run(shots, *TEXTS, "--out", "out", "--resume") == 1
    said = capsys.readouterr().err
    assert "holds results of an earlier run, of another picture or made otherwise; --overwrite replaces them" in said
    for options, named in (
        (["--text", "a star"], "texts"),
        ([*TEXTS, "--layers", "2"], "layers"),
        ([*TEXTS, "--resize", "96"], "resize"),
        ([*TEXTS, "--signed"], "signed"),
        ([*TEXTS, "--against", "a star"], "against"),
        ([*TEXTS, "--format", "pdf"], "figures"),
    ):
        assert run(shots, *options, "--out", "out", "--resume") == 2
        assert f"gradeclip: --resume: the results in 'out' were made otherwise ({named}: there" in capsys.readouterr().err


def test_a_text_rather_than_another(shots: Path, tmp_path: Path, capsys: Told) -> None:
    assert run(shots / "two.jpg", "a red circle", "--against", "a <blue> star", "--signed", "--out", "out") == 0
    assert "over a <blue> star" in " ".join(capsys.readouterr().out.split())
    found = told(tmp_path / "out")
    assert found["options"]["against"] == "a <blue> star"
    model, _, tokenizer = scenes.load()
    both = explain(model, images.read(shots / "two.jpg"), ["a red circle", "a <blue> star"], tokenizer).scores[0].tolist()  # type: ignore[index]
    assert found["texts"][0]["score"] == pytest.approx(both[0] - both[1], abs=1e-5)
    assert "<blue>" not in (tmp_path / "out" / "words.html").read_text()
    assert run(shots / "two.jpg", "a red circle", "--against", "a red circle", "--out", "out2") == 2
    assert "gradeclip: --against: 'a red circle' is among the texts" in capsys.readouterr().err


def test_other_weights_are_not_resumed(shots: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(shots, *TEXTS, "--out", "out") == 0
    model, _, tokenizer = scenes.load()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    monkeypatch.setattr(adapters.loading, "load", lambda *_: Loaded(model, tokenizer))
    assert run(shots, *TEXTS, "--out", "out", "--resume") == 2
    assert "were made otherwise (weights: there" in capsys.readouterr().err


def test_pictures_of_one_name_have_a_folder_each(shots: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.open(shots / "two.jpg").rotate(90).save(tmp_path / "more" / "two.png")
    assert run(shots / "two.jpg", tmp_path / "more" / "two.png", *TEXTS, "--out", "out") == 0
    found = json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]
    folders = [one["folder"] for one in found]
    assert folders[0] == "two" and folders[1].startswith("two-") and len(folders[1]) == 12
    assert found[0]["texts"][0]["score"] != found[1]["texts"][0]["score"]
    # The other way round, and alone, each of them finds its own results.
    assert run(tmp_path / "more" / "two.png", tmp_path / "more", *TEXTS, "--out", "out", "--resume") == 0
    again = json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]
    assert sorted(one["folder"] for one in again) == sorted(folders)


def test_an_interrupt_keeps_what_is_finished(
    shots: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = command.explain_inputs

    def interrupted(loaded: Any, inputs: Any, *more: Any) -> Any:
        if any(name == "two.jpg" for name, _ in inputs):
            raise KeyboardInterrupt
        return original(loaded, inputs, *more)

    monkeypatch.setattr(command, "explain_inputs", interrupted)
    monkeypatch.setattr(command, "_AT_ONCE", 2)
    assert run(shots, *TEXTS, "--out", "out") == 130
    (said,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("gradeclip: ")]
    assert said == (
        "gradeclip: interrupted; the pictures that were finished are in 'out'; the same command with --out 'out' --resume"
        " goes on with the others"
    )
    assert [one["folder"] for one in json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]] == [
        "one",
        "three",
    ]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run(shots, *TEXTS, "--out", "out", "--resume") == 0
    assert len(json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]) == 3


def test_pictures_are_explained_together_and_refused_alone(
    shots: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the model refuses leaves the others as they are, and each has what it has alone."""
    (shots / "cut.jpg").write_bytes((shots / "two.jpg").read_bytes()[:300])
    assert run(shots, *TEXTS, "--out", "out") == 1
    assert "cut.jpg" in capsys.readouterr().err
    for name in ("one", "two", "three"):
        (file,) = (one for one in shots.iterdir() if one.stem.lower() == name)
        assert run(file, *TEXTS, "--out", f"alone-{name}") == 0
        with (
            np.load(tmp_path / "out" / name / "maps.npz") as several,
            np.load(tmp_path / f"alone-{name}" / "maps.npz") as one,
        ):
            assert set(several) == set(one)
            for key in several:
                if several[key].dtype.kind == "f":
                    assert np.allclose(several[key], one[key], atol=1e-5)
    texts = json.loads((tmp_path / "alone-one" / "explanation.json").read_text())["texts"]
    assert texts[0]["score"] is not None
    assert run(shots, *TEXTS, "--out", "plain", "--no-score") == 1
    plain = json.loads((tmp_path / "plain" / "one" / "explanation.json").read_text())["texts"]
    assert plain[0].get("score") is None


def test_what_is_warned_of_a_picture_is_its_own(shots: Path, tmp_path: Path) -> None:
    """Together as alone, whatever the others are like, and each thing once."""
    assert run(shots, *TEXTS, "--out", "out", "--resize", "5000") == 0
    for name in ("one", "two", "three"):
        (file,) = (one for one in shots.iterdir() if one.stem.lower() == name)
        assert run(file, *TEXTS, "--out", f"alone-{name}", "--resize", "5000") == 0
        several, alone = (told(tmp_path / one)["warnings"] for one in (f"out/{name}", f"alone-{name}"))
        assert several == alone and len(set(several)) == len(several) > 0
        assert not any(" of 3 images" in one for one in several)
    (tmp_path / "single").mkdir()
    (shots / "two.jpg").rename(tmp_path / "single" / "two.jpg")
    assert run(tmp_path / "single", *TEXTS, "--out", "one-of-one", "--resize", "5000") == 0
    assert told(tmp_path / "one-of-one" / "two")["warnings"] == told(tmp_path / "alone-two")["warnings"]


def test_files_are_read_shortly_before_they_are_explained(
    shots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, tokenizer = scenes.load()
    order: list[str] = []
    original = index.checksum

    def reading(path: Path) -> str:
        order.append(f"read {path.stem}")
        return original(path)

    def explaining(path: Path) -> Any:
        order.append(f"explain {path.stem}")
        return explain(model, path, "a star", tokenizer, words=False, scores=False)

    monkeypatch.setattr(index, "checksum", reading)
    paths = [shots / "three.jpg", shots / "gone.jpg", shots / "two.jpg"]
    for resume in (False, True):
        entries = index.explain_files(paths, index.one_by_one(explaining), tmp_path / "out", {}, resume=resume)
        assert [(one.folder, one.taken) for one in entries] == [("three", resume), ("", False), ("two", resume)]
        expected = ["read three", "explain three", "read gone", "read two", "explain two"]
        assert order == [one for one in expected if not resume or one.startswith("read")]
        order.clear()


def test_an_error_of_a_batch_is_looked_for_picture_by_picture(
    shots: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = command.explain_inputs

    def refusing(loaded: Any, inputs: Any, *more: Any) -> Any:
        if any(name == "two.jpg" for name, _ in inputs):
            raise ValueError("images: too dark")
        return original(loaded, inputs, *more)

    monkeypatch.setattr(command, "explain_inputs", refusing)
    assert run(shots, *TEXTS, "--out", "out") == 1
    assert "two.jpg': too dark" in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "index.json").read_text())["pictures"]
    assert {one["folder"] for one in found} == {"", "one", "three"}


def test_the_same_from_python(shots: Path, tmp_path: Path) -> None:
    model, _, tokenizer = scenes.load()
    paths = sorted(shots.glob("*.jpg"))
    explain_all = index.one_by_one(lambda path: explain(model, path, ["a star"], tokenizer))
    entries = index.explain_files(paths, explain_all, tmp_path / "out", {"texts": ["a star"]})
    assert [one.folder for one in entries] == ["three", "two"] and (tmp_path / "out" / "index.csv").is_file()
    with pytest.raises(index.OccupiedError, match="folder: .* resume=True goes on with them, overwrite=True replaces"):
        index.explain_files(paths, explain_all, tmp_path / "out", {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["shots", "a star", "--text", "a ring"], "image: there is no file 'a star'"),
        (["empty", "--text", "a"], "image: no pictures (PNG, JPEG"),
        (["nothing/*.png", "--text", "a"], "image: no picture matches 'nothing/*.png'"),
        (["shots/two.jpg", "shots/three.jpg", "a ring"], "--text: 'shots/three.jpg' is taken for a picture"),
        (["shots/two.jpg", "shots/*.png", "a ring"], "--text: 'shots/*.png' is taken for a picture"),
        (
            ["shots/two.jpg", "a", "--resize", "small"],
            "argument --resize: expected model, keep, crop, squash or the",
        ),
        (["shots/two.jpg", "a", "--resize", "0"], "--resize: expected at least 1, got 0"),
    ],
)
def test_mistakes(shots: Path, tmp_path: Path, capsys: Told, given: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    try:
        code = run(*given)
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    assert code == 2 and message in capsys.readouterr().err.replace("\n", " ")


def test_texts_may_follow_behind_options(shots: Path, tmp_path: Path, capsys: Told) -> None:
    assert run(shots / "two.jpg", "a star", "--layers", "2", "a ring", "--out", "out") == 0
    assert [one["text"] for one in told(tmp_path / "out")["texts"]] == ["a star", "a ring"]
    with pytest.raises(SystemExit) as stopped:
        run(shots / "two.jpg", "a star", "--layer-count", "2")
    assert stopped.value.code == 2 and "unrecognized arguments: --layer-count" in capsys.readouterr().err
    compared = [
        "compare",
        str(shots / "two.jpg"),
        "a star",
        "--methods",
        "GAME",
        "a ring",
        "--out",
        str(tmp_path / "compared"),
    ]
    assert cli.main(compared) == 0
    written = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert [one["text"] for one in written["texts"]] == ["a star", "a ring"]


def test_a_folder_with_positional_texts_and_a_text_that_is_a_folder(shots: Path, tmp_path: Path, capsys: Told) -> None:
    (tmp_path / "a star").mkdir()
    assert run("shots", "a star", "--out", "out") == 0
    assert "note: 'a star' is taken for a text, although there is a folder" in capsys.readouterr().err
    assert told(tmp_path / "out" / "one")["texts"][0]["text"] == "a star"


def test_finer_inputs_are_told_before_they_are_computed(shots: Path, tmp_path: Path, capsys: Told) -> None:
    model, _, _ = scenes.load()
    tower = adapters.image_tower(model)
    side = 3 * tower.size[0]
    assert run(shots / "two.jpg", "a star", "--resize", side, "--out", "out") == 0
    height = images.nearest_multiple(side * 120 / 150, tower.patch)
    rows, columns = height // tower.patch, side // tower.patch
    assert f"two.jpg: {side} x {height} pixels make {rows * columns:,} patches, about" in capsys.readouterr().err
    found = told(tmp_path / "out")
    assert found["input"]["grid"] == [rows, columns] and found["input"]["box"] == [0, 0, 150, 120]
    assert (
        found["input"]["preprocessing"]["interpolation"] == "bicubic" and found["input"]["preprocessing"]["resize"] == side
    )
    assert run(shots / "two.jpg", "a star", "--out", "plain") == 0
    assert "patches" not in capsys.readouterr().err


def test_more_patches_than_usual_have_to_be_asked_for(
    shots: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "USUAL_TOKENS", 100)
    assert run(shots / "two.jpg", "a star", "--resize", "keep", "--out", "out") == 0
    said, patch = capsys.readouterr().err, adapters.image_tower(scenes.load()[0]).patch
    most = (images.nearest_multiple(150, patch) // patch) * (images.nearest_multiple(120, patch) // patch)
    assert f"warning: --max-tokens: 150 x 120 pixels give {most} patches of {patch}; the picture was shrunk to" in said
    assert f"--max-tokens {most} takes all" in said
    found = told(tmp_path / "out")
    assert np.prod(found["input"]["grid"]) <= 100 < 1.3 * np.prod(found["input"]["grid"])
    assert "shrunk" in found["warnings"][0]
    assert run(shots / "two.jpg", "a star", "--resize", "keep", "--max-tokens", most, "--out", "all") == 0
    assert np.prod(told(tmp_path / "all")["input"]["grid"]) == most


def test_scale_means_keep_as_it_always_did(shots: Path, tmp_path: Path) -> None:
    assert run(shots / "two.jpg", "a star", "--scale", "0.5", "--out", "out") == 0
    found = told(tmp_path / "out")
    patch = adapters.image_tower(scenes.load()[0]).patch
    sides = [images.nearest_multiple(side, patch) for side in (60, 75)]
    assert found["options"]["resize"] == "keep" and [found["input"]["height"], found["input"]["width"]] == sides


def test_overlays_are_drawn_at_the_size_that_is_looked_at(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "gray").save(tmp_path / "large.jpg")
    for options, size in (((), (1600, 800)), (("--full-size",), (2000, 1000))):
        assert run("large.jpg", "a star", "--out", "out", "--overwrite", *options) == 0
        assert Image.open(tmp_path / "out" / "overlay-0-a-star.png").size == size


def test_the_embedded_model_says_what_it_cannot_know(shots: Path, tmp_path: Path, capsys: Told) -> None:
    assert run(shots / "two.jpg", "a red dog and a house", "--out", "out") == 0
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("note: ")]
    assert (
        "knows drawn scenes of colored shapes alone and never saw 'dog', 'house'; for photos" in line and "--model" in line
    )
    assert run(shots / "two.jpg", "a red circle", "--out", "photo") == 0
    assert "for photos choose another one by --model" in capsys.readouterr().err
    assert cli.main(["demo", "--out", "demo"]) == 0
    assert run("demo/scene-0/image.png", "a red circle", "--out", "scene") == 0
    assert "note: " not in capsys.readouterr().err
    assert run(shots / "two.jpg", "a photograph of a skateboarder in front of a building", "--out", "long") == 2
    assert (
        "but the model reads 24; its tokenizer does not know each word and spells 'photograph' in 8"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("image: too large; max_tokens=99 takes all", "image: too large; --max-tokens 99 takes all"),
        ("image: use resize='squash', or scale=0.5.", "image: use --resize squash, or --scale 0.5."),
        ("folder: overwrite=True replaces them", "--out: --overwrite replaces them"),
        ("model: no; model='hf:a b/c' it is", "--model: no; --model hf:a b/c it is"),
        ("image: 'max_tokens=5.png' and \"o'scale=3\" are names", "image: 'max_tokens=5.png' and \"o'scale=3\" are names"),
        ("patches=7 and path=x stay", "patches=7 and path=x stay"),
        ("text: expected words, got ''", "--text: expected words, got ''"),
        ("images: it is none", "image: it is none"),
    ],
)
def test_what_a_message_advises_can_be_typed(said: str, shown: str) -> None:
    parsed = build_parser(["explain"]).parse_args(["explain", "a.png", "a"])
    assert in_flags(said, parsed.parser) == shown


def test_another_method_with_its_options(shots: Path, tmp_path: Path, capsys: Told) -> None:
    given = (shots / "two.jpg", "a star", "--method", "rise", "--option", "n_masks=30", "--out", "out")
    assert run(*given) == 0
    found, printed = told(tmp_path / "out"), capsys.readouterr()
    assert (found["method"], found["options"]["n_masks"]) == ("RISE", 30) and "words" not in found["texts"][0]
    assert "RISE" in printed.out and "Grad-ECLIP" not in printed.out
    assert run(shots, "--text", "a", "--method", "GAME", "--out", "many") == 0
    assert told(tmp_path / "many" / "one")["method"] == "GAME" and "GAME" in capsys.readouterr().out
    for options, message in (
        (["--heads", "model"], "RISE got an unexpected keyword argument 'heads'; its options are n_masks"),
        (["--signed"], "RISE got an unexpected keyword argument 'relu_attributions'"),
        (["--option", "n_masks"], "--option: expected name=value, got 'n_masks'"),
        (["--method", "nothing"], "--method: there is no 'nothing'; known are"),
        (["--layers", "2"], "--layers: RISE looks at no layers"),
    ):
        assert run(*given, "--overwrite", *options) == 2
        assert message in capsys.readouterr().err
    assert run(shots, "--text", "a", "--method", "LeGrad", "--out", "many", "--resume") == 2
    assert "were made otherwise (method: there 'GAME', now 'LeGrad')" in capsys.readouterr().err


def test_the_time_of_a_long_method_is_told_once(shots: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "WORTH_TELLING", 0.0)
    assert run(shots, *TEXTS, "--method", "M2IB", "--option", "steps=1", "--option", "copies=1", "--out", "out") == 0
    said = capsys.readouterr().err
    assert said.count("M2IB, words") == 1 == said.count("each picture, about ")
    assert run(shots / "two.jpg", "a star", "--out", "quick") == 0
    assert "about " not in capsys.readouterr().err


@pytest.mark.slow
def test_a_demo_replaces_nothing_unless_it_is_asked_to(tmp_path: Path, capsys: Told) -> None:
    assert cli.main(["demo", "--out", "gradeclip-out"]) == 0 and cli.main(["demo"]) == 0
    assert (tmp_path / "gradeclip-out-2" / "scene-2" / "strip.png").is_file()
    before = (tmp_path / "gradeclip-out" / "scene-2" / "strip.png").stat().st_mtime_ns
    assert cli.main(["demo", "--out", "gradeclip-out"]) == 2
    assert "--out: 'gradeclip-out' holds results of an earlier run; --overwrite" in capsys.readouterr().err
    assert (tmp_path / "gradeclip-out" / "scene-2" / "strip.png").stat().st_mtime_ns == before
    assert cli.main(["demo", "--out", "gradeclip-out", "--overwrite"]) == 0
