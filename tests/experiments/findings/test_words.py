"""Words: planted weights, so that what outweighs what is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip import CLIP

from captum_gradeclip import GradECLIP, TextImageScore, scenes
from captum_gradeclip.experiments.findings import words
from captum_gradeclip.maps import merge_words
from captum_gradeclip.scenes.vocabulary import grammar_words

from .conftest import data, small


def test_every_word_of_the_grammar_is_of_one_kind() -> None:
    sets = [*words.KINDS.values(), words.FUNCTION_WORDS]
    assert sorted(word for some in sets for word in some) == grammar_words()
    assert {"a", "an", "the", "of", "and", "there", "is", "picture", "something", "things"} <= words.FUNCTION_WORDS
    assert {"left", "under", "top"} <= words.KINDS["relation"] and {"one", "four"} <= words.KINDS["number"]
    assert {"cross", "crosses", "ring", "rings"} <= words.KINDS["shape"]


def test_each_word_has_to_outweigh_every_function_word() -> None:
    caption = [("a", 0.2), ("red", 0.5), ("ring", 0.3), ("and", 0.25), ("a", 0.1), ("blue", 0.22), ("star", 0.4)]
    assert words.outweighs(caption, words.KINDS["shape"])
    assert not words.outweighs(caption, words.KINDS["colour"]), "blue weighs less than and"
    assert not words.outweighs([("a", 0.0), ("red", 0.0)], words.KINDS["colour"]), "nothing outweighs nothing"
    assert words.share(caption, words.KINDS["colour"]) == pytest.approx(0.72 / 1.97)
    assert words.share([("a", 0.0), ("red", 0.0)], words.KINDS["colour"]) == 0
    kinds = [words.share(caption, some) for some in (*words.KINDS.values(), words.FUNCTION_WORDS)]
    assert sum(kinds) == pytest.approx(1)


PLANTED = {"colour": 5.0, "shape": 4.0, "size": 1.0, "material": 2.0, "relation": 3.0, "number": 0.0}


def weight(word: str) -> float:
    """2 for function words: material is level with them, size and number lie below."""
    return next((PLANTED[kind] for kind, some in words.KINDS.items() if word in some), 2.0)


def test_planted_weights_are_found_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def planted(method: object, captions: list[tuple[int, str]]) -> list[list[tuple[str, float]]]:
        said = [text.replace(",", "").split() for _, text in captions]
        seen.extend(said)
        return [[(word, weight(word)) for word in one] for one in said]

    monkeypatch.setattr(words, "_weigh", planted)
    model = small()
    found = {one.place: one for one in words.kinds(model, data(model, 30, 2, 3), "scenes")}
    above, share = words._ABOVE, words._SHARE
    outweighing = {kind: found[f"{kind}, scenes", above].value for kind in (*PLANTED, "colour and shape")}
    assert outweighing == {
        "colour": 1.0,
        "shape": 1.0,
        "size": 0.0,
        "material": 0.0,
        "relation": 1.0,
        "number": 0.0,
        "colour and shape": 1.0,
    }
    rows = [[one for one in seen if set(one) & some and set(one) & words.FUNCTION_WORDS] for some in words.KINDS.values()]
    assert all(len(row) >= 30 for row in rows), "a caption of each scene for each kind"
    for (kind, some), own in zip(words.KINDS.items(), [seen[n : n + 30] for n in range(0, 180, 30)]):
        shares = [sum(weight(w) for w in one if w in some) / sum(map(weight, one)) for one in own]
        assert found[f"{kind}, scenes", share].value == pytest.approx(np.mean(shares))
        assert all(set(one) & some and set(one) & words.FUNCTION_WORDS for one in own)
    both = seen[180:]
    assert len(both) == 30 and all(set(one) & words.KINDS["colour"] and set(one) & words.KINDS["shape"] for one in both)
    shares = [sum(weight(w) for w in one if w in words.FUNCTION_WORDS) / sum(map(weight, one)) for one in seen]
    function = found["function words, scenes", share]
    assert function.value == pytest.approx(np.mean(shares)) and function.cases == len(seen) == 210
    assert ("function words, scenes", above) not in found


def test_a_scene_of_which_nothing_can_be_said_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_weigh", lambda method, some: [[(w, 1.0) for w in t.split()] for _, t in some])
    model = small()
    single = {one.place: one for one in words.kinds(model, data(model, 40, 1), "scenes")}
    # The only thing of a scene stands in no relation, and lies at no side of it if it lies in the middle.
    middle = sum(not item.scene.things[0].places for item in data(model, 40, 1))
    assert middle > 0 and single["relation, scenes", words._SHARE].cases == 40 - middle
    assert single["colour, scenes", words._SHARE].cases == 40


def test_each_caption_is_explained_for_its_own_picture(embedded: CLIP) -> None:
    preprocess, tokenizer = scenes.preprocess(), scenes.tokenizer()
    items = list(data(embedded, 3, 2))
    captions = [
        (number, scenes.sample_caption(items[number].scene, np.random.default_rng(number)).text) for number in (2, 0)
    ]
    score = TextImageScore(embedded, torch.stack([preprocess(item.image) for item in items]))
    got = list(words._weigh(GradECLIP.for_score(score), captions))
    for (number, text), one in zip(captions, got):
        alone = TextImageScore(embedded, preprocess(items[number].image)[None])
        tokens = tokenizer([text])
        (expected,) = merge_words(GradECLIP.for_score(alone).attribute(tokens, 0), tokens, tokenizer)
        assert [word for word, _ in one] == [word for word, _ in expected]
        assert np.allclose([w for _, w in one], [w for _, w in expected], rtol=1e-4, atol=1e-7)
    assert not list(words._weigh(GradECLIP.for_score(score), []))


def test_the_figures_of_before_are_means_over_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(method: object, captions: list[tuple[int, str]]) -> list[list[tuple[str, float]]]:
        return [[(w, 0.0 if number == 0 else weight(w)) for w in text.split()] for number, text in captions]

    monkeypatch.setattr(words, "_weigh", planted)
    model = small()
    outweigh, silent = words.words(model, data(model, 10, 1), "scenes")
    assert outweigh.value == 0.9 and silent.value == 0.1 and outweigh.cases == silent.cases == 10
