"""Planted faults: what each changes, and that the shares are counts of reports."""

from __future__ import annotations

import pytest
import torch
from open_clip import CLIP

from captum_gradeclip import adapters, scenes, trust
from captum_gradeclip.attr import GradECLIP
from captum_gradeclip.experiments.findings import guards
from captum_gradeclip.experiments.findings.finding import pair_score
from captum_gradeclip.scenes import Phrase

from .conftest import data


def test_faults_change_what_they_say_and_nothing_else(embedded: CLIP) -> None:
    before = {name: weight.clone() for name, weight in embedded.state_dict().items()}
    shuffled = guards.with_shuffled_weights(embedded, 0)
    for name, weight in shuffled.state_dict().items():
        own = before[name].flatten()
        assert torch.equal(weight.flatten().sort().values, own.sort().values), "the same numbers"
        moved = "visual." in name and len(own.unique()) > 8
        assert torch.equal(weight, before[name]) != moved, name
    x = scenes.preprocess()(data(embedded, 1, 1)[0].image)[None]
    with torch.no_grad():
        assert guards.with_saturated_features(embedded).encode_image(x).abs().gt(0.99).float().mean() > 0.95
    item = data(embedded, 1, 2)[0]
    image = guards.normalized_by(embedded, (0.0,) * 3, (1.0,) * 3)(item.image)
    assert torch.allclose(image * 2 - 1, adapters.preprocessing(embedded).pixels(item.image), atol=1e-6)
    assert all(torch.equal(weight, before[name]) for name, weight in embedded.state_dict().items())


def test_the_shares_are_counts_of_reports(embedded: CLIP) -> None:
    held_out = data(embedded, 3, 1, 2, 3)
    found = {one.place: one for one in guards.planted(embedded, held_out)}
    alarms, sound = [], []
    for number in range(3):
        item = held_out[number]
        thing = item.scene.things[0]
        text = scenes.with_article(Phrase(thing.colour, thing.shape).words())
        if guards.is_sound(embedded, item, number) and guards.is_found_by_the_explained_pass(embedded, item):
            sound.append(not trust(embedded, item.image, text, scenes.tokenizer(), seed=number).trusted)
        report = trust(embedded, item.image, guards.UNKNOWN[number], scenes.tokenizer(), seed=number)
        alarms.append(any(one.fired for one in report.findings if one.guard == "fit"))
    assert sound and found[guards.NO_FAULT, guards.ANY].cases == len(sound)
    assert found[guards.NO_FAULT, guards.ANY].value == pytest.approx(sum(sound) / len(sound))
    assert found["unknown words", "fit"].value == pytest.approx(sum(alarms) / 3)
    for fault in ("shuffled weights", "saturated features", "no normalization", "mean and std of CLIP"):
        assert found[fault, guards.ANY].value == 1.0


def test_what_the_explained_pass_finds_is_counted_otherwise(embedded: CLIP) -> None:
    """Its ranks of all pairs of color and shape, counted one by one from the scores of the pass."""
    held_out, told = data(embedded, 12, 2, 3), []
    score = pair_score(embedded)
    for number in range(12):
        item = held_out[number]
        scores = (
            GradECLIP.for_score(score).outcome(adapters.preprocessing(embedded).pixels(item.image)[None]).explained_scores
        )
        assert scores is not None
        things = {thing.pair for thing in item.scene.things}
        better = sum(float(one) > float(scores[0, item.scene.things[0].pair]) for one in scores[0])
        told.append(better < len(things))
        assert guards.is_found_by_the_explained_pass(embedded, item) == told[-1]
    assert len(set(told)) == 2, "some are found, and some are not"
