"""The task that names one of several things: by hand, resumed, and on pictures that show too little of the classes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, cli, experiments
from captum_gradeclip.adapters import loading
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import PromptScore, Record, RecordError, Scenes, Settings, Subset, tables, tasks
from captum_gradeclip.experiments.data import IGNORE, NOTHING, DataError, LeftOutError
from captum_gradeclip.experiments.identity import identify
from captum_gradeclip.metrics import Schedule

SETTINGS = Settings(methods=["GradECLIP", "random", "oracle"])


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return loading.load()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, loaded: Loaded) -> list[Record]:
    """The records of six scenes."""
    records = experiments.run(tasks.Targeted, loaded, Scenes(6), SETTINGS, tmp_path_factory.mktemp("six"), chunk=4)
    assert records is not None
    return records


class Painted:
    """A gray picture that is twice as wide as high, with bands of classes from the left to the right."""

    name, segmented, templates, classes = "painted", True, ("{}",), ("red circle", "blue star", "green square")

    def __init__(self, *bands: Sequence[int], size: tuple[int, int] = (96, 48)) -> None:
        self.bands, self.size = bands, size
        self.about = {"bands": bands, "size": size}

    def __len__(self) -> int:
        return len(self.bands)

    def __getitem__(self, index: int) -> experiments.Sample:
        width, height = self.size
        bands = torch.tensor(self.bands[index])
        segments = bands.repeat_interleave(width // len(bands)).expand(height, -1)
        colors = np.array([[214, 39, 40], [40, 80, 225], [44, 160, 60], [128, 128, 128], [90, 90, 90]], dtype=np.uint8)
        return experiments.Sample(f"bands-{index}", index, Image.fromarray(colors[segments.numpy()]), 0, segments)


def present(sample: experiments.Sample) -> list[int]:
    assert sample.segments is not None
    return sorted(label for label in set(sample.segments.flatten().tolist()) if label >= 0)


def test_margins_by_hand_in_double_precision(found: list[Record], loaded: Loaded) -> None:
    """Each class of each scene is named once; its score less the best of the others, pixel after pixel."""
    data = Scenes(6)
    task = tasks.Targeted(loaded, data, SETTINGS)
    score = PromptScore(loaded, data.classes, data.templates)
    double = PromptScore(replace(loaded, model=copy.deepcopy(loaded.model).double()), data.classes, data.templates)
    named = 0
    for number in range(6):
        sample = data[number]
        pixels = task.prepare(sample).view.pixels
        labels = present(sample)
        named += len(labels)
        whole: dict[str, list[list[float]]] = {"deletion": [], "insertion": []}
        hits = []
        maps = GradECLIP(score, score.layers[-1:]).attribute_targets(pixels, labels).transpose(0, 1)
        for label, heat in zip(labels, maps[:, None]):
            height, width = pixels.shape[-2:]
            order = F.interpolate(heat, size=(height, width), mode="bilinear", align_corners=False).flatten()
            order = order.argsort(descending=True, stable=True)
            large = F.interpolate(heat, size=sample.mask(label).shape, mode="bilinear", align_corners=False)
            hits.append(float(sample.mask(label).flatten()[large.flatten().argmax()] == 1))
            image = pixels[0].double().flatten(1)
            empty = image.mean(dim=1, keepdim=True).expand_as(image)
            for mode, (before, after) in {"deletion": (image, empty), "insertion": (empty, image)}.items():
                margins = []
                for step in range(11):
                    changed = before.clone()
                    taken = order[: round(height * width * step / 20)]
                    changed[:, taken] = after[:, taken]
                    with torch.no_grad():
                        scores = double(changed.view(1, 3, height, width))[0].tolist()
                    margins.append(scores[label] - max(scores[other] for other in labels if other != label))
                whole[mode].append(margins)
        own = next(one for one in found if one["id"] == sample.id and one["method"] == "GradECLIP")
        assert own["values"]["PG"] == pytest.approx(np.mean(hits))
        for mode, curves in whole.items():
            assert np.allclose(own["curves"]["named"][mode]["margin"], np.mean(curves, axis=0), atol=1e-5), (number, mode)
    assert named > 12  # some of these scenes show more than two


def test_a_run_goes_on_where_it_was(found: list[Record], loaded: Loaded, tmp_path: Path) -> None:
    calls: list[int] = []

    class Counted(tasks.Targeted):
        def measure(self, samples: Sequence[tasks.Prepared]) -> list[Record]:
            calls.append(len(samples))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().measure(samples)

    with pytest.raises(KeyboardInterrupt):
        experiments.run(Counted, loaded, Scenes(6), SETTINGS, tmp_path, chunk=4)
    assert experiments.run(Counted, loaded, Scenes(6), SETTINGS, tmp_path, chunk=4) == found and calls == [4, 2, 2]
    said = replace(SETTINGS, baseline="own-mean")  # which is the task's own
    assert experiments.run(Counted, loaded, Scenes(6), said, tmp_path, chunk=4) == found and len(calls) == 3
    with pytest.raises(RecordError, match=r'with other baseline \(there "own-mean", now "random"\)'):
        experiments.run(Counted, loaded, Scenes(6), replace(SETTINGS, baseline="random"), tmp_path, chunk=4)


def test_the_table_has_floor_and_ceiling_and_tests_the_two_best(found: list[Record]) -> None:
    table = tasks.Targeted.table(found, "a title", experiments.FAIR)
    assert list(table.columns) == ["PG", "Del loss", "Del loss / oracle", "Ins gain", "Ins gain / oracle"]
    assert table.title == "a title (6 samples)" and list(table.rows) == ["GradECLIP", "RandomMap", "Oracle", tables.P_VALUE]
    rows = table.rows
    assert rows["Oracle"]["PG"].value == 1 and rows["Oracle"]["Del loss / oracle"].value == 1
    for column in ("Del loss", "Ins gain"):
        floor, middle, ceiling = (rows[row][column].value for row in ("RandomMap", "GradECLIP", "Oracle"))
        assert floor < middle < ceiling and table.best(column) == "GradECLIP"
        assert rows["GradECLIP"][f"{column} / oracle"].value == pytest.approx(middle / ceiling)
        assert rows["GradECLIP"][column].low < middle < rows["GradECLIP"][column].high
    curves = [one["curves"]["named"]["deletion"]["margin"] for one in found if one["method"] == "GradECLIP"]
    assert rows["GradECLIP"]["Del loss"].value == pytest.approx(np.mean([c[0] - np.mean(c[1:]) for c in curves]))

    # Two that compete are tested by their values for all samples.
    both: list[Record] = [*found, *({**one, "method": "GAME"} for one in found if one["method"] == "RandomMap")]
    table = tasks.Targeted.table(both, "", experiments.FAIR)
    values = {
        method: [
            np.mean(one["curves"]["named"]["insertion"]["margin"][1:]) - one["curves"]["named"]["insertion"]["margin"][0]
            for one in both
            if one["method"] == method
        ]
        for method in ("GradECLIP", "GAME")
    }
    expected = stats.ttest_rel(values["GradECLIP"], values["GAME"]).pvalue
    assert table.rows[tables.P_VALUE]["Ins gain"].value == pytest.approx(expected)
    assert set(table.rows[tables.P_VALUE]) == {"PG", "Del loss", "Ins gain"}

    # Without a ceiling above nothing there is no share of it.
    for some in ([one for one in found if one["method"] != "Oracle"], [replaced(one, "Oracle") for one in found]):
        assert "Del loss / oracle" not in tasks.Targeted.table(some, "", experiments.FAIR).columns
    one_sample = [one for one in both if one["id"] == found[0]["id"]]
    assert not tasks.Targeted.table(one_sample, "", experiments.FAIR).rows[tables.P_VALUE]
    assert tasks.Targeted.table([], "", experiments.FAIR).rows == {tables.P_VALUE: {}}


def replaced(record: Record, method: str) -> Record:
    """A record of a method that wins and loses nothing, if it is of this method."""
    flat: Record = {**record, "curves": {"named": {mode: {"margin": [0.5] * 11} for mode in ("deletion", "insertion")}}}
    return flat if record["method"] == method else record


def test_tables_of_one_sample_have_no_test() -> None:
    curve = {"deletion": {"1": [1.0, 0.5, 0.0]}, "insertion": {"1": [0.0, 0.5, 0.5]}}
    records: list[Record] = [{"id": "a", "method": method, "curves": {"GT": curve}} for method in ("GradECLIP", "GAME")]
    table = tables.curve_table(records, "")
    assert list(table.columns) == ["Del GT@1", "Ins GT@1", "IMD GT@1"]
    assert set(table.rows[tables.P_VALUE]) == {"Del GT@1", "Ins GT@1"}  # whose points are compared, not their one value


def test_pictures_of_fewer_than_two_classes_are_left_out_and_counted(loaded: Loaded, tmp_path: Path) -> None:
    data = Painted([0, NOTHING], [0, 1], [2, IGNORE], [NOTHING, IGNORE], [1, 2])
    settings = Settings(methods=["random"])
    records = experiments.run(tasks.Targeted, loaded, data, settings, tmp_path)  # none of them is broken
    assert records is not None and [one["id"] for one in records if "method" in one] == ["bands-1", "bands-4"]
    assert [one["left_out"] for one in records if "left_out" in one] == [
        "bands-0: it shows 1 of the classes; this task names one of at least two",
        "bands-2: it shows 1 of the classes; this task names one of at least two",
        "bands-3: it shows none of the classes; this task names one of at least two",
    ]
    table = experiments.tabulate(tasks.Targeted, records, data, settings, tmp_path)
    assert "(2 samples)" in table.title
    assert table.note.endswith("3 samples in which this task has nothing to ask for were left out.")
    assert experiments.run(tasks.Targeted, loaded, data, settings, tmp_path) == records
    nothing = experiments.run(tasks.Targeted, loaded, Subset(data, 1), settings, tmp_path / "nothing")
    assert nothing is not None and len(nothing) == 1
    table = experiments.tabulate(tasks.Targeted, nothing, data, settings, tmp_path)
    assert (
        "(0 samples)" in table.title and "1 samples in which this task has nothing" in (tmp_path / "targeted.md").read_text()
    )


def test_a_class_is_named_if_the_model_sees_it(loaded: Loaded) -> None:
    """The middle half of the picture is all that a crop shows, and all that the released setup judges."""
    data = Painted([0, 1, 1, 2], [0, 1, 2, 2], [0, 0, NOTHING, 1])
    for settings, expected in (
        (Settings(), [[0, 1, 2], [0, 1, 2], [0, 1]]),
        (Settings(resize="crop"), [None, [1, 2], None]),
        (Settings(protocol="release"), [None, [1, 2], None]),
    ):
        task = tasks.Targeted(loaded, data, replace(settings, methods=["oracle", "random"]))
        task.begin()
        for number, labels in enumerate(expected):
            if labels is None:
                with pytest.raises(LeftOutError, match="it shows 1 of the classes"):
                    task.prepare(data[number])
                continue
            task.prepare(data[number])
            records = task.measure([task.prepare(data[number])])
            (record,) = (one for one in records if one["method"] == "RandomMap")
            # What the record says is what the classes give that are seen.
            (group,) = task.groups([task.prepare(data[number])])
            scores = task.judge(group.pixels)[0].tolist()
            margins = [scores[label] - max(scores[other] for other in labels if other != label) for label in labels]
            assert record["curves"]["named"]["deletion"]["margin"][0] == pytest.approx(np.mean(margins), abs=1e-5)
            assert records[0]["method"] == "Oracle" and records[0]["values"]["PG"] == 1


def test_the_steps_are_the_same_under_both_setups(loaded: Loaded, tmp_path: Path) -> None:
    data = Painted([0, 1], [2, 1])
    runs = {}
    for protocol in experiments.SETUPS:
        settings = Settings(methods=["random", "oracle"], protocol=protocol)
        records = experiments.run(tasks.Targeted, loaded, data, settings, tmp_path / protocol)
        assert records is not None
        runs[protocol] = records
        for one in records:
            assert all(len(one["curves"]["named"][mode]["margin"]) == 11 for mode in ("deletion", "insertion"))
        said = json.loads((tmp_path / protocol / "run.json").read_text())
        assert said["schedule"] == repr(Schedule()) and said["baseline"] == "own-mean"
    black, mean = (runs[protocol][-1]["curves"]["named"]["insertion"]["margin"] for protocol in ("release", "fair"))
    assert runs["fair"][-1]["method"] == "Oracle" and black != mean
    other = identify(tasks.Localization(loaded, data, Settings()), 16)
    assert other["baseline"] == "random" and other["schedule"] == repr(experiments.FAIR.schedule)


def test_a_map_that_names_nothing_tells_two_classes_not_apart(loaded: Loaded, tmp_path: Path) -> None:
    """What one class wins over the other, the other loses against it, so that one map for both gives exactly nothing."""
    settings = Settings(methods=["random", "RawAttention", "oracle"])
    records = experiments.run(tasks.Targeted, loaded, Scenes(3, counts=(2,)), settings, tmp_path)
    assert records is not None
    measured = [one for one in records if "method" in one]
    for one in measured:
        changes = [np.abs(one["curves"]["named"][mode]["margin"]).max() for mode in ("deletion", "insertion")]
        assert (max(changes) < 1e-6) == (one["method"] != "Oracle"), one["method"]
    assert len(measured) >= 6


def test_by_the_command_line(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Index masks, of which one shows a single class; the baseline is the task's own unless another one is named."""
    data = Painted([0, 1], [0, 0], [2, 1])
    for number in range(3):
        sample = data[number]
        assert sample.segments is not None
        for folder, picture in (
            ("images", sample.image),
            ("annotations", Image.fromarray(sample.segments.numpy().astype(np.uint8))),
        ):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / "data" / folder / f"{number}.png")
    (tmp_path / "names.txt").write_text("\n".join(data.classes))
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "targeted", "--data", "masks", "--root", "data", "--class-names", "names.txt"]
    command += ["--methods", "GradECLIP,random,oracle"]
    assert cli.main([*command, "--out", "own"]) == 0
    assert cli.main([*command, "--out", "black", "--baseline", "black"]) == 0
    assert "Del loss" in capsys.readouterr().out
    tables_ = {name: (tmp_path / name / "targeted-masks" / "targeted.csv").read_text() for name in ("own", "black")}
    assert tables_["own"] != tables_["black"] and tables_["own"].count("oracle (mask)") == 5
    assert (tmp_path / "own" / "targeted-masks" / "targeted-curves.png").exists()
    said = json.loads((tmp_path / "own" / "targeted-masks" / "run.json").read_text())
    assert said["baseline"] == "own-mean"
    for other in ("folders", "coco"):  # without masks, nobody knows what is there
        task = tasks.Targeted(loaded, Scenes(1), SETTINGS)
        with pytest.raises(DataError, match="it has no segments"):
            task.prepare(replace(Scenes(1)[0], segments=None, id=other))
