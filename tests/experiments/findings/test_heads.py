"""Heads: the figures against literal loops over scenes, and a model in which the pass and the model are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip import CLIP

from captum_gradeclip import GradECLIP, ImageTextScore, scenes
from captum_gradeclip.attr import GAME, GradECLIPReadings
from captum_gradeclip.experiments.findings import heads
from captum_gradeclip.experiments.findings.finding import PAIRS, pair_score
from captum_gradeclip.metrics import bootstrap_interval, paired_t_test
from captum_gradeclip.scenes import Phrase

from ...conftest import relative
from .conftest import data, small


def pairs(item: scenes.SceneItem) -> list[tuple[str, str]]:
    return sorted({(thing.colour, thing.shape) for thing in item.scene.things})


def test_the_ranking_scene_by_scene(embedded: CLIP) -> None:
    held_out = data(embedded, 6, 2, 3, 4)
    found = [one.value for one in heads.ranking(embedded, held_out)]
    best, order = [], []
    score = ImageTextScore(embedded, [Phrase(*pair).words() for pair in PAIRS], scenes.tokenizer())
    for item in held_out:
        x = scenes.preprocess()(item.image)[None]
        own = score(x)[0].detach()
        single = GradECLIP.for_score(score).outcome(x, heads="single").explained_scores[0]
        best.append(int(own.argmax()) != int(single.argmax()))
        named = [PAIRS.index(pair) for pair in pairs(item)]
        if len(named) > 1:
            ranked = [sorted(named, key=lambda pair: float(one[pair])) for one in (own, single)]
            order.append(ranked[0] != ranked[1])
    assert found == pytest.approx([np.mean(best), np.mean(order)])


def test_with_one_head_nothing_differs() -> None:
    model = small(heads=1)
    held_out = data(model, 4, 2, 3)
    assert [one.value for one in heads.ranking(model, held_out)] == [0.0, 0.0]
    found = {one.what: one.value for one in heads.agreement(model, held_out)}
    assert found[f"correlation of {heads.DEFAULT}, with own heads, loosened"] == pytest.approx(1)
    assert found[f"share below one half: correlation of {heads.DEFAULT}, with own heads, loosened"] == 0


def test_the_readings_are_what_they_are_called(embedded: CLIP) -> None:
    score, x = pair_score(embedded), torch.stack([scenes.preprocess()(item.image) for item in data(embedded, 2, 2)])
    masks = torch.zeros(2, 96, 96, dtype=torch.bool)
    masks[:, 8:40, 8:40] = True
    found = dict(heads.readings(score, x, [3, 5], masks))
    assert len(found) == 16 and heads.DEFAULT in found and len({repr(one) for one in found.values()}) == 16
    method = GradECLIP.for_score(score)
    assert relative(found[heads.DEFAULT], method.attribute(x, [3, 5])) < 1e-6
    assert relative(found["both readings"], GradECLIPReadings.for_score(score).attribute(x, [3, 5])) < 1e-4
    assert relative(found["mean over own heads, softmax"], GAME.for_score(score).attribute(x, [3, 5])) < 1e-4


@pytest.mark.slow
def test_the_judgment_is_of_the_unmodified_model_and_counts_scenes(embedded: CLIP) -> None:
    held_out = data(embedded, 5, 2, 3, 4)
    found = {one.place: one for one in heads.judgment(embedded, held_out)}
    score = pair_score(embedded)
    lost: dict[str, list[float]] = {name: [] for name in (heads.DEFAULT, "oracle (mask)")}
    margins: dict[str, list[float]] = {name: [] for name in lost}
    for item in held_out:
        if len(pairs(item)) < 2:
            continue
        x = scenes.preprocess()(item.image)
        falls: dict[str, list[float]] = {name: [] for name in lost}
        fallen: dict[str, list[float]] = {name: [] for name in lost}
        for pair in pairs(item):
            things = zip(item.scene.things, item.masks)
            mask = torch.stack([one for thing, one in things if (thing.colour, thing.shape) == pair]).any(0)
            column, rivals = PAIRS.index(pair), [PAIRS.index(one) for one in pairs(item) if one != pair]
            maps = dict(heads.readings(score, x[None], [column], mask[None]))
            for name in lost:
                large = torch.nn.functional.interpolate(maps[name], size=(96, 96), mode="bilinear")[0, 0]
                order = large.flatten().argsort(descending=True, stable=True)
                values = []
                for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
                    changed = x.flatten(1).clone()
                    gone = order[: round(share * len(order))]
                    changed[:, gone] = x.mean(dim=(1, 2))[:, None].expand(-1, len(gone))
                    said = score(changed.view_as(x)[None])[0].detach()
                    values.append((float(said[column]), float(said[column] - said[rivals].max())))
                cosines, differences = np.array(values).T
                falls[name].append(cosines[0] - cosines[1:].mean())
                fallen[name].append(differences[0] - differences[1:].mean())
        for name in lost:
            lost[name].append(float(np.mean(falls[name])))
            margins[name].append(float(np.mean(fallen[name])))
    for name in lost:
        one = found[name, "cosine lost by deletion"]
        assert one.value == pytest.approx(np.mean(lost[name]), abs=1e-4) and one.cases == len(lost[name])
        assert found[name, "margin lost by deletion"].value == pytest.approx(np.mean(margins[name]), abs=1e-4)
        assert one.interval == pytest.approx(bootstrap_interval(lost[name]), abs=2e-4)
    assert found["oracle (mask)", "pointing game"].value == 1
    expected = paired_t_test(margins["oracle (mask)"], margins[heads.DEFAULT]).p_value
    assert found["oracle (mask)", "margin lost by deletion"].p_value == pytest.approx(expected, rel=0.05)
    assert found[heads.DEFAULT, "pointing game"].p_value is None
