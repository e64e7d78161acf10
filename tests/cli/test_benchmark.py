"""What the benchmark shows on the terminal: help with the layout of own data, unfinished runs, and tables that fit."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from PIL import Image
from rich.table import Table

from captum_gradeclip import cli
from captum_gradeclip.adapters import loading
from captum_gradeclip.cli.common import print_table
from captum_gradeclip.experiments import DATASETS, TASKS, Scenes, Settings, run
from captum_gradeclip.experiments.tasks import Localization

Told = pytest.CaptureFixture[str]


@pytest.mark.parametrize("task", TASKS)
def test_help_shows_the_layout_of_own_data(task: str, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main(["benchmark", task, "--help"])
    told = capsys.readouterr().out
    for name, data in DATASETS.items():
        assert data.layout in told and (f"--data {name} --root" in data.layout or name == "scenes")
        assert all(len(line) <= 80 for line in data.layout.splitlines())


def test_the_layout_of_folders_is_what_is_read(tmp_path: Path, capsys: Told) -> None:
    """The tree of the help text, made as it stands there."""
    folders: list[str] = []
    for line in DATASETS["folders"].layout.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        path = tmp_path.joinpath(*folders)
        if name.endswith("/"):
            path.mkdir()
        elif name.endswith(".jpg"):
            Image.new("RGB", (32, 32), "red").save(path)
    command = ["benchmark", "faithfulness", "--data", "folders", "--root", str(tmp_path / "photos"), "--methods", "random"]
    assert cli.main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "(3 samples)" in capsys.readouterr().out


def test_a_stopped_small_run_loses_little_and_shows_what_it_has(
    tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["benchmark", "localization", "--samples", "40", "--methods", "random", "--out", str(tmp_path)]
    calls, measure = itertools.count(), Localization.measure

    def stopped(self: Localization, *given: object) -> object:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, *given)  # type: ignore[arg-type]

    assert cli.main([*command, "--partial"]) == 0
    assert "nothing is finished yet" in capsys.readouterr().out
    monkeypatch.setattr(Localization, "measure", stopped)
    assert cli.main(command) == 130
    kept = tmp_path / "localization-scenes"
    assert f"interrupted; what has been measured is kept in '{kept}': the same command" in capsys.readouterr().err
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("a model was loaded"))
    assert cli.main([*command, "--partial"]) == 0
    told = capsys.readouterr().out
    assert "(6 samples)" in told and "Unfinished: 6 of 40 samples have been measured." in told
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
    damaged = tmp_path / "localization-scenes" / "records" / "chunk-000001.jsonl"
    damaged.write_text("")
    assert cli.main([*command, "--partial"]) == 0 and "Unfinished: 4 of 40" in capsys.readouterr().out
    assert cli.main([*command, "--partial", "--seed", "3"]) == 2
    assert "another run is there, with other data.seed (there 0, now 3)" in capsys.readouterr().err


@pytest.mark.parametrize(("samples", "chunks"), [(3, 3), (41, 21)])
def test_a_chunk_is_a_twentieth_of_the_samples(samples: int, chunks: int, tmp_path: Path) -> None:
    run(Localization, loading.load(), Scenes(samples), Settings(methods=["random"]), tmp_path)
    assert len(list((tmp_path / "records").glob("chunk-*"))) == chunks


@pytest.mark.parametrize("columns", [40, 60, 80, 132])
def test_a_table_fits_the_terminal(columns: int, capsys: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    headings = ["PG", "pixel acc. (foreground, mean)", "AP", *(f"Ins GT@{k} of all" for k in range(9))]
    table = Table("", *headings, title="a title", caption="a note that is longer than a narrow terminal is wide")
    table.add_row("CLIP Surgery, 60 labels", *(f"{number / 10:.3f}" for number in range(len(headings))))
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns and lines[0].strip() == "a title"
    told = " ".join(lines).split()
    assert all(f"{number / 10:.3f}" in told for number in range(len(headings)))
    assert told.count("CLIP") == (1 if columns == 132 else told.count("Surgery,")) and "(foreground," in told
