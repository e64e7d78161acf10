"""Attributes: records against maps that are made one by one, masks of all kinds, and what follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import Reading, Record, StudySettings, conclude, run
from captum_gradeclip.experiments.data import Region, SceneRegions
from captum_gradeclip.experiments.studies.attributes import MARGIN, UNIFORM, Attributes, compare_regions
from captum_gradeclip.maps import stretched
from captum_gradeclip.metrics import js_divergence, kl_divergence, optimal_transport


def test_records_are_those_of_maps_made_one_by_one(embedded: Loaded, tmp_path: Path) -> None:
    data = SceneRegions(2)
    settings = StudySettings(grid=8, cost="squared")
    task = Attributes(embedded, data, settings)
    records = run(Attributes, embedded, data, settings, tmp_path)
    assert records is not None
    for number, record in enumerate(records):
        sample = data[number]
        pixels = task.prepare(sample).view.pixels
        assert [one["text"] for one in record["regions"]] == [region.text for region in sample.regions]
        for found, region in zip(record["regions"], sample.regions):
            score = ImageTextScore(embedded.model, region.text, embedded.tokenizer)
            small = GradECLIP.for_score(score).attribute(pixels, target=0)
            heat = stretched(F.interpolate(small, size=region.mask.shape, mode="bilinear")[0].double())
            mask = region.mask[None].double()
            expected = {
                "cosine": float(F.cosine_similarity(heat.flatten(), mask.flatten(), dim=0)),
                UNIFORM: float(mask.mean().sqrt()),
                "Pearson": float(np.corrcoef(heat.flatten(), mask.flatten())[0, 1]),
                "covariance": float(np.cov(heat.flatten(), mask.flatten(), bias=True)[0, 1]),
                "OTD": float(optimal_transport(heat, mask, 8, "squared")),
                "KLD": float(kl_divergence(heat, mask)),
                "JSD": float(js_divergence(heat, mask)),
            }
            if region.others is not None:
                others = float(F.cosine_similarity(heat.flatten(), region.others.double().flatten(), dim=0))
                expected[MARGIN] = expected["cosine"] - others
            else:
                assert found["values"].pop(MARGIN) is None
            assert found["values"] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_every_picture_is_seen_once(embedded: Loaded, tmp_path: Path) -> None:
    pictures: list[int] = []
    handle = embedded.model.visual.register_forward_hook(lambda _, given, __: pictures.append(len(given[0])))
    try:
        run(Attributes, embedded, SceneRegions(3), StudySettings(), tmp_path)
    finally:
        handle.remove()
    assert sum(pictures) == 3 + 1  # and a blank one, by which the method is tried


def test_maps_that_are_right_wrong_and_zero() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, :2] = True
    other = mask.flip(0, 1)
    heat = torch.stack([mask.float(), other.float(), torch.zeros(4, 4), mask.float()])
    regions = [Region("a", "color", mask, other)] * 3 + [Region("a", "color", mask)]
    right, wrong, zero, alone = compare_regions(heat, regions, StudySettings())
    assert right["values"] == pytest.approx(
        {"cosine": 1, UNIFORM: 0.5, MARGIN: 1, "Pearson": 1, "covariance": 3 / 16, "OTD": 0, "KLD": 0, "JSD": 0}, abs=1e-5
    )
    assert wrong["values"]["cosine"] == 0 and wrong["values"][MARGIN] == pytest.approx(-1)
    assert wrong["values"]["JSD"] == pytest.approx(np.log(2)) and wrong["values"]["OTD"] == pytest.approx(np.sqrt(2) / 2)
    assert zero["zero"] and zero["values"]["cosine"] is None and zero["values"]["Pearson"] is None
    assert zero["values"]["JSD"] == pytest.approx(float(js_divergence(torch.ones(1, 4, 4), mask[None])))
    assert alone["values"][MARGIN] is None and not alone["zero"]


def synthetic() -> list[Record]:
    """Colors that are found, places that are not, and "left" which does not help."""
    generator = torch.Generator().manual_seed(0)
    settings = StudySettings(grid=4)
    records: list[Record] = []
    for number in range(12):
        mask = torch.zeros(8, 8, dtype=torch.bool)
        mask[:3, :3] = True
        other = mask.flip(0, 1)
        noise = 0.3 * torch.rand(5, 8, 8, generator=generator)
        heat = noise + torch.stack([mask, mask | other, mask | other, mask | other, torch.zeros_like(mask)]).float()
        kinds = ("color", "location", "left thing: shape", "left thing: location + shape", "left thing: location")
        regions = [Region(kind.rpartition(" ")[2], kind, mask, other) for kind in kinds]
        records.append({"id": str(number), "method": "GradECLIP", "regions": compare_regions(heat, regions, settings)})
    return records


def test_what_follows() -> None:
    records = synthetic()
    report = Attributes.report(records, "attributes", "Grad-ECLIP", "clevr", Reading())
    table = report.tables[""]
    assert list(table.rows) == ["color", "location"] and table.best("cosine") == "color" and table.best("OTD") == "color"
    values = [one["values"]["KLD"] for record in records for one in record["regions"] if one["kind"] == "color"]
    assert table.rows["color"]["KLD"].value == pytest.approx(np.mean([value or 0.0 for value in values]))
    assert (
        next(iter(report.tables["phrases"].rows)) == "left thing: shape" and "color (color)" in report.tables["words"].rows
    )
    said = "\n".join(report.findings)
    assert "by cosine: color > location" in said
    assert "not told apart from other things (the interval of own - others reaches 0): location" in said
    assert '"left" before the shape changes cosine to the left one of two things by' in said and "(12 pictures)" in said
    # The paper's figures, since these are its pictures; not beside others.
    assert "(0.665)" in report.markdown()
    assert "(0.665)" not in Attributes.report(records, "a", "Grad-ECLIP", "scenes", Reading()).markdown()
    assert len(report.texts["texts.csv"].splitlines()) == 1 + 12 * 5


def test_report_and_picture(embedded: Loaded, tmp_path: Path) -> None:
    data, settings = SceneRegions(3), StudySettings()
    records = run(Attributes, embedded, data, settings, tmp_path)
    assert records is not None
    (report,) = conclude(Attributes, embedded, data, settings, records, Reading(examples=[1]))
    assert {"margins", "maps-0"} == set(report.figures)
    files = {file.name for file in report.write(tmp_path)}
    assert {"attributes.tex", "attributes-words.csv", "attributes-texts.csv", "attributes-maps-0.png"} <= files
    labels = [text.get_text() for axis in report.figures["maps-0"].axes for text in axis.texts]
    labels += [text.get_text() for text in report.figures["maps-0"].texts]
    assert data[1].regions[0].text in labels
