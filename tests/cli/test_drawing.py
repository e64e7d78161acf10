"""How pictures look, from the command line: the flags are the arguments of the library, and wrong ones are named first."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import cli, explain, images, report, scenes, show
from captum_gradeclip.adapters import loading
from captum_gradeclip.cli.common import add_drawing, add_full_size, style_of

TEXTS = ["a red circle", "something green"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 96)[0].resize((144, 96)).save(path)
    return path


def width_of(path: Path) -> float:
    """The width of a PDF or SVG file in millimeters."""
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)|<svg[^>]* width=\"([\d.]+)pt\"", path.read_bytes())
    assert box is not None
    return float(box[1] or box[2]) / 72 * 25.4


@pytest.mark.parametrize("command", ["explain", "compare"])
@pytest.mark.parametrize("format", ["pdf", "svg"])
def test_the_flags_of_a_figure_for_a_paper(command: str, format: str, picture: Path, tmp_path: Path) -> None:
    few = ["--methods", "GradECLIP,MaskCLIP"] if command == "compare" else ["--full-size"]
    look = ["--width", "84", "--dpi", "300", "--format", format, "--cmap", "viridis", "--color-scale", "each"]
    assert cli.main([command, str(picture), *TEXTS, *few, *look, "--resize", "crop", "--out", str(tmp_path)]) == 0
    name = "compare" if command == "compare" else "explanation"
    told = json.loads((tmp_path / f"{name}.json").read_text())["figures"]
    wanted = {"width": 84.0, "dpi": 300, "format": format, "cmap": "viridis", "color_scale": "each"}
    assert told == {**wanted, "full_size": command == "explain"}
    for figure in ("strip", "words") if command == "explain" else ("compare",):
        assert width_of(tmp_path / f"{figure}.{format}") == pytest.approx(84, abs=0.1)
    assert not list(tmp_path.glob("strip.png")) and not list(tmp_path.glob("compare.png"))


def test_the_command_draws_what_the_library_draws(picture: Path, tmp_path: Path) -> None:
    options = ["--signed", "--color-scale", "each", "--cmap", "PuOr", "--resize", "crop"]
    assert cli.main(["explain", str(picture), *TEXTS, *options, "--out", str(tmp_path / "cli")]) == 0
    model, _, tokenizer = scenes.load()
    found = explain(model, picture, TEXTS, tokenizer, preprocess="crop", relu_attributions=False)
    found.save(tmp_path / "api", color_scale="each", cmap="PuOr")
    for path in sorted((tmp_path / "api").glob("*.png")):
        one, other = (np.asarray(Image.open(folder / path.name)) for folder in (tmp_path / "api", tmp_path / "cli"))
        assert np.array_equal(one, other), path.name
    entry = json.loads((tmp_path / "cli" / "explanation.json").read_text())["texts"][0]
    weights = [word["weight"] for word in entry["words"]]
    assert min(weights) < 0 and sum(map(abs, weights)) == pytest.approx(1)
    assert float(np.load(tmp_path / "cli" / "maps.npz")["image"].min()) < 0
    full = found.pixels(0)
    expected = show.overlay(images.read(picture), full[0], cmap="PuOr")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "cli" / "overlay-0-a-red-circle.png")), np.asarray(expected))
    assert torch.isnan(full).any(), "the crop"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cmap", "virdis"], "--cmap: matplotlib has no color map 'virdis'"),
        (["--width", "3"], "--width: expected at least 30 and at most 2000, got 3"),
        (["--dpi", "0"], "--dpi: expected at least 20 and at most 1200, got 0"),
    ],
)
@pytest.mark.parametrize("command", ["explain", "compare", "demo"])
def test_wrong_flags_are_named_before_the_work(
    command: str,
    options: list[str],
    message: str,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("the model was loaded"))
    given = [] if command == "demo" else [str(picture), *TEXTS]
    assert cli.main([command, *given, *options, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_settings_of_a_user_without_latex_do_no_harm(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``text.usetex: True`` in a matplotlibrc has it."""
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    monkeypatch.setenv("PATH", str(tmp_path))  # where no LaTeX is
    assert cli.main(["explain", str(picture), *TEXTS, "--out", str(tmp_path / "a")]) == 0
    assert cli.main(["compare", str(picture), *TEXTS, "--methods", "GAME", "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a" / "strip.png").exists() and (tmp_path / "b" / "compare.png").exists()
    assert matplotlib.rcParams["text.usetex"] is True


def test_the_flags_offer_what_the_library_takes() -> None:
    """They are spelled out, since the shell's help does not import matplotlib."""
    parser = argparse.ArgumentParser()
    add_drawing(parser)
    add_full_size(parser)
    actions = {one.dest: one for one in parser._actions}
    assert tuple(actions["color_scale"].choices or ()) == get_args(show.ColorScale)
    assert tuple(actions["format"].choices or ()) == get_args(show.Format)
    assert {name: actions[name].default for name in asdict(show.Style())} == asdict(show.Style())
    assert style_of(parser.parse_args([])) == show.Style() and str(report.OVERLAY) in parser.format_help()


def test_a_second_run_in_another_format_replaces_the_first(picture: Path, tmp_path: Path) -> None:
    for format in ("png", "svg"):
        assert cli.main(["explain", str(picture), TEXTS[0], "--format", format, "--out", str(tmp_path), "--overwrite"]) == 0
        assert {one.suffix for one in tmp_path.glob("strip.*")} == {f".{format}"}
