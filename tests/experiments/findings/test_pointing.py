"""Pointing: maps that are planted, so that the share of hits and the energy on each thing are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from captum_gradeclip import scenes
from captum_gradeclip.experiments.findings import pointing
from captum_gradeclip.scenes import Caption, Phrase, Scene, SceneItem, Thing

from .conftest import SIDE, data, small


def a(colour: str, shape: str, material: str = "plain", size: str = "small") -> Thing:
    return Thing(colour, shape, material, size, x=0.5, y=0.5, radius=0.1, angle=0.0)


class Planted:
    """Grad-ECLIP with one map for every picture and target, and a memory of what it was asked."""

    def __init__(self, map_: Tensor) -> None:
        self.map = map_
        self.asked: list[tuple[Any, Tensor, list[int]]] = []

    def __call__(self, score: Any, layers: object) -> Planted:
        return self.for_score(score)

    def for_score(self, score: Any) -> Planted:
        self.score = score
        return self

    def attribute(self, images: Tensor, target: list[int], **options: object) -> Tensor:
        self.asked.append((self.score, images, target))
        return self.map.expand(len(images), 1, *self.map.shape)


def test_a_prompt_fits_all_things_that_have_what_it_says() -> None:
    things = (a("red", "ring", "striped"), a("red", "ring", size="large"), a("blue", "ring"), a("red", "star"))
    masks = torch.eye(4, dtype=torch.bool).reshape(4, 2, 2)
    item = SceneItem(Image.new("RGB", (2, 2)), masks, Scene(things, 0))
    asked = pointing.prompts_of(things[0])
    fits = {kind: pointing.fitting_mask(item, caption).flatten().tolist() for kind, caption in asked.items()}
    assert fits == {
        "a SHAPE": [True, True, True, False],
        "something COLOUR": [True, True, False, True],
        "a COLOUR SHAPE": [True, True, False, False],
        "a MATERIAL COLOUR SHAPE": [True, False, False, False],
        "a SIZE COLOUR SHAPE": [True, False, False, False],
    }
    assert pointing.prompts_of(a("orange", "star"))["a COLOUR SHAPE"].text == "an orange star"
    assert not pointing.fitting_mask(item, Caption("", (Phrase("green"),))).any()


def test_hits_by_kind_of_prompt_are_counted_thing_by_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted map has its highest pixel at one place, so a prompt is a hit if a thing that it fits lies there."""
    model = small()
    row, column = SIDE // 2, SIDE // 3
    planted = Planted(torch.zeros(SIDE, SIDE))
    planted.map[row, column] = 1.0
    monkeypatch.setattr(pointing, "GradECLIP", planted)
    held_out = data(model, 16, 2, 3)
    found = {one.place: one for one in pointing.prompts(model, held_out)}
    wants = {
        "a SHAPE": ("shape",),
        "something COLOUR": ("colour",),
        "a COLOUR SHAPE": ("colour", "shape"),
        "a MATERIAL COLOUR SHAPE": ("material", "colour", "shape"),
        "a SIZE COLOUR SHAPE": ("size", "colour", "shape"),
    }
    hit = 0.0
    for kind, names in wants.items():
        hits, areas = [], []
        for item in held_out:
            seen = set()
            for thing in item.scene.things:
                said = tuple(getattr(thing, name) for name in names)
                if said in seen:
                    continue
                seen.add(said)
                mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
                for other, its in zip(item.scene.things, item.masks):
                    if tuple(getattr(other, name) for name in names) == said:
                        mask |= its
                hits.append(bool(mask[row, column]))
                areas.append(float(mask.sum()) / SIDE**2)
        game, chance = found[kind, "pointing game"], found[kind, "chance (mean area of the masks)"]
        assert game.cases == chance.cases == len(hits)
        assert abs(game.value - sum(hits) / len(hits)) < 1e-9 and abs(chance.value - sum(areas) / len(areas)) < 1e-6
        hit += game.value
    assert len(found) == 2 * len(wants) and hit > 0
    for score, images, target in planted.asked:
        assert len(images) == len(target) and max(target) < len(score.text_features)


def test_each_prompt_is_asked_of_its_own_picture_by_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    planted, texts = Planted(torch.zeros(SIDE, SIDE)), []
    score = pointing.ImageTextScore
    monkeypatch.setattr(pointing, "GradECLIP", planted)
    monkeypatch.setattr(pointing, "ImageTextScore", lambda *given: texts.append(given[1]) or score(*given))
    held_out = data(model, 3, 2)
    list(pointing.prompts(model, held_out))
    ((_, images, target),), (bound,) = planted.asked, texts
    expected = [
        (number, text)
        for number, item in enumerate(held_out)
        for text in dict.fromkeys(
            caption.text for thing in item.scene.things for caption in pointing.prompts_of(thing).values()
        )
    ]
    pictures = torch.cat([pixels for _, pixels in pointing.batches(model, held_out, "")])
    assert [bound[one] for one in target] == [text for _, text in expected]
    assert torch.equal(images, pictures[[number for number, _ in expected]])


