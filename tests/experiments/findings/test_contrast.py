"""Contrast: the signs on the things are those of the difference of two maps."""

from __future__ import annotations

import pytest
import torch
from open_clip import CLIP

from captum_gradeclip import GradECLIP, ImageTextScore, scenes
from captum_gradeclip.experiments.findings.contrast import Lookalikes, contrast
from captum_gradeclip.scenes import Phrase


def test_lookalikes_differ_in_their_color() -> None:
    data = Lookalikes(20, "validation", 0, 96)
    assert len(data) == 20 and len({data.scene(index) for index in range(20)}) == 20
    for index in range(20):
        one, other = data.scene(index).things
        assert one.shape == other.shape and one.colour != other.colour
        assert scenes.split_of(data.scene(index).things) == "validation"


def test_signs_are_those_of_the_difference_of_two_maps(embedded: CLIP) -> None:
    data = Lookalikes(12, "validation", 0, 96)
    found = {one.place: one for one in contrast(embedded, data)}
    hits: dict[str, list[tuple[bool, bool]]] = {"single head": [], "single head, rather than the other": []}
    for item in data:
        texts = [Phrase(thing.colour, thing.shape).words() for thing in item.scene.things]
        score = ImageTextScore(embedded, texts, scenes.tokenizer())
        maps = GradECLIP.for_score(score).attribute_targets(scenes.preprocess()(item.image)[None], relu_attributions=False)
        large = torch.nn.functional.interpolate(maps, size=(96, 96), mode="bilinear")[0]
        for named, other in ((0, 1), (1, 0)):
            for row, signed in zip(hits, (large[named], large[named] - large[other])):
                on, off = (float(signed[item.masks[which]].mean()) for which in (named, other))
                hits[row].append((on > 0, off < 0))
    for row, pairs in hits.items():
        for column, values in zip(
            ("positive on the named thing", "negative on the other", "both"),
            ([a for a, _ in pairs], [b for _, b in pairs], [a and b for a, b in pairs]),
        ):
            assert found[row, column].cases == 24
            assert found[row, column].value == pytest.approx(sum(values) / 24)
