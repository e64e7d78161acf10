"""The task of pairs: by hand, with floor and ceiling, and on what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_gradeclip import ImageTextScore, WordRegionAttribution, experiments
from captum_gradeclip.adapters import loading
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import DataArguments, Record, Settings, make_dataset, tasks
from captum_gradeclip.experiments.data import LeftOutError
from captum_gradeclip.metrics import PairDeletion, PairInsertion, PairPointing

from .test_targeted import Painted

SETTINGS = Settings(methods=["GradECLIP", "random", "oracle"])
COUNT = 1


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return loading.load()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, loaded: Loaded) -> list[Record]:
    data = make_dataset("scenes", DataArguments(samples=COUNT, counts=tasks.Pairs.things))
    records = experiments.run(tasks.Pairs, loaded, data, SETTINGS, tmp_path_factory.mktemp("pairs"))
    assert records is not None
    return records


def test_by_the_metrics_of_pairs(found: list[Record], loaded: Loaded) -> None:
    """The same figures as those of the classes of torchmetrics, which are tested by loops."""
    data = make_dataset("scenes", DataArguments(samples=COUNT, counts=tasks.Pairs.things))
    task = tasks.Pairs(loaded, data, SETTINGS)
    left = {record["id"] for record in found if "left_out" in record}
    for number in range(COUNT):
        sample = data[number]
        if str(number) in left:
            continue
        prepared = task.prepare(sample)
        said = task._said(sample, prepared)
        tokens = loaded.tokenizer([said.caption])
        tensor = WordRegionAttribution(loaded.model).attribute(prepared.view.pixels, tokens)
        places = torch.tensor([place + 1 for place, _ in said.words])  # each word is one token, behind the start mark
        count = len(places)
        words = said.caption.split()
        fewer = [" ".join(words[:place] + words[place + 1 :]) for place, _ in said.words]
        score = ImageTextScore(loaded.model, [said.caption, *fewer], loaded.tokenizer)
        images, tensors = prepared.view.pixels.expand(count, -1, -1, -1), tensor.expand(count, -1, -1, -1)
        own = next(one for one in found if one["id"] == sample.id and one["method"] == "WordRegionAttribution")
        for kind, mode, sign in ((PairDeletion, "deletion", -1), (PairInsertion, "insertion", 1)):
            metric = kind(score)
            metric.update(images, tensors, places, torch.zeros(count, dtype=torch.long), 1 + torch.arange(count))
            curve = np.array(own["curves"]["named"][mode]["margin"])
            assert float(metric.compute()) == pytest.approx(sign * (curve[1:].mean() - curve[0]), abs=1e-5)
        pointing = PairPointing()
        masks = torch.stack([sample.mask(said.labels[number]) for _, number in said.words])
        pointing.update(tensors, places, masks)
        assert float(pointing.compute()) == pytest.approx(own["values"]["PG"])


def test_the_table_has_floor_and_ceiling(found: list[Record]) -> None:
    table = tasks.Pairs.table(found, "a title", experiments.FAIR)
    rows = ["WordRegionAttribution", "GradECLIP", "GradECLIP, phrase", "GradECLIP, caption", "RandomMap", "Oracle"]
    assert list(table.rows)[:6] == rows and "Each word that names" in table.note
    assert table.rows["Oracle"]["PG"].value == 1 > table.rows["RandomMap"]["PG"].value


def test_what_is_left_out(loaded: Loaded) -> None:
    data = Painted([0, 0, 1, 1], [0, 0, 0, 0])
    task = tasks.Pairs(loaded, data, SETTINGS)
    assert task._said(data[0], task.prepare(data[0])).caption == "a red circle and a blue star"
    with pytest.raises(LeftOutError, match="shows 1 of the classes"):
        task.prepare(data[1])
    data.classes = ("red-ish circle", "blue star", "green square")
    with pytest.raises(LeftOutError, match="read as the words"):
        task.prepare(data[0])