def test_energy_on_two_things_is_what_was_planted() -> None:
    masks = torch.zeros(5, 2, 4, 4, dtype=torch.bool)
    masks[:, 0, :2, :2], masks[:, 1, 2:, 3] = True, True  # 4 pixels, and 2: 6 of 16
    maps = torch.zeros(5, 4, 4)
    maps[0, 0, 0], maps[0, 3, 3] = 2.0, 1.0
    maps[1, 0, 0], maps[1, 3, 3], maps[1, 0, 3] = 1.0, 4.0, 5.0
    maps[2, 0, 0] = 1.0
    maps[3, 0, 3] = 1.0
    balance, gain = pointing.two_things(maps, masks)
    assert torch.allclose(balance, torch.tensor([0.5, 0.25, 0.0, 0.0, 0.0]))
    assert torch.allclose(gain, torch.tensor([1.0, 0.5, 1.0, 0.0, 0.0]) * 16 / 6)
    swapped, same = pointing.two_things(maps[:, None], masks.flip(1))
    assert torch.equal(swapped, balance) and torch.equal(same, gain)
    every = pointing.two_things(torch.rand(5, 4, 4), masks)[1]
    assert (every < 16 / 6).all(), "all of the energy lies on both things only if the map does"


def test_captions_of_two_things_name_both_and_things_alike_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    planted, texts = Planted(torch.arange(float(SIDE)).expand(SIDE, SIDE)), []
    score = pointing.ImageTextScore
    monkeypatch.setattr(pointing, "GradECLIP", planted)
    monkeypatch.setattr(pointing, "ImageTextScore", lambda *given: texts.append(given[1]) or score(*given))
    held_out = data(model, 30, 2)
    alike = Scene((a("red", "ring"), a("red", "ring", "striped", "large")), 0)
    monkeypatch.setattr(held_out, "scene", lambda index, own=held_out.scene: alike if index == 7 else own(index))
    weaker, third, both = pointing.pairs(model, held_out)
    said, balances, gains = [], [], []
    values = torch.arange(float(SIDE)).expand(SIDE, SIDE) / (SIDE - 1)
    for item in held_out:
        one, other = ((thing.colour, thing.shape) for thing in item.scene.things)
        if one == other:
            continue
        said.append(" and ".join(scenes.with_article(" ".join(pair)) for pair in (one, other)))
        energy = sorted(float((values * mask).sum() / values.sum()) for mask in item.masks)
        balances.append(energy[0] / energy[1])
        gains.append(sum(energy) / (float(item.masks.sum()) / SIDE**2))
    assert [text for some in texts for text in some] == said and "a red ring and a red ring" not in said
    assert weaker.cases == third.cases == both.cases == len(said) < 30
    assert abs(weaker.value - sum(balances) / len(said)) < 1e-5
    assert abs(third.value - sum(one >= 1 / 3 for one in balances) / len(said)) < 1e-9 and 0 < third.value < 1
    assert abs(both.value - sum(gains) / len(said)) < 1e-4


def test_hits_and_deletion_of_a_planted_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pixels of the planted map have all their own value, so that the highest tenth of them is known."""
    model = small()
    order = torch.randperm(SIDE**2, generator=torch.Generator().manual_seed(0)).reshape(SIDE, SIDE)
    monkeypatch.setattr(pointing, "GradECLIP", Planted(order.float()))
    held_out = data(model, 10, 2, 3)
    found = {one.what: one for one in pointing.pointing(model, held_out)}
    hits, areas, changes = [], [], []
    kept = (order < SIDE**2 - SIDE**2 // 10).float()
    for item, x in zip(held_out, torch.cat([pixels for _, pixels in pointing.batches(model, held_out, "")])):
        for pair in dict.fromkeys((thing.colour, thing.shape) for thing in item.scene.things):
            same = [(thing.colour, thing.shape) == pair for thing in item.scene.things]
            mask = item.masks[same].any(dim=0)
            hits.append(bool(mask.flatten()[order.argmax()]))
            areas.append(float(mask.float().mean()))
            with torch.no_grad():
                text = model.encode_text(scenes.tokenizer()([" ".join(pair)]), normalize=True)
                before, after = model.encode_image(torch.stack([x, x * kept]), normalize=True) @ text[0]
            changes.append(float(after - before))
    for name in ("Grad-ECLIP", "Grad-ECLIP, model's heads", "Grad-ECLIP without spatial weight"):
        assert found[f"pointing game: {name}"].value == pytest.approx(sum(hits) / len(hits))
        change = found[f"change of the cosine, top 10 % deleted: {name}"]
        assert change.value == pytest.approx(sum(changes) / len(changes), abs=1e-5) and change.cases == len(hits)
    chance = found["pointing game: chance (mean area of the masks)"]
    assert chance.value == pytest.approx(sum(areas) / len(areas)) and abs(chance.value) > 0.01
