"""Recognition: the accuracy of the pass that is explained is that of a pass with one head in the last layer."""

from __future__ import annotations

import torch
from open_clip import CLIP

from captum_gradeclip import scenes
from captum_gradeclip.attention import Interception, single_head
from captum_gradeclip.experiments.findings.recognition import retrieval, zero_shot
from captum_gradeclip.scenes import Phrase

from .conftest import data, small


def test_accuracies_are_those_of_plain_and_of_single_head_passes(embedded: CLIP) -> None:
    held_out = data(embedded, 70, 1)
    own, explained = zero_shot(embedded, held_out)
    names = [Phrase(colour, shape).words() for colour in scenes.COLOURS for shape in scenes.SHAPES]
    tokenizer, preprocess = scenes.tokenizer(), scenes.preprocess()
    hits: dict[str, list[bool]] = {"own": [], "single": []}
    with torch.no_grad():
        texts = embedded.encode_text(tokenizer(names), normalize=True)
        for item in held_out:
            pixels, truth = preprocess(item.image)[None], scenes.name(item.scene.things[0]).text
            cosines = embedded.encode_image(pixels, normalize=True) @ texts.T
            hits["own"].append(names[int(cosines.argmax())] == truth)
            with Interception([embedded.visual.transformer.resblocks[-1]], single_head):
                cosines = embedded.encode_image(pixels, normalize=True) @ texts.T
            hits["single"].append(names[int(cosines.argmax())] == truth)
    assert own.cases == explained.cases == 70
    assert abs(own.value - sum(hits["own"]) / 70) < 1e-9 and abs(explained.value - sum(hits["single"]) / 70) < 1e-9
    assert own.value > 1 / len(names) and hits["own"] != hits["single"], "the embedded model has several heads"
    assert "single-head" in explained.what and "single-head" not in own.what


def test_of_a_model_with_one_head_the_explained_pass_is_the_models_own() -> None:
    model = small(heads=1)
    own, explained = zero_shot(model, data(model, 40, 1))
    assert own.value == explained.value


def test_recall_needs_as_many_scenes_as_it_chooses_among(embedded: CLIP) -> None:
    held_out = data(embedded, 20, 2, 3)
    (found,) = retrieval(embedded, held_out, among=8)
    assert found.cases == 16 and found.value > 0.5
    assert not list(retrieval(embedded, held_out, among=32))
