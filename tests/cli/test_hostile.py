"""What the commands do with names and texts that are not harmless, with full disks, and with the files of others."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from captum_gradeclip import cli, report
from captum_gradeclip.cli import common
from captum_gradeclip.cli.common import Screen
from captum_gradeclip.quoting import MOST_OF_MESSAGE

from ..test_files import contents, full_after, refuse

ESCAPE = "\x1b]0;title\x07\x1b[2J\u202e"
LONG = "a" * 100_000
Told = pytest.CaptureFixture[str]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.new("RGB", (90, 60), "red").save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def run(*arguments: str) -> int:
    try:
        return cli.main(list(arguments))
    except SystemExit as stopped:  # by argparse
        return int(stopped.code or 0)


def said(capsys: Told) -> tuple[str, str]:
    """What was printed, after it was seen that no character of it commands a terminal."""
    told = capsys.readouterr()
    for text in told:
        assert all(line.isprintable() for line in text.split("\n")), ascii(text)
    return told.out, told.err


def test_what_is_printed_of_a_result_is_legible(tmp_path: Path, picture: str, capsys: Told) -> None:
    name = tmp_path / f"b {ESCAPE}.png"
    os.rename(picture, name)
    out = tmp_path / f"out {ESCAPE}"
    for command in (["explain"], ["compare", "--methods", "GAME"]):
        assert run(*command, str(name), f"a {ESCAPE} circle", "[red]:dog:[/]", "--out", str(out)) == 0
        shown = said(capsys)[0]
        assert "\\x1b" in shown and (":dog:" in shown or command != ["explain"])
    for file in [*out.glob("*.html"), *out.glob("*.json")]:
        assert "\x1b" not in file.read_text() and "\x07" not in file.read_text()


MISTAKES = [
    ["explain", "PICTURE", "a", "--model", "BAD"],
    ["explain", "PICTURE", "a", "--model", "timm:BAD"],
    ["explain", "PICTURE", "a", "--model", "hf:BAD"],
    ["explain", "PICTURE", "a", "--model", "local-dir:BAD"],
    ["explain", "PICTURE", "a", "--pretrained", "BAD"],
    ["explain", "PICTURE", "a", "--model", "ViT-B-32", "--pretrained", "BAD"],
    ["explain", "PICTURE", "a", "--device", "BAD"],
    ["explain", "PICTURE", "a", "--resize", "BAD"],
    ["explain", "PICTURE", "a", "--layers", "BAD"],
    ["explain", "PICTURE", "a", "--BAD"],
    ["explain", "PICTURE", "a", "--target", "BAD"],
    ["explain", "PICTURE", "BAD " * 40],
    ["explain", "BAD.png", "a"],
    ["explain", "PICTURE", "a", "--out", "PICTURE/BAD"],
    ["explain", "PICTURE", "--model", "timm:vit_tiny_patch16_224", "--target", "BAD"],
    ["explain", "PICTURE", "--model", "timm:vit_tiny_patch16_224", "--target", "7" * 9999],
    ["compare", "PICTURE", "a", "--methods", "BAD"],
    ["compare", "PICTURE", "a", "--option", "BAD"],
    ["compare", "PICTURE", "a", "--option", "BAD.b=3"],
    ["compare", "PICTURE", "a", "--option", "GAME.BAD=3"],
    ["compare", "PICTURE", "a", "--methods", "RISE", "--option", "RISE.n_masks=BAD"],
    ["check", "BAD"],
    ["benchmark", "faithfulness", "--data", "folders", "--root", "BAD"],
    ["benchmark", "faithfulness", "--data", "folders", "--root", "FOLDER", "--class-names", "BAD"],
    ["benchmark", "words", "--data", "coco", "--root", "FOLDER", "--annotations", "BAD"],
    ["benchmark", "words", "--methods", "BAD", "--samples", "1"],
    ["BAD"],
]


@pytest.mark.parametrize("bad", [ESCAPE, LONG], ids=["escape", "long"])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: " ".join(one)[:60])
def test_what_is_said_of_a_mistake_is_legible_and_short(
    tmp_path: Path, picture: str, capsys: Told, bad: str, mistake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [one.replace("PICTURE", picture).replace("FOLDER", str(tmp_path)).replace("BAD", bad) for one in mistake]
    assert run(*given) == 2
    errors = [line for line in said(capsys)[1].splitlines() if re.match(r"gradeclip( \w+)*: ", line)]
    assert len(errors) == 1 and len(errors[0]) < MOST_OF_MESSAGE + 100


def test_names_in_files_of_models_are_legible(tmp_path: Path, picture: str, capsys: Told) -> None:
    for name, content in (
        ("config.json", {"model_type": ESCAPE}),
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {"hf_model_name": ESCAPE}}}),
        ("config.json", {"model_type": "clip", "auto_map": {"AutoModel": ESCAPE}, "architectures": [ESCAPE]}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        for library in ("hf", "local-dir"):
            assert run("explain", picture, "a", "--model", f"{library}:{tmp_path}") == 2
            assert "gradeclip: " in said(capsys)[1]


def test_what_other_libraries_log_is_legible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Told) -> None:
    def load(*_: object) -> None:
        logger = logging.getLogger("another library")
        logger.addHandler(logging.StreamHandler())
        logger.warning("a model of type %s", ESCAPE)
        # What Python prints of a warning; pytest shows warnings in another way.
        print(warnings.formatwarning(f"of {ESCAPE}", UserWarning, __file__, 1), file=sys.stderr)
        raise ValueError("model: no")

    from captum_gradeclip.cli import check

    monkeypatch.setattr(check, "load_model", load)
    before = logging.getLogRecordFactory(), warnings.formatwarning
    assert run("check", "scenes", "--out", str(tmp_path)) == 2
    assert said(capsys)[1].count("\\x1b]0;title") == 2
    assert (logging.getLogRecordFactory(), warnings.formatwarning) == before


def test_the_screen_keeps_its_own_colors(capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    Screen().print("[red]a \x1b]b[/]", highlight=False)
    assert capsys.readouterr().out == "\x1b[31ma \\x1b]b\x1b[0m\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["explain", "b\udcfc.png", "a"], "image: 'b\\udcfc.png'"),
        (["explain", "PICTURE", "a", "b\udcff"], "image: 'b\\udcff'"),
        (["explain", "PICTURE", "--text", "b\udcff"], "--text: 'b\\udcff'"),
        (["explain", "PICTURE", "a", "--out", "o\udcfc"], "--out: 'o\\udcfc'"),
        (["compare", "PICTURE", "a\udcfc"], "image: 'a\\udcfc'"),
        (["check", "hf:\udcfc"], "model: 'hf:\\udcfc'"),
        (["benchmark", "faithfulness", "--root", "\udcfc"], "--root: '\\udcfc'"),
        (["benchmark", "words", "--annotations", "\udcfc"], "--annotations: '\\udcfc'"),
    ],
)
def test_names_that_are_not_utf8_are_told_at_once(
    picture: str, capsys: Told, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.setattr(common, "load_model", refuse)
    assert run(*[one.replace("PICTURE", picture) for one in arguments]) == 2
    assert f"gradeclip: {named} is not text in UTF-8" in said(capsys)[1]


def test_a_terminal_of_few_letters(tmp_path: Path, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert run("explain", picture, "a ü 日本", "--out", str(tmp_path / "out")) == 0
    assert b"\\u65e5" in printed.getvalue()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_terminal_that_takes_nothing(tmp_path: Path, picture: str, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(OSError), open("/dev/full", "w") as full:  # at its end it is told once more
        monkeypatch.setattr(sys, "stdout", full)
        assert run("explain", picture, "a", "--out", str(tmp_path / "out")) == 2
    assert said(capsys)[1].endswith("gradeclip: No space left on device\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("arguments", "full"),
    [
        (["--help"], ("stdout",)),
        (["--help"], ("stderr",)),
        (["--help"], ("stdout", "stderr")),
        (["explain", "nowhere.png", "a"], ("stdout", "stderr")),
    ],
)
def test_a_process_whose_outputs_are_full(tmp_path: Path, arguments: list[str], full: tuple[str, ...]) -> None:
    """The interpreter writes what is left at its end, and has a number and lines of its own where it cannot."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as device:
        outputs = {name: device if name in full else subprocess.PIPE for name in ("stdout", "stderr")}
        command = [sys.executable, "-m", "captum_gradeclip", *arguments]
        done = subprocess.run(command, **outputs, cwd=tmp_path, env=settings, text=True)  # type: ignore[call-overload]
    fails = "nowhere.png" in arguments or "stdout" in full
    assert done.returncode == (2 if fails else 0)
    if "stderr" not in full:
        assert len(done.stderr.splitlines()) == int(fails)


