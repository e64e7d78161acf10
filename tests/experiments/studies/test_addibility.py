"""Addibility: records against maps that are made one by one, tables and tests against literal sums, zero maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import DataError, Reading, Record, StudySettings, conclude, published, run
from captum_gradeclip.experiments.data import SceneTriples
from captum_gradeclip.experiments.data.triple import TEXTS
from captum_gradeclip.experiments.studies.addibility import COMBINATIONS, Addibility, compare_triple

NAMES = ("matched", "mismatched")


def measured(embedded: Loaded, out: Path, scenes: int = 2, methods: str = "GradECLIP") -> list[Record]:
    records = run(Addibility, embedded, SceneTriples(scenes), StudySettings(methods=methods), out)
    assert records is not None
    return records


def test_records_are_those_of_maps_made_one_by_one(embedded: Loaded, tmp_path: Path) -> None:
    data = SceneTriples(2)
    task = Addibility(embedded, data, StudySettings())
    for record in measured(embedded, tmp_path):
        sample = next(data[n] for n in range(4) if data[n].id == record["id"])
        assert sample.triple is not None
        pixels = task.prepare(sample).view.pixels
        maps, scores = {}, {}
        for name in TEXTS:
            score = ImageTextScore(embedded.model, getattr(sample.triple, name), embedded.tokenizer)
            maps[name] = GradECLIP.for_score(score).attribute(pixels, target=0)[0, 0].double()
            outcome = GradECLIP.for_score(score).outcome(pixels)
            assert outcome.explained_scores is not None
            scores[name] = float(outcome.explained_scores[0, 0])
        for scale in ("normalized", "raw"):
            changed = {n: (m - m.min()) / (m.max() - m.min()) if scale == "normalized" else m for n, m in maps.items()}
            for which in NAMES:
                base, word, phrase = changed["base"], changed[which], changed[f"{which}_phrase"]
                both = {"add": base + word, "multiply": base * word, "maximum": torch.maximum(base, word)}
                both |= {"base alone": base, "word alone": word}
                for name, combined in both.items():
                    expected = float(F.cosine_similarity(combined.flatten(), phrase.flatten(), dim=0))
                    found = record["triple"]["similarity"][scale][name][which]
                    assert found == pytest.approx(expected, abs=1e-5)
        for item in TEXTS[1:]:
            to_base = float(F.cosine_similarity(maps[item].flatten(), maps["base"].flatten(), dim=0))
            assert record["triple"]["to_base"][item] == pytest.approx(to_base, abs=1e-5)
            ratio = record["triple"]["ratios"][item]
            if scores["base"] >= 0.01:
                assert ratio == pytest.approx(scores[item] / scores["base"], abs=1e-4)
            else:
                assert ratio is None


def test_every_picture_is_seen_once(embedded: Loaded, tmp_path: Path) -> None:
    pictures: list[int] = []
    handle = embedded.model.visual.register_forward_hook(lambda _, given, __: pictures.append(len(given[0])))
    try:
        records = measured(embedded, tmp_path, 3)
    finally:
        handle.remove()
    # One more, of a blank input, asks whether the method is defined.
    assert sum(pictures) == sum("triple" in one for one in records) + 1


def maps(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_zero_maps_are_undefined_and_counted() -> None:
    one, other, nothing, both = [1.0, 0, 0], [0.0, 1, 0], [0.0, 0, 0], [1.0, 1, 0]
    scores = torch.tensor([0.2, 0.1, 0.1, 0.3, 0.2])
    found = compare_triple("x", "abcde", maps(one, other, nothing, both, one), scores)
    assert found["zero"] == ["mismatched"] and found["to_base"]["mismatched"] is None
    assert found["similarity"]["raw"]["add"] == {"matched": pytest.approx(1), "mismatched": None}
    assert found["similarity"]["raw"]["base alone"]["matched"] == pytest.approx(2**-0.5)
    # Their product is zero: two words that share no patch.
    assert found["similarity"]["normalized"]["multiply"] == {"matched": None, "mismatched": None}
    assert found["ratios"] == {
        "matched": pytest.approx(0.5),
        "mismatched": pytest.approx(0.5),
        "matched_phrase": pytest.approx(1.5),
        "mismatched_phrase": pytest.approx(1),
    }
    empty = compare_triple("x", "abcde", maps(nothing, nothing, nothing, nothing, nothing), torch.zeros(5))
    assert len(empty["zero"]) == 5 and set(empty["ratios"].values()) == {None}
    assert {v for scale in empty["similarity"].values() for way in scale.values() for v in way.values()} == {None}


def synthetic(count: int, kinds: tuple[str, ...] = ("adjective + noun", "verb + noun")) -> list[Record]:
    generator = torch.Generator().manual_seed(0)
    records: list[Record] = []
    for number in range(count):
        base, first, second = torch.rand(3, 4, 4, generator=generator)
        phrases = base + first + 0.1 * torch.rand(4, 4, generator=generator), base + second
        found = torch.stack([base, first, second, *phrases])
        scores = torch.rand(5, generator=generator)
        triple = compare_triple(kinds[number % len(kinds)], TEXTS, found, scores)
        records.append({"id": str(number), "method": "GradECLIP", "triple": triple})
    return records


def test_tables_and_tests_against_literal_sums() -> None:
    records = synthetic(20)
    report = Addibility.report(records, "addibility", "Grad-ECLIP", "csv", Reading())
    table = report.tables[""]
    for combination in COMBINATIONS:
        for which in NAMES:
            some = [one["triple"] for one in records if one["triple"]["kind"] == "verb + noun"]
            expected = np.mean([one["similarity"]["normalized"][combination][which] or 0.0 for one in some])
            assert table.rows[combination][f"{which}, verb + noun"].value == pytest.approx(expected)
    values = {
        name: [np.mean(list(map(float, one["triple"]["similarity"]["normalized"][name].values()))) for one in records]  # type: ignore[arg-type]
        for name in COMBINATIONS
    }
    for other in ("multiply", "maximum"):
        expected = stats.ttest_rel(values["add"], values[other]).pvalue
        assert table.rows[other]["p against add"].value == pytest.approx(expected)
    assert "closest to the phrase is add in 4 of 4 columns" in report.findings[0]
    x = [one["triple"]["ratios"]["matched"] for one in records if one["triple"]["ratios"]["matched"] is not None]
    y = [one["triple"]["ratios"]["matched_phrase"] for one in records if one["triple"]["ratios"]["matched"] is not None]
    line = stats.linregress(x, y)
    (row,) = [row for row in report.tables["regressions"].rows if row.startswith("ratios, matched")]
    assert report.tables["regressions"].rows[row]["slope"].value == pytest.approx(line.slope)
    assert report.tables["regressions"].rows[row]["R^2"].value == pytest.approx(line.rvalue**2)


def test_the_papers_figures_stand_beside_data_of_ones_own_of_the_same_kinds_only() -> None:
    for data, kinds, shown in (
        ("csv", ("adjective + noun", "verb + noun"), True),
        ("csv", ("something else",), False),
        ("scenes", ("adjective + noun", "relation + noun"), False),
    ):
        report = Addibility.report(synthetic(6, kinds), "addibility", "Grad-ECLIP", data, Reading())
        assert ("(0.975)" in report.markdown()) == shown
    assert published.ADDIBILITY["maximum"]["mismatched, verb + noun"] == 0.9711


def test_one_sample_and_none_that_is_defined() -> None:
    (record,) = synthetic(1)
    report = Addibility.report([record], "addibility", "Grad-ECLIP", "csv", Reading())
    assert "p against add" not in report.tables[""].rows["multiply"]
    flat: Record = {"id": "0", "method": "m", "triple": compare_triple("x", "abcde", torch.zeros(5, 2, 2), torch.zeros(5))}
    report = Addibility.report([flat, {**flat, "id": "1"}], "addibility", "Grad-ECLIP", "csv", Reading())
    assert report.tables[""].rows["add"] == {} and "In 2 of 2 samples the base word scores less" in report.markdown()


def test_files_and_a_second_run_that_measures_nothing(
    embedded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = measured(embedded, tmp_path)
    settings = StudySettings()
    (report,) = conclude(Addibility, embedded, SceneTriples(2), settings, records, Reading())
    files = {file.name for file in report.write(tmp_path)}
    assert {"addibility.md", "addibility.json", "addibility.csv", "addibility.tex", "addibility-panels.png"} <= files
    assert "addibility-maps-0.png" in files and all((tmp_path / name).stat().st_size for name in files)
    content = json.loads((tmp_path / "addibility.json").read_text())
    assert content["samples"] == len(records) and content["tables"]["addibility"]["rows"]["add"] and content["findings"]
    monkeypatch.setattr(Addibility, "measure", lambda *given: pytest.fail("measured again"))
    assert measured(embedded, tmp_path) == records
    with pytest.raises(DataError, match="examples: expected numbers below that of all samples, 4, got 9"):
        conclude(Addibility, embedded, SceneTriples(2), settings, records, Reading(examples=[9]))


def test_a_report_for_each_method(embedded: Loaded, tmp_path: Path) -> None:
    settings = StudySettings(methods=["GradECLIP", "RawAttention"])
    records = run(Addibility, embedded, SceneTriples(2), settings, tmp_path)
    assert records is not None
    reports = conclude(Addibility, embedded, SceneTriples(2), settings, records)
    assert [one.name for one in reports] == ["addibility-GradECLIP", "addibility-RawAttention"]
    # The same map for every text: each combination is that map again, or its square.
    rows = reports[1].tables["raw"].rows
    assert all(cell.value == pytest.approx(1) for name, cell in rows["add"].items() if name != "p against add")
