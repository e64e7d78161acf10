"""Heads: records against maps and models made one by one, and what follows from them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import Reading, StudySettings, conclude, run
from captum_gradeclip.experiments.data import DataError, SceneRegions
from captum_gradeclip.experiments.records import HeadResult
from captum_gradeclip.experiments.studies import Heads
from captum_gradeclip.experiments.studies.head_figures import ALL, HeadFigures, head_rows, over_all_texts
from captum_gradeclip.experiments.studies.heatmap import Heatmap, heatmaps


def test_records_are_those_of_heads_taken_one_by_one(embedded: Loaded, tmp_path: Path) -> None:
    """Each map is one of Grad-ECLIP's, layer by layer; each loss that of a copy whose head writes nothing."""
    data, settings = SceneRegions(2), StudySettings()
    task = Heads(embedded, data, settings)
    records = run(Heads, embedded, data, settings, tmp_path)
    assert records is not None and len(records) == 2
    for number, record in enumerate(records):
        sample = data[number]
        pixels = task.prepare(sample).view.pixels
        assert not any(one["kind"].startswith("left thing") for one in record["heads"])
        for found in record["heads"]:
            regions = [region for region in sample.regions if region.kind == found["kind"]]
            assert found["texts"] == len(regions)
            texts = [region.text for region in regions]
            score = ImageTextScore(embedded.model, texts, embedded.tokenizer)
            with torch.no_grad():
                own = score(pixels)[0].double()
            assert found["score"] == pytest.approx(float(own.mean()), abs=1e-6)
            assert found["chance"] == pytest.approx(np.mean([float(one.mask.double().mean()) for one in regions]))
            for layer in range(2):
                signed = {"heads": "each", "spatial_weight": "softmax", "relu_attributions": False}
                method = GradECLIP(score, score.layers[layer])
                maps = torch.cat([method.attribute(pixels, text, **signed) for text in range(len(texts))])
                patches = maps.double().sum((2, 3))
                assert np.allclose(found["patches"][layer], patches.mean(0), atol=1e-6)
                for head in range(2):
                    hits = [_points(one[head], region.mask) for one, region in zip(maps, regions)]
                    assert found["pointing"][layer][head] == pytest.approx(np.mean(hits))
                    changed = copy.deepcopy(embedded.model)
                    width = changed.visual.transformer.width // 2
                    attention = changed.visual.transformer.resblocks[layer].attn
                    with torch.no_grad():
                        attention.out_proj.weight[:, head * width : (head + 1) * width] = 0
                        lost = own - ImageTextScore(changed, texts, embedded.tokenizer)(pixels)[0].double()
                    assert found["lost"][layer][head] == pytest.approx(float(lost.mean()), abs=1e-6)
                together = [_points(one.sum(0), region.mask) for one, region in zip(maps, regions)]
                assert found["together"][layer] == pytest.approx(np.mean(together))
    assert len({value for one in records[0]["heads"] for row in one["lost"] for value in row}) > 4


def _points(signed: torch.Tensor, mask: torch.Tensor) -> bool:
    heat = F.interpolate(signed[None, None].float(), size=mask.shape, mode="bilinear")[0, 0]
    return bool(mask.flatten()[heat.flatten().argmax()])


def result(pointing: float, layers: int = 1, heads: int = 2, texts: int = 1, kind: str = "color") -> HeadResult:
    """The first head points so often, all others never."""
    zeros = [[0.0] * heads for _ in range(layers)]
    first = [[pointing if not layer and not head else 0.0 for head in range(heads)] for layer in range(layers)]
    return {
        "kind": kind,
        "texts": texts,
        "pointing": first,
        "together": [0.25] * layers,
        "carried": zeros,
        "patches": zeros,
        "lost": first,
        "score": 0.5,
        "chance": 0.1,
    }


def test_the_best_head_is_measured_on_pictures_that_it_was_not_chosen_by() -> None:
    read = HeadFigures([result(1.0), result(0.0), result(1.0), result(0.5)])
    assert read.best() == ("layer 1, head 1", [0.0, 0.5])
    assert over_all_texts([result(1.0, texts=3), result(0.0, texts=1)])["pointing"] == [[0.75, 0.0]]
    with pytest.raises(DataError, match="same numbers of layers and heads"):
        HeadFigures([result(1.0), result(1.0, heads=3)])


def test_of_many_heads_the_best_and_the_most_needed_have_rows() -> None:
    rows = head_rows(HeadFigures([result(1.0, layers=6, heads=8)] * 2))
    assert "layer 1, head 1" in rows and sum("all heads" in row for row in rows) == 6 and len(rows) <= 24 + 6
    assert rows["layer 1, head 1"]["lost without it"].value == 1.0
    few = head_rows(HeadFigures([result(1.0)] * 2))
    assert list(few) == ["layer 1, head 1", "layer 1, head 2", "layer 1, all heads"]


def test_report_and_pictures(embedded: Loaded, tmp_path: Path) -> None:
    data, settings = SceneRegions(3), StudySettings()
    records = run(Heads, embedded, data, settings, tmp_path)
    assert records is not None
    (report,) = conclude(Heads, embedded, data, settings, records, Reading(examples=[1]))
    assert {"heads", "kinds", "maps-0"} == set(report.figures)
    assert list(report.tables[""].rows) == [
        f"layer {n}, {what}" for n in (1, 2) for what in ("head 1", "head 2", "all heads")
    ]
    kinds = report.tables["kinds"].rows
    assert kinds[ALL]["texts"].value == sum(cells["texts"].value for kind, cells in kinds.items() if kind != ALL)
    lines = report.texts["all.csv"].splitlines()
    assert len(lines) == 1 + 4 * len(kinds) and lines[1].startswith("all texts,1,1,")
    said = "\n".join(report.findings)
    assert "color: layer" in said and "head by head: slope" in said and "the score falls most without layer" in said
    names = {file.name for file in report.write(tmp_path)}
    assert {"heads.tex", "heads-kinds.csv", "heads-all.csv", "heads-heads.png", "heads-maps-0.png"} <= names


def test_other_methods_are_refused(embedded: Loaded) -> None:
    task = Heads(embedded, SceneRegions(1), StudySettings(methods=["RawAttention"]))
    with pytest.raises(ValueError, match="methods: expected GradECLIP alone"):
        task.begin()


def test_heatmaps_of_all_sizes() -> None:
    large = Heatmap("many", np.random.default_rng(0).normal(size=(24, 16)), [str(n) for n in range(24)], ["h"] * 16, "x")
    blank = Heatmap("nothing known", np.full((1, 1), np.nan), ["1"], ["1"], "x", signed=True)
    small = Heatmap("small", np.array([[0.01, -0.02]]), ["1"], ["1", "2"], "x", signed=True)
    figure = heatmaps([large, blank, small])
    drawn = [axis for axis in figure.axes if axis.get_title()]
    assert [len(axis.texts) for axis in drawn] == [0, 0, 2] and drawn[2].texts[1].get_text() == "-0.0200"
    low, high = drawn[2].images[0].get_clim()
    assert (low, high) == (-0.02, 0.02), "zero is the middle"
