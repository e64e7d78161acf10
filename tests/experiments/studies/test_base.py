"""What studies of pictures and phrases share: one pass for many pictures, each explained for its own texts."""

from __future__ import annotations

from dataclasses import replace

import torch

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.experiments import StudySettings
from captum_gradeclip.experiments.data import SceneTriples
from captum_gradeclip.experiments.studies import Addibility

TEXTS = (["a ring"], ["red", "a ring", "something blue"], ["red", "red"], ["a star", "blue"])


def test_pictures_share_a_pass_and_keep_their_own_texts(embedded: Loaded) -> None:
    """Also where a picture of another size stands between them, and where each has another number of texts."""
    task = Addibility(embedded, SceneTriples(4), StudySettings(resize="keep"))
    task.begin()
    samples = [replace(task.data[number], index=number) for number in (0, 2, 4, 6)]
    samples[2] = replace(samples[2], image=samples[2].image.resize((96, 64)))
    prepared = [task.prepare(one) for one in samples]
    assert len({one.view.pixels.shape for one in prepared}) == 2
    passes: list[int] = []
    handle = embedded.model.visual.register_forward_hook(lambda _, given, __: passes.append(len(given[0])))
    try:
        found = task.maps_of(task.explainers[0], prepared, TEXTS)
    finally:
        handle.remove()
    assert passes == [2, 1, 1]
    for one, texts, (maps, scores) in zip(prepared, TEXTS, found, strict=True):
        outcome = GradECLIP.for_score(ImageTextScore(embedded.model, texts, embedded.tokenizer)).outcome(one.view.pixels)
        assert outcome.maps is not None and outcome.explained_scores is not None
        assert torch.allclose(maps, outcome.maps[0], atol=1e-5 * float(outcome.maps.abs().max()))
        assert torch.allclose(scores, outcome.explained_scores[0].double(), atol=1e-5)
