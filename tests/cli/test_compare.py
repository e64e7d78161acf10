"""The command that puts methods side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_gradeclip import cli, scenes
from captum_gradeclip.attr import BASELINES, CAPTUM, GAME, M2IB, METHODS
from captum_gradeclip.cli import common

Told = pytest.CaptureFixture[str]


def test_the_command_writes_figure_maps_and_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].save(tmp_path / "scene.png")
    texts = ["a red circle", "something $green"]
    command = ["compare", str(tmp_path / "scene.png"), *texts, "--rise-masks", "20", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    assert "CLIP Surgery" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [one["method"] for one in result["methods"]] == [kind.info.name for kind in METHODS]
    told = {one["method"] for one in result["methods"] if "words" in one}
    assert told == {kind.info.name for kind in METHODS if kind.info.text}
    stored = np.load(tmp_path / "out" / "compare.npz")
    assert stored["Grad-ECLIP"].shape == (2, 12, 12) and stored["Grad-ECLIP, words"].shape[0] == 2
    assert min(Image.open(tmp_path / "out" / "compare.png").size) > 400
    few = [*command[:-1], str(tmp_path / "few"), "--overwrite", "--methods", "GAME, Occlusion", "--same-scale"]
    assert cli.main(few) == 0
    assert set(np.load(tmp_path / "few" / "compare.npz")) == {"GAME", "GAME, words", "Occlusion", "texts"}
    for wrong, message in (
        (["--methods", "GradCAM"], None),
        (["--methods", "nothing"], "there is no 'nothing'"),
        (["--model", "timm:vit_tiny_patch16_224"], "--text: timm:vit_tiny_patch16_224 is a classifier"),
        (["--target", "3"], "--target: scenes is no classifier"),
    ):
        code = cli.main([*command, "--overwrite", *wrong])
        assert (code, message in capsys.readouterr().err) == (2, True) if message else code == 0


def test_options_and_what_cannot_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].save(tmp_path / "scene.png")
    out = tmp_path / "out"
    command = ["compare", str(tmp_path / "scene.png"), "a red circle", "--out", str(out), "--overwrite", "--methods"]
    assert cli.main([*command, "RISE,RISE", "--option", "RISE.subtract_mean=true", "--option", "rise.n_masks=7"]) == 0
    result = json.loads((out / "compare.json").read_text())
    assert [one["options"] for one in result["methods"]] == [{"n_masks": 7, "subtract_mean": True}]
    assert -1 <= result["texts"][0]["score"] <= 1 and "layers" not in result["options"]
    before = sorted((file.name, file.stat().st_mtime_ns) for file in out.iterdir())
    for arguments, message in (
        (["RISE", "--rise-masks", "0"], "--rise-masks: expected at least 1, got 0"),
        (["GAME", "--option", "RISE.n_masks=3"], "options: there are some for RISE"),
        (["GAME", "--option", "GAME.nothing=3"], "unexpected keyword argument 'nothing'"),
        (["GAME", "--option", "GAME=3"], "--option: expected METHOD.name=value"),
        (["GAME", "--option", "nothing.a=3"], "there is no 'nothing'"),
        (["LeGrad", "--model", "RN50"], "methods: none of them is defined for this model"),
    ):
        assert cli.main([*command, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert before == sorted((file.name, file.stat().st_mtime_ns) for file in out.iterdir())


def test_a_classifier_is_compared_by_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_mandelbrot((120, 80), (-2, -1, 1, 1), 50).convert("RGB").save(tmp_path / "photo.png")
    out, classes = tmp_path / "out", ("whippet", "281", "n02099601")
    command = [
        "compare",
        str(tmp_path / "photo.png"),
        "--model",
        "timm:vit_tiny_patch16_224",
        "--out",
        str(out),
        "--overwrite",
    ]
    targets = [part for one in classes for part in ("--target", one)]
    assert cli.main([*command, *targets, "--methods", "GradECLIP,RawAttention,CLIPSurgery"]) == 0
    result = json.loads((out / "compare.json").read_text())
    assert [one["class"] for one in result["texts"]] == [172, 281, 207]
    assert [one["text"] for one in result["texts"]] == ["whippet", "tabby, tabby cat", "golden retriever"]
    assert all(0 < one["probability"] < 1 for one in result["texts"])
    assert [one["refused"] is None for one in result["methods"]] == [True, True, False]
    assert all("words" not in one for one in result["methods"])
    stored = np.load(out / "compare.npz")
    assert stored["Grad-ECLIP"].shape == (3, 14, 14) and stored["classes"].tolist() == [172, 281, 207]
    printed = capsys.readouterr().out
    assert "needs an ImageTextScore" in " ".join(printed.split()) and "words" not in printed
    assert cli.main([*command, "--methods", "GAME"]) == 0  # the three most probable
    likely = [one["probability"] for one in json.loads((out / "compare.json").read_text())["texts"]]
    assert len(likely) == 3 and likely == sorted(likely, reverse=True)
    behind = [*command, "--methods", "GAME", "whippet"]  # texts may stand behind options
    assert cli.main(behind) == 2 and "name its classes by --target, --target 'whippet'" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "photo.png")]) == 2
    assert "image: expected one picture, got" in capsys.readouterr().err
    assert cli.main([*command, "--target", "unicorn"]) == 2
    assert "--target: 0 classes are called 'unicorn'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["compare"], ["benchmark", "localization"], ["benchmark", "time"]])
def test_methods_are_listed_with_a_line_each(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--methods", "help"])
    assert end.value.code == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip()]
    told = {first: rest[0] for first, *rest in lines if rest}
    expected = [*METHODS, *CAPTUM, *(BASELINES if command[0] == "benchmark" else ())]
    assert {kind.__name__ for kind in expected} <= set(told)
    for kind in expected:
        explains = "images, texts" if kind.info.text else "images"
        assert told[kind.__name__].startswith(explains) and len(told[kind.__name__]) > len(explains) + 20


@pytest.fixture
def scene(tmp_path: Path) -> str:
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].save(tmp_path / "scene.png")
    return str(tmp_path / "scene.png")


def stops(kind: type[GAME] | type[M2IB], call: int) -> object:
    """The verb of a method that sees, interrupted at some call of it, counted from 0."""
    calls, original = iter(range(call)), kind.observe

    def observe(self: object, request: object, options: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(self, request, options)  # type: ignore[arg-type]

    return observe


@pytest.mark.parametrize(("call", "missing"), [(0, ["M2IB", "RISE", "GAME, words"]), (1, ["M2IB, words"])])
def test_an_interrupt_keeps_what_is_finished(
    call: int, missing: list[str], scene: str, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(M2IB, "observe", stops(M2IB, call))
    out = tmp_path / "out"
    command = ["compare", scene, "a red circle", "--rise-masks", "5", "--out", str(out), "--methods"]
    assert cli.main([*command, "GAME,M2IB,RISE"]) == 130
    told = json.loads((out / "compare.json").read_text())
    assert told["missing"] == missing
    assert [one["method"] for one in told["methods"]] == ["GAME", "M2IB", "RISE"][: 3 if call else 1]
    assert ("words" in told["methods"][0]) == bool(call) and (out / "compare.png").is_file()
    said = capsys.readouterr()
    last = f"gradeclip: interrupted; what was finished is in '{out}'; missing are {'; '.join(missing)}"
    assert said.err.splitlines()[-1] == last and "Traceback" not in said.err
    monkeypatch.setattr(GAME, "observe", stops(GAME, 0))
    assert cli.main([*command, "GAME,RISE", "--overwrite"]) == 130  # nothing is finished, and nothing replaced
    assert capsys.readouterr().err.splitlines()[-1] == "gradeclip: interrupted"
    assert json.loads((out / "compare.json").read_text()) == told


def test_a_real_interrupt_of_the_command(scene: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "captum_gradeclip", "compare", scene, "a red circle", "--methods", "GAME,RISE"]
    options = ["--rise-masks", "1000000", "--out", str(tmp_path / "out")]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("methods: GAME took"):
                time.sleep(0.5)
                os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130, lines
    assert lines[-1].startswith("gradeclip: interrupted; what was finished is in") and "Traceback" not in "".join(lines)
    assert any(line.startswith("about ") and ": RISE " in line for line in lines)  # told before the work
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["missing"] == ["RISE", "GAME, words"]


def test_the_time_is_told_before_if_it_is_long(
    scene: str, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["compare", scene, "a star", "--rise-masks", "10", "--methods", "GAME,RISE", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    said = capsys.readouterr().err.splitlines()
    assert not [one for one in said if one.startswith("about ")]
    told = [one.partition(" took")[0] for one in said if one.startswith("methods")]
    assert told == ["methods: GAME", "methods: RISE", "methods, words: GAME", "methods, words: RISE"]
    monkeypatch.setattr(common, "WORTH_TELLING", 0.0)
    assert cli.main([*command, "--overwrite"]) == 0
    (told,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("about ")]
    assert told.index("RISE") < told.index("GAME")


def test_a_second_comparison_replaces_nothing_unless_it_is_asked_to(
    scene: str, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["compare", scene, "a star", "--methods", "GAME"]
    assert cli.main(command) == 0 and cli.main(command) == 0
    assert (tmp_path / "gradeclip-out-2" / "compare.json").is_file()
    capsys.readouterr()
    assert cli.main([*command, "--out", "gradeclip-out"]) == 2
    assert "--out: 'gradeclip-out' holds results of an earlier run; --overwrite replaces them" in capsys.readouterr().err
    assert cli.main([*command, "--out", "gradeclip-out", "--overwrite"]) == 0
    assert not (tmp_path / "gradeclip-out-3").exists()
