"""Prompt ensembles."""

from __future__ import annotations

import open_clip
import pytest
import torch

from captum_gradeclip import scenes
from captum_gradeclip.scores.prompts import imagenet_templates, prompt_ensemble


def test_prompt_ensemble_is_the_mean_direction() -> None:
    model, _, tokenizer = scenes.load()
    templates = ["a {}", "something {} here", "{}"]
    got = prompt_ensemble(model, tokenizer, ["red circle", "star"], templates)
    with torch.no_grad():
        for row, name in zip(got, ("red circle", "star")):
            units = [model.encode_text(tokenizer([one.replace("{}", name)]))[0] for one in templates]
            total = sum((one / one.norm() for one in units), torch.zeros(()))
            assert torch.allclose(row, total / total.norm(), atol=1e-6)
    assert torch.equal(
        prompt_ensemble(model, tokenizer, "star", "a {}"), prompt_ensemble(model, tokenizer, ["star"], ["a {}"])
    )
    for names, some, message in (([], ["{}"], "at least one of each"), (["a"], ["b"], "in the place of the name")):
        with pytest.raises(ValueError, match=message):
            prompt_ensemble(model, tokenizer, names, some)


def test_templates_are_those_of_the_zero_shot_classifier() -> None:
    assert len(imagenet_templates()) == 80
    assert imagenet_templates()[3] == open_clip.OPENAI_IMAGENET_TEMPLATES[3]("{}")
