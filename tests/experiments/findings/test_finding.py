"""Figures and the scenes that they are measured on: all groups at once, at the size of the model's pictures."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from open_clip import CLIP

from captum_gradeclip import cli, experiments, scenes
from captum_gradeclip.benchmark import scenes_model
from captum_gradeclip.experiments import findings
from captum_gradeclip.experiments.findings import FIGURES, Finding, HeldOut, evaluate_scenes, reading
from captum_gradeclip.experiments.findings.finding import batches, finding
from captum_gradeclip.metrics import bootstrap_interval, paired_t_test

from .conftest import SIDE, data, small


def test_a_finding_is_a_mean_of_its_cases() -> None:
    (one,) = finding("hits", [True, False, True, True], ("row", "column"))
    assert one == Finding("hits", 0.75, 4, place=("row", "column"))
    assert not list(finding("hits", []))


def test_a_compared_finding_has_an_interval_and_a_test() -> None:
    values, others = [0.1, 0.5, 0.6, 0.9], [0.2, 0.3, 0.1, 0.4]
    (one,) = finding("falls", values, None, others)
    assert one.interval == bootstrap_interval(values) and one.interval[0] < one.value < one.interval[1]
    assert one.p_value == paired_t_test(values, others).p_value
    (itself,) = finding("falls", values, None, values)
    assert itself.interval == one.interval and itself.p_value is None
    (single,) = finding("falls", [True], None, [False])
    assert single.interval == (1.0, 1.0) and single.p_value is None


def test_cells_of_compared_findings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mark is set behind a mean that differs after Bonferroni's correction, and the number of tests is told."""
    monkeypatch.setenv("COLUMNS", "132")
    rows = [("usual", None), ("far", 0.001), ("near", 0.03)]
    found = [Finding(row, 0.5, 4, place=(row, "PG"), interval=(0.25, 0.75), p_value=p) for row, p in rows]
    monkeypatch.setitem(FIGURES, "heads", lambda model, held_out: iter(found))
    assert cli.main(["benchmark", "scenes", "--scenes", "2", "--figures", "heads", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "by 2 paired t-tests with Bonferroni's correction" in " ".join(told.split())
    cells = {line.split()[0]: line.split()[1] for line in told.splitlines() if "[0.250, 0.750]" in line}
    assert cells == {"usual": "0.500", "far": "0.500*", "near": "0.500"}


def test_pictures_have_the_side_and_the_statistics_of_the_model(embedded: CLIP) -> None:
    held_out = HeldOut.for_model(small(), 3, "validation", seed=5)
    ((items, pixels),) = batches(small(), held_out.of(2), "")
    assert pixels.shape == (3, 3, SIDE, SIDE) and all(item.masks.shape == (2, SIDE, SIDE) for item in items)
    expected = torch.tensor([[[*map(list, _rows(item.image))]] for item in items])[:, 0].permute(0, 3, 1, 2)
    assert torch.allclose(pixels, (expected / 255 - 0.5) / 0.25, atol=1e-6)
    # Of the embedded model, they are what its own transform makes of them, to the last bit.
    parts = list(batches(embedded, data(embedded, 5, 1, 2), "", size=2))
    assert [len(items) for items, _ in parts] == [2, 2, 1]
    for some, pixels in parts:
        assert torch.equal(pixels, torch.stack([scenes.preprocess()(item.image) for item in some]))


def _rows(image) -> list[list[tuple[int, int, int]]]:
    return [[image.getpixel((x, y)) for x in range(image.width)] for y in range(image.height)]


def test_held_out_scenes_are_those_of_the_split_and_others_are_not_among_them() -> None:
    held_out = HeldOut(20, "evaluation", 3, SIDE)
    first = [held_out.of(2, 3).scene(index) for index in range(20)]
    assert held_out.of(2, 3) is held_out.of(2, 3) is not held_out.of(2)
    assert [item.scene for item in held_out.of(2, 3)] == first, "arranged once, and the same when drawn"
    assert first == [scenes.sample_scene(3, index, "evaluation", (2, 3)) for index in range(20)]
    others = held_out.others(30, 2, 3)
    assert len(others) == 30 and others.split == "evaluation" and others.size == SIDE
    assert not {repr(one) for one in first} & {repr(others.scene(index)) for index in range(30)}


def test_every_group_measures_a_model_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "OTHERS", 5)
    found = evaluate_scenes(small(), count=3, split="validation")
    assert [*dict.fromkeys(one.group for one in found)] == list(FIGURES)
    assert all(isinstance(one.value, float) and one.value == one.value and one.cases >= 1 for one in found)
    assert len({one.what for one in found}) == len(found), "each figure says by itself what it is"
    for group in FIGURES:
        places = [one.place for one in found if one.group == group and one.place is not None]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"figures": "shapes"}, ValueError, r"figures: expected 'all' or some of recognition, .*, got .shapes."),
        ({"figures": ["words", "x"]}, ValueError, "figures: expected 'all' or some of"),
        ({"figures": []}, ValueError, "figures: expected 'all' or some of"),
        ({"figures": 3}, TypeError, "figures: expected strings"),
        ({"count": 0}, ValueError, "count: expected at least 1, got 0"),
        ({"count": 2.5}, TypeError, "count: expected an integer"),
        ({"seed": -1}, ValueError, "seed: expected at least 0"),
        ({"split": "test"}, ValueError, "split: expected one of"),
    ],
)
def test_wrong_arguments_are_refused_by_their_names(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        evaluate_scenes(small(), **change)


def test_groups_are_measured_in_the_order_and_number_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FIGURES:
        monkeypatch.setitem(FIGURES, name, lambda model, held_out, name=name: iter([Finding(f"of {name}", 1.0, 1)]))
    for asked, expected in (
        ("all", list(FIGURES)),
        ("words", ["words"]),
        (["reading", "pointing", "reading"], ["reading", "pointing"]),
        (("words", "all"), list(FIGURES)),
    ):
        assert [(one.what, one.group) for one in evaluate_scenes(small(), 1, figures=asked)] == [
            (f"of {name}", name) for name in expected
        ]


def test_the_command_prints_a_table_for_each_group_and_writes_all_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, first, second = (
        Finding("a line", 0.25, 7),
        Finding("high: first", 0.5, 4, place=("first", "high")),
        Finding("low: second", 0.125, 9, place=("second", "low")),
    )
    monkeypatch.setitem(FIGURES, "recognition", lambda model, held_out: iter([line]))
    monkeypatch.setitem(FIGURES, "words", lambda model, held_out: iter([line, first, second]))
    command = ["benchmark", "scenes", "--scenes", "2", "--split", "validation", "--out", str(tmp_path)]
    assert cli.main([*command, "--figures", "recognition, words"]) == 0
    told = capsys.readouterr().out
    titles = " ".join(told.split())
    assert titles.count("2 scenes, split validation, seed 0") == 3
    assert titles.count("recognition: ") == 1 and titles.count("words: ") == 2 and "pointing" not in titles
    cells = [re.split(" {2,}", row.strip()) for row in told.splitlines()]
    assert [row for row in cells if row[-1].isdigit()] == [
        ["a line", "0.250", "7"],
        ["a line", "0.250", "7"],
        ["first", "0.500", "-", "4"],
        ["second", "-", "0.125", "9"],
    ]
    written = json.loads((tmp_path / "scenes.json").read_text())
    assert [one["group"] for one in written] == ["recognition", "words", "words", "words"]
    told_of = {"what": "high: first", "value": 0.5, "cases": 4, "group": "words", "place": ["first", "high"]}
    assert written[2] == {**told_of, "interval": None, "p_value": None}
    assert {**asdict(first), "group": "words", "place": ["first", "high"]} == written[2]
    assert cli.main([*command, "--figures", "shapes"]) == 2
    assert "--figures: expected 'all' or some of" in capsys.readouterr().err


def test_the_old_place_has_the_names_of_before() -> None:
    assert scenes_model.evaluate_scenes is experiments.evaluate_scenes is findings.evaluate_scenes
    assert scenes_model.Finding is Finding
    for name in ("zero_shot", "retrieval", "pointing", "words"):
        assert callable(vars(scenes_model)[name])
