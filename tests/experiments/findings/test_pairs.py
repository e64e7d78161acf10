"""Pairs: the captions, the contenders, the baseline of integrated Jacobians written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from open_clip import CLIP
from torch import Tensor

from captum_gradeclip import scenes
from captum_gradeclip.attention import CaptureInput
from captum_gradeclip.experiments.findings import pairs
from captum_gradeclip.experiments.findings.finding import HeldOut
from captum_gradeclip.experiments.pairs import (
    WORDS,
    Growing,
    PairBatch,
    caption,
    contenders,
    growing,
    integrated_jacobians,
)

from ...conftest import relative, varies
from .conftest import SIDE, small


def test_the_places_of_the_words_are_those_of_the_caption() -> None:
    data = pairs.captioned(HeldOut(3, "validation", 0, SIDE), "shape")
    tokenizer = scenes.tokenizer()
    for number in range(3):
        things = data.scene(number).things
        assert things[0].shape == things[1].shape and things[0].colour != things[1].colour
        words = [things[0].colour, things[0].shape, things[1].colour, things[1].shape]
        tokens = tokenizer([caption(things)])[0]
        assert [tokenizer.decode([int(tokens[place])]).strip() for place in WORDS] == words
        for place, word in enumerate(words):
            without = caption(things, without=[place]).split()
            assert len(without) == 6 and caption(things).split().count(word) == without.count(word) + 1


def test_integrated_jacobians_written_out() -> None:
    """In float64, feature by feature: the integrated gradients of both towers, multiplied and added up."""
    model: Any = small().double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 3, SIDE, SIDE, generator=generator).double()
    tokens = scenes.tokenizer()(["a red circle and a blue star"])
    got = integrated_jacobians(model, x, tokens, WORDS, steps=3)
    end = int(tokens[0].argmax())
    blank = tokens.clone()
    blank[0, 1:end] = 0
    text, empty = (model.token_embedding(one)[0] + model.positional_embedding for one in (tokens, blank))
    picture, plain = (_entry(model, one) for one in (x, torch.zeros_like(x)))

    def read(y: Tensor) -> Tensor:
        return model.ln_final(model.transformer(y[None], attn_mask=model.attn_mask))[0, end] @ model.text_projection

    def look(y: Tensor) -> Tensor:
        visual = model.visual
        return visual.ln_post(visual.transformer.resblocks[-1](y[None]))[0, 0] @ visual.proj

    words = _integrated(read, text.detach(), empty.detach())
    patches = _integrated(look, picture, plain)
    expected = torch.einsum("dl,dp->lp", words, patches)[list(WORDS), 1:]
    assert relative(got[0].flatten(1), expected) < 1e-5 and varies(got)


def _entry(model: Any, x: Tensor) -> Tensor:
    with CaptureInput(model.visual.transformer.resblocks[-1]) as entry:
        model.encode_image(x)
    return entry.tensor.detach()[0]


def _integrated(function: Any, x: Tensor, reference: Tensor) -> Tensor:
    """For each feature what each token contributes on the way, ``(D, tokens)``, by three midpoints."""
    features = []
    for d in range(16):
        total = torch.zeros(len(x), dtype=torch.float64)
        for share in (1 / 6, 3 / 6, 5 / 6):
            point = (reference + share * (x - reference)).requires_grad_()
            (gradient,) = torch.autograd.grad(function(point)[d], point)
            total += (gradient * (x - reference)).sum(dim=1) / 3
        features.append(total)
    return torch.stack(features)


def test_each_contender_has_a_map_for_each_word(embedded: CLIP) -> None:
    (shown,) = pairs._judged(embedded, pairs.captioned(HeldOut(2, "validation", 0, 96), "shape"))
    every = {**contenders(embedded), **{one.name: one.make(one.first) for one in growing(embedded)[:1]}}
    for name, explain in every.items():
        maps = explain(shown.batch)
        assert maps.shape == (2, 4, 12, 12) and maps.isfinite().all() and varies(maps[:, 0]), name


@pytest.mark.parametrize("shared", ["", "shape", "color"])
def test_what_is_measured(embedded: CLIP, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "growing", lambda model, coalitions: [])
    held_out = HeldOut(2, "validation", 0, 96)
    found = list(pairs.pairs(embedded, pairs.captioned(held_out, shared), shared))
    kinds = [f"{shared} that stands twice"] if shared else ["color", "shape"]
    assert {one.what.split(": ")[0] for one in found} == {
        f"pair cost, {' and '.join(kinds)}",
        *(f"pair {what}, {kind}" for what in ("pointing", "deletion") for kind in kinds),
    }
    assert len(found) == (2 * len(kinds) + 1) * len(contenders(embedded))
    assert all(one.cases == 2 and one.interval is not None for one in found if not one.what.startswith("pair cost"))
    values = {one.what: one.value for one in found}
    assert all(0 <= value <= 1 for what, value in values.items() if "pointing" in what)
    assert all(values[f"pair pointing, {kind}: oracle"] == 1 for kind in kinds)
    cost = f"pair cost, {' and '.join(kinds)}"
    assert values[f"{cost}: random map"] < values[f"{cost}: WordRegionAttribution"]


def test_a_budget_is_doubled_until_pointing_settles(embedded: CLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(budget: int) -> Any:
        right = contenders(embedded)["oracle"]  # from budget 4 on
        return right if budget >= 4 else lambda batch: -right(batch)

    monkeypatch.setattr(pairs, "contenders", lambda model: {})
    monkeypatch.setattr(pairs, "growing", lambda model, coalitions: [Growing("{} steps", make, 1, coalitions)])
    data = pairs.captioned(HeldOut(2, "validation", 0, 96))
    costs = [
        one.what.split(": ")[1] for one in pairs.pairs(embedded, data, coalitions=64) if one.what.startswith("pair cost")
    ]
    # Two wrong budgets agree with each other as well, and end the search.
    assert costs == ["1 steps", "2 steps"]
    monkeypatch.setattr(pairs, "growing", lambda model, coalitions: [Growing("{} steps", make, 2, coalitions)])
    costs = [
        one.what.split(": ")[1] for one in pairs.pairs(embedded, data, coalitions=64) if one.what.startswith("pair cost")
    ]
    assert costs == ["2 steps", "4 steps", "8 steps"]
    costs = [
        one.what.split(": ")[1] for one in pairs.pairs(embedded, data, coalitions=4) if one.what.startswith("pair cost")
    ]
    assert costs == ["2 steps", "4 steps"]


def test_the_captions_of_a_game_leave_out_what_does_not_stand() -> None:
    data = pairs.captioned(HeldOut(1, "validation", 0, SIDE))
    batch = PairBatch([data[0]], torch.zeros(1), torch.zeros(1))
    (whole,), (none,) = batch.captions(), batch.captions(without=range(4))
    assert whole.split()[0] in ("a", "an") and len(whole.split()) == 7 and len(none.split()) == 3