@pytest.mark.parametrize(("mistake", "number"), [(False, 0), (True, 2)])
def test_outputs_that_are_closed(
    tmp_path: Path, picture: str, monkeypatch: pytest.MonkeyPatch, mistake: bool, number: int
) -> None:
    """As by ``gradeclip ... >&- 2>&-`` or for a program without a console: Python then has ``None`` for them."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run("explain", "nowhere.png" if mistake else picture, "a", "--out", str(tmp_path / "out")) == number
    assert mistake or (tmp_path / "out" / "explanation.json").exists()


def test_an_error_goes_nowhere_but_to_the_error_output(capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert run("explain", "nowhere.png", "a") == 2 and capsys.readouterr().out == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_an_error_output_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with suppress(OSError), open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        number = run("explain", "nowhere.png", "a")
    assert number == 2


@pytest.mark.parametrize(
    "text", ["$5^$6", r"$\frac{$", r"\$5 $6", "100 $ and 5 €", "日本 😀 e\u0301", "a_b^{c}", "<b>&amp;"]
)
def test_texts_are_drawn_as_they_are(tmp_path: Path, picture: str, text: str) -> None:
    assert run("explain", picture, text, "--out", str(tmp_path / "out")) == 0
    told = json.loads((tmp_path / "out" / "explanation.json").read_text(), parse_constant=refuse)
    assert told["texts"][0]["text"] == text


COMMANDS = {
    "explain": (["explain", "PICTURE", "a red circle"], "explanation.json"),
    "compare": (["compare", "PICTURE", "a red circle", "--methods", "GAME"], "compare.json"),
    "check": (["check", "scenes"], "check.json"),
}


@pytest.mark.parametrize(("command", "size"), [("explain", 0), ("explain", 5000), ("compare", 5000), ("check", 100)])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, picture: str, capsys: Told, command: str, size: int
) -> None:
    out = tmp_path / "out"
    given = [one.replace("PICTURE", picture) for one in COMMANDS[command][0]]
    with full_after(size):
        assert run(*given, "--out", str(out)) == 2
    assert re.fullmatch(r"gradeclip: File too large: '.*/out/[^.].*'", said(capsys)[1].splitlines()[-1])
    assert not out.exists()
    assert run(*given, "--out", str(out)) == 0
    before = contents(out)
    again = [] if command == "check" else ["--overwrite"]
    with full_after(size):
        assert run(*[one.replace("red", "green") for one in given], *again, "--out", str(out)) == 2
    assert contents(out) == before
    assert run(*given, *again, "--out", str(out)) == 0 and contents(out).keys() == before.keys()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_file_of_somebody_else_is_told_before_the_work(
    tmp_path: Path, picture: str, capsys: Told, monkeypatch: pytest.MonkeyPatch, command: str, kind: str
) -> None:
    given, manifest = COMMANDS[command]
    place = tmp_path / "out" / manifest
    place.parent.mkdir()
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    before = contents(tmp_path)
    monkeypatch.setattr("captum_gradeclip.adapters.loading.load", refuse)
    assert run(*[one.replace("PICTURE", picture) for one in given], "--out", str(place.parent)) == 2
    assert f"gradeclip: --out: '{place}' is not of an earlier result" in said(capsys)[1]
    assert contents(tmp_path) == before


def test_pictures_in_the_folder_of_the_results(tmp_path: Path, picture: str, capsys: Told) -> None:
    """Those of the user stay, whatever they are called, also the one that is explained."""
    names = ["overlay-holiday.png", "overlay-0-mine.png", "words.jpg", "a.png"]
    for name in names[:-1]:
        Path(picture).with_name(name).write_bytes(Path(picture).read_bytes())
    before = contents(tmp_path)
    for name in names:
        for text in ("a red circle", "two stars"):
            assert run("explain", str(tmp_path / name), text, "--out", str(tmp_path), "--overwrite") == 0
    assert before.items() <= contents(tmp_path).items() and len(list(tmp_path.glob("overlay-0-*.png"))) == 2
    # A picture of an earlier result is explained into another folder only, where the new one would take its place ...
    overlay = tmp_path / "overlay-0-two-stars.png"
    capsys.readouterr()
    now = contents(tmp_path)
    assert run("explain", str(overlay), "two stars", "--out", str(tmp_path), "--overwrite") == 2
    assert f"--out: '{overlay}' is the picture itself" in said(capsys)[1] and contents(tmp_path) == now
    # ... and is kept where it would only be removed.
    assert run("explain", str(overlay), "a red circle", "--out", str(tmp_path), "--overwrite") == 0
    assert overlay.read_bytes() == now[overlay.name]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves behind, to be copied and not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    assert run("demo", "--out", str(folder)) == 0
    return folder


def test_the_files_of_a_demo(demo: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    told = json.loads((tmp_path / "scene-0" / "explanation.json").read_text(), parse_constant=refuse)
    assert "image.png" in told["files"]
    assert {*told["files"], "explanation.json"} == {one.name for one in (tmp_path / "scene-0").iterdir()}
    (tmp_path / "scene-2" / "image.png").write_text("mine")
    before = contents(tmp_path)
    monkeypatch.setattr("captum_gradeclip.adapters.loading.load", refuse)
    assert run("demo", "--overwrite", "--out", str(tmp_path)) == 2
    assert "image.png' is not of an earlier result" in said(capsys)[1] and contents(tmp_path) == before


def test_scenes_of_a_demo_are_replaced_together(
    demo: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    write, written = report.write_npz, []

    def full_at_the_last(path: Path, arrays: Mapping[str, object]) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, arrays)

    monkeypatch.setattr(report, "write_npz", full_at_the_last)
    assert run("demo", "--layers", "2", "--overwrite", "--out", str(tmp_path)) == 2
    assert re.search(r"gradeclip: No space left on device: '.*/scene-2/maps.npz'", said(capsys)[1])
    assert contents(tmp_path) == before


def test_names_are_known_before_the_work(tmp_path: Path, picture: str) -> None:
    texts = ["a red circle", "... <>", "ü" * 99]
    assert run("explain", picture, *texts[:2], "--out", str(tmp_path / "out")) == 0
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert names == {*report.file_names(texts[:2], words=True), "explanation.json"}
    assert all(len(name.encode()) < 255 for name in report.file_names(texts, words=True, image=True))
