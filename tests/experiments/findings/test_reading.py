"""Reading: leaving words out against a literal loop, and readings against a score whose truth is planted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from open_clip import CLIP
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, TextImageScore, scenes
from captum_gradeclip.experiments.findings import reading
from captum_gradeclip.experiments.findings.reading import LEAVE_OUT, Judgment, compare, judge, leave_out, readings
from captum_gradeclip.maps import merge_words

from ...conftest import relative
from .conftest import data

CAPTIONS = ["a picture of the red circle", "there is a blue star", "there is an orange ring"]


def pixels(model: CLIP, count: int = 3) -> Tensor:
    return torch.stack([scenes.preprocess()(item.image) for item in data(model, count, 2, 3, 4)])


def test_leaving_out_is_a_literal_loop(embedded: CLIP) -> None:
    x, tokenizer = pixels(embedded), scenes.tokenizer()
    score = TextImageScore(embedded, x)
    calls = []
    got = leave_out(lambda tokens: calls.append(len(tokens)) or score(tokens), CAPTIONS, tokenizer)
    assert len(calls) == 1, "one batched pass"

    @torch.no_grad()
    def cosine(text: str, number: int) -> float:
        image = embedded.encode_image(x[number : number + 1])[0].double()
        words = embedded.encode_text(tokenizer([text]))[0].double()
        return float(F.cosine_similarity(image, words, dim=0))

    for number, caption in enumerate(CAPTIONS):
        words = caption.split()
        expected = {}
        for i in range(len(words)):
            expected[(i,)] = " ".join(words[:i] + words[i + 1 :])
            for j in range(i + 1, len(words)):
                expected[i, j] = " ".join(words[:i] + words[i + 1 : j] + words[j + 1 :])
        assert got[number].keys() == expected.keys()
        for gone, text in expected.items():
            assert abs(got[number][gone] - (cosine(caption, number) - cosine(text, number))) < 1e-5, text


def test_a_score_that_adds_up_words_is_read_without_a_fault() -> None:
    """The score of a bag of words falls by the value of what is left out, so that the values are the best map there is."""
    value = {
        word: number / 10
        for number, word in enumerate(["a", "of", "there", "the", "is", "picture", "ring", "star", "red", "blue"])
    }

    def score(texts: list[str]) -> Tensor:
        return torch.tensor([[sum(value[word] for word in text.split()) * (n + 1) for n in range(2)] for text in texts])

    captions = ["a picture of the blue star", "there is a red ring"]
    falls = leave_out(score, captions, lambda texts: texts)
    for number, (caption, one) in enumerate(zip(captions, falls)):
        words = caption.split()
        weights = [value[word] * (number + 1) for word in words]
        assert [one[(place,)] for place in range(len(words))] == pytest.approx(weights, abs=1e-6)
        best = sum(sorted(weights)[-2:])
        found = judge([7 * weight for weight in weights], one)
        assert (found.colour, found.shape) == (True, True)
        assert found.rank == pytest.approx(1) and found.fall == pytest.approx(best) == pytest.approx(found.best)
        backwards = judge([-weight for weight in weights], one)
        assert (backwards.colour, backwards.shape) == (False, False)
        assert backwards.rank == pytest.approx(-1)
        assert backwards.fall == pytest.approx(sum(sorted(weights)[:2]))


def test_a_judgment_by_hand() -> None:
    falls = {(0,): 0.1, (1,): 0.0, (2,): 0.5, (3,): 0.3, (0, 1): 0.1, (0, 2): 0.9, (0, 3): 0.2, (1, 2): 0.5, (1, 3): 0.3}
    falls[2, 3] = 0.6
    found = judge([0.4, 0.0, 0.9, 0.4], falls)
    assert (found.colour, found.shape) == (True, False), "a shape that is level with a function word is not above it"
    assert (found.fall, found.best) == (0.9, 0.9), "of words that weigh the same, the first one counts as the higher"
    assert found.rank == pytest.approx(stats.spearmanr([0.4, 0.0, 0.9, 0.4], [0.1, 0.0, 0.5, 0.3]).statistic)
    silent = judge([0.0, 0.0, 0.0, 0.0], falls)
    assert silent == Judgment(False, False, 0.0, 0.1, 0.9)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 4, (2, 6)).tolist()
        if len(set(one)) > 1 and len(set(other)) > 1:
            assert reading.rank_correlation(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_columns_are_means_over_captions_and_the_last_one_a_ratio_of_means() -> None:
    truth = [Judgment(True, shape, 1.0, 0.5, 0.5) for shape in (True, True, False, True)]
    judged = [
        Judgment(True, True, 0.5, 0.4, 0.8),
        Judgment(False, True, 0.1, 0.0, 0.2),
        Judgment(True, True, -0.2, 0.1, 0.2),
        Judgment(True, False, 0.0, -0.1, 0.4),
    ]
    values = compare(judged, truth)
    assert list(values) == list(reading.COLUMNS)
    means = [np.mean(some) for some in values.values()]
    assert means == pytest.approx([0.75, 0.75, 0.5, 2 / 3, 0.1, 0.4 / 1.6])
    assert [len(some) for some in values.values()] == [4, 4, 4, 3, 4, 4]
    nothing = compare([Judgment(True, True, 1.0, 0.0, 0.0)], [Judgment(True, False, 1.0, 0.0, 0.0)])
    assert nothing["two top words"] == [] and nothing["shape shown where it matters"] == []


def test_the_readings_are_the_options_that_they_name(embedded: CLIP) -> None:
    tokenizer, x = scenes.tokenizer(), pixels(embedded, 7)
    tokens = tokenizer(CAPTIONS)
    score = TextImageScore(embedded, x[:3])
    mean = TextImageScore(embedded, x[3:]).image_features.mean(dim=0)
    found = {
        name: one(tokens) for name, one in readings(score, TextImageScore(embedded, score.image_features - mean)).items()
    }
    layers = score.layers[-8:]

    def expected(**options: object) -> Tensor:
        return torch.cat([GradECLIP(score, layers).attribute(tokens[n : n + 1], target=n, **options) for n in range(3)])

    signed = {"relu_attributions": False}
    for name, one in {
        "single head, loosened, sum then ReLU (released)": expected(relu_before_sum=False),
        "single head, loosened, signed": expected(**signed),
        "single head, loosened, ReLU per layer (default)": expected(relu_before_sum=True, spatial_weight="loosened"),
        "single head, softmax, signed": expected(spatial_weight="softmax", **signed),
        "own heads, loosened, signed": expected(heads="model", **signed),
        "own heads, softmax, signed": expected(heads="model", spatial_weight="softmax", **signed),
        "own heads, softmax, ReLU per layer": expected(heads="model", spatial_weight="softmax"),
        "single head, softmax, ReLU per layer": expected(spatial_weight="softmax"),
        "single head, no weight, signed": expected(spatial_weight="none", **signed),
        "own heads, loosened, ReLU per layer": expected(heads="model"),
        "own heads, no weight, ReLU per layer": expected(heads="model", spatial_weight="none"),
        "mean over heads, loosened, signed": expected(heads="each", **signed).mean(dim=1),
        "mean over heads, softmax, ReLU per layer": expected(heads="each", spatial_weight="softmax").mean(dim=1),
    }.items():
        assert relative(found[name], one) < 1e-4, name
    # The contrast explains the cosine with a picture less its mean over the others, up to a factor for each caption.
    everything = TextImageScore(embedded, x)
    for n in range(3):

        def difference(ids: Tensor, n: int = n) -> Tensor:
            cosines = everything(ids)
            return cosines[:, n] - cosines[:, 3:].mean(dim=1)

        own = GradECLIP(difference, layers).attribute(tokens[n : n + 1])[0]
        got = found["contrast with other pictures (default)"][n]
        end = int(tokens[n].argmax())
        assert relative(got[1:end] / got[1:end].sum(), own[1:end] / own[1:end].sum()) < 1e-3
    assert len({repr(one) for one in found.values()}) == len(found), "no two readings are the same"


def test_the_table_of_readings(embedded: CLIP) -> None:
    held_out, others = data(embedded, 5, 2, 3, 4), scenes.SceneDataset(4, "validation", 1, counts=(3,))
    found = {one.place: one for one in reading.reading(embedded, held_out, others)}
    rows = list(dict.fromkeys(row for row, _ in found))
    assert rows[0] == LEAVE_OUT and set(itertools.product(rows, reading.COLUMNS)) >= set(found)
    assert found[LEAVE_OUT, "rank correlation"].value == pytest.approx(1)
    assert found[LEAVE_OUT, "shape shown where it matters"].value == 1
    assert all(
        one.interval is not None and (one.p_value is None) == (row == reading.DEFAULT) for (row, _), one in found.items()
    )
    name = "single head, loosened, ReLU per layer (default)"
    above = []
    for number, item in enumerate(held_out):
        thing, tokenizer = item.scene.things[0], scenes.tokenizer()
        pair = f"{thing.colour} {thing.shape}"
        tokens = tokenizer([f"there is {scenes.with_article(pair)}" if number % 2 else f"a picture of the {pair}"])
        score = TextImageScore(embedded, scenes.preprocess()(item.image)[None])
        (caption,) = merge_words(GradECLIP.for_score(score).attribute(tokens, 0), tokens, tokenizer)
        others_most = max(weight for word, weight in caption if word not in (thing.colour, thing.shape))
        above.append([dict(caption)[word] > others_most for word in (thing.colour, thing.shape)])
    colour, shape = np.mean(above, axis=0)
    assert found[name, "colour above every function word"].value == pytest.approx(colour)
    assert found[name, "shape above every function word"].value == pytest.approx(shape)
    assert found[name, "both in one caption"].value == pytest.approx(np.mean(np.all(above, axis=1)))
