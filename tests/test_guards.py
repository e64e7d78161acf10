"""Guards: each against a literal count, planted faults that they catch, and what they say of a sound picture."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from captum_gradeclip import TrustReport, cli, explain, guards, scenes, trust
from captum_gradeclip.adapters import families
from captum_gradeclip.experiments.findings.guards import with_saturated_features, with_shuffled_weights
from captum_gradeclip.guards import BELOW, LIMITS, GuardFinding

from .conftest import FAMILIES, fingerprint, stir

TEXT = "a purple cross"


@pytest.fixture(scope="module")
def clip() -> tuple[nn.Module, Any, Any]:
    return scenes.load()


@pytest.fixture(scope="module")
def item() -> scenes.SceneItem:
    """A scene whose first thing the model recognizes."""
    model, preprocess, tokenizer = scenes.load()
    for one in scenes.SceneDataset(20, "validation", counts=(1,)):
        text = text_of(one)
        found = model.encode_text(tokenizer([text, "a star", "a red ring", "something blue"]))
        cosines = nn.functional.cosine_similarity(model.encode_image(preprocess(one.image)[None]), found)
        if int(cosines.argmax()) == 0:
            return one
    raise AssertionError


def text_of(item: scenes.SceneItem) -> str:
    thing = item.scene.things[0]
    return scenes.with_article(scenes.Phrase(thing.colour, thing.shape).words())


def fired(report: TrustReport) -> set[str]:
    return {one.guard for one in report.findings if one.fired}


def test_a_guard_fires_on_its_own_side_of_the_limit() -> None:
    for guard, limit in LIMITS.items():
        low, high = (GuardFinding(guard, limit + sign * 0.01, limit, "") for sign in (-1, 1))
        assert (low.fired, high.fired) == ((True, False) if guard in BELOW else (False, True))
        assert not GuardFinding(guard, math.nan, limit, "").fired


def test_the_surrogate_fires_where_the_order_differs_and_not_elsewhere() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        own, other = rng.normal(size=(2, 3, 4)).round(1)
        expected = [any((a - b) * (c - d) < 0 for a, c in zip(x, y) for b, d in zip(x, y)) for x, y in zip(own, other)]
        found = guards.surrogate(torch.tensor(own), torch.tensor(other))
        assert found.value == pytest.approx(np.mean(expected)) and found.fired == any(expected)
    scores = torch.tensor([[0.3, 0.3, 0.1]])
    assert not guards.surrogate(scores, scores + 1e-8 * torch.tensor([[0.0, 1.0, 2.0]])).fired, "rounding is no other order"


def test_texts_that_trade_places_are_counted() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        own, other = rng.normal(size=(2, 65))
        expected = sum((own[0] > a) != (other[0] > b) for a, b in zip(own[1:], other[1:]))
        found = guards.traded(torch.tensor(own), torch.tensor(other))
        assert found.value == pytest.approx(expected / 64) and found.fired == (expected > 2)


def test_trust_asks_all_random_texts_whether_they_trade_places(
    clip: tuple[nn.Module, Any, Any], item: scenes.SceneItem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    counted = guards.traded
    monkeypatch.setattr(guards, "traded", lambda own, other: asked.append(len(own)) or counted(own, other))
    trust(clip[0], item.image, text_of(item), clip[2])
    assert asked == [65], "the text, and as many random ones as its score is held against"


def test_flat_and_saturated_maps() -> None:
    varied, zero = torch.rand(2, 3, 3), torch.zeros(2, 3, 3)
    assert guards.flat([varied, varied]).value == 0 and guards.flat([varied, zero]).value == 0.5
    scores = torch.tensor([[0.2, -0.4], [0.1, 0.1]])
    expected = min(float(varied[t].max()) / (0.4, 0.1)[n] for n in range(2) for t in range(2))
    assert guards.saturated([varied, varied], scores).value == pytest.approx(expected, rel=1e-5)
    assert guards.saturated([1e-6 * varied, varied], scores).fired and not guards.saturated([varied], scores[:1]).fired
    assert math.isnan(guards.saturated([zero], scores[:1]).value)


@pytest.mark.parametrize("seed", range(5))
def test_another_normalization_is_seen_and_the_right_one_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = scenes.draw(scenes.sample_scene(seed, seed, "validation", counts=(2,)), 96)[0]
    noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    for picture in (image, noise):
        colors = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255

        def normalized(mean: Any, std: Any, colors: Tensor = colors) -> Tensor:
            return (colors - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

        assert not guards.normalization(normalized(mean, std), mean, std).fired
        for other in (((0.0,) * 3, (1.0,) * 3), ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))):
            assert guards.normalization(normalized(*other), mean, std).fired, other
        assert guards.normalization(255 * colors, mean, std).fired
        smooth = nn.functional.interpolate(normalized(mean, std)[None], scale_factor=0.71, mode="bilinear")[0]
        assert not guards.normalization(smooth, mean, std).fired, "resized as floating point, there are no steps"


def test_correlations_are_pearsons() -> None:
    one, others = torch.randn(4, 5), torch.randn(3, 4, 5)
    expected = [np.corrcoef(one.flatten(), other.flatten())[0, 1] for other in others]
    assert guards.correlations(one, others).tolist() == pytest.approx(expected, abs=1e-6)
    assert guards.prompt(one, others).value == pytest.approx(np.mean(expected), abs=1e-6)
    assert guards.noise(one, one[None] * 2 + 1).value == pytest.approx(1)
    assert guards.weights(one, torch.stack([one, -one])).value == pytest.approx(1), "the last one counts, by magnitude"


def test_a_sound_picture_fires_nothing_and_each_fault_fires_its_guard(
    clip: tuple[nn.Module, Any, Any], item: scenes.SceneItem
) -> None:
    model, preprocess, tokenizer = clip
    text, before = text_of(item), fingerprint(model)
    sound = trust(model, item.image, text, tokenizer, randomize=True)
    assert sound.trusted and not sound.warnings and len(sound.findings) == len(LIMITS)
    own = nn.functional.cosine_similarity(
        model.encode_image(preprocess(item.image)[None]),  # type: ignore[operator]
        model.encode_text(tokenizer([text])),  # type: ignore[operator]
    )
    assert sound.score == pytest.approx(float(own.detach()), abs=1e-5) and sound.explained_score != sound.score
    assert fired(trust(with_shuffled_weights(model, 3), item.image, text, tokenizer)) & {"fit", "prompt"}  # type: ignore[arg-type]
    assert "fit" in fired(trust(model, item.image, "my grandmother", tokenizer))
    assert fired(trust(with_saturated_features(model), item.image, text, tokenizer)) & {"flat", "saturated"}  # type: ignore[arg-type]
    raw = trust(model, item.image, text, tokenizer, preprocess=lambda image: preprocess(image) * 0.5 + 0.5)
    assert {"normalization", "preprocessing"} <= fired(raw)
    assert "prompt" in fired(trust(model, item.image, text, tokenizer, method="RawAttention")), "the same for every text"
    assert "surrogate" not in fired(trust(model, item.image, text, tokenizer, heads="model"))
    assert fingerprint(model) == before


def test_a_report_is_told_in_json_and_in_lines(clip: tuple[nn.Module, Any, Any], item: scenes.SceneItem) -> None:
    model, _, tokenizer = clip
    report = trust(model, item.image, text_of(item), tokenizer)
    again = trust(model, item.image, text_of(item), tokenizer)
    assert report == again, "the same random texts and noise"
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["text"] == text_of(item) and told["method"] == "GradECLIP" and told["trusted"] is True
    assert {one["guard"] for one in told["findings"]} == set(LIMITS) - {"weights"}
    assert all(set(one) == {"guard", "value", "limit", "message", "fired"} for one in told["findings"])
    assert len(repr(report).splitlines()) == 1 + len(report.findings)


def test_wrong_arguments(clip: tuple[nn.Module, Any, Any], item: scenes.SceneItem) -> None:
    model, _, tokenizer = clip
    with pytest.raises(TypeError, match="text: expected one text"):
        trust(model, item.image, ["a", "b"], tokenizer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="image: expected one image, got 2"):
        trust(model, [item.image] * 2, TEXT, tokenizer)
    with pytest.raises(ValueError, match="model: VisionTransformer is a classifier"):
        trust(FAMILIES["timm ViT"].build().eval(), item.image, TEXT, tokenizer)
    with pytest.raises(TypeError, match="tokenizer: "):
        trust(model, item.image, TEXT)


def test_explanations_carry_the_cheap_ones(clip: tuple[nn.Module, Any, Any], item: scenes.SceneItem) -> None:
    model, preprocess, tokenizer = clip
    single, own = (
        [explain(model, one.image, texts, tokenizer, words=False, heads=heads) for one, texts in many()]
        for heads in ("single", "model")
    )
    for found in single:
        assert found.scores is not None and found.explained_scores is not None
        differs = found.scores[0].argsort().tolist() != found.explained_scores[0].argsort().tolist()
        assert any("ranks the texts otherwise" in one for one in found.warnings) == differs
    assert any(found.warnings for found in single) and not all(found.warnings for found in single)
    assert not any("otherwise" in one for found in own for one in found.warnings)
    texts = many()[0][1]
    alone = [explain(model, one.image, texts, tokenizer, words=False).warnings for one, _ in many()]
    together = explain(model, [one.image for one, _ in many()], texts, tokenizer, words=False)
    assert [together.image(i).warnings for i in range(len(together))] == alone and len({*map(str, alone)}) > 1
    assert any(f" of {len(together)} images" in one for one in together.warnings)
    raw = explain(model, preprocess(item.image) * 0.5 + 0.5, [TEXT], tokenizer)
    assert any("does not look normalized" in one for one in raw.warnings)
    assert not any("normalized" in one for one in explain(model, preprocess(item.image), [TEXT], tokenizer).warnings)


def many() -> list[tuple[scenes.SceneItem, list[str]]]:
    texts = ["a red circle", "something blue", "a star", "two rings"]
    return [(one, texts) for one in scenes.SceneDataset(8, "validation", counts=(2, 3))]


def test_guards_cost_little(clip: tuple[nn.Module, Any, Any], item: scenes.SceneItem) -> None:
    """At most a tenth of a forward pass of a small CLIP; here that of the embedded model, which is a hundredth of it."""
    from captum_gradeclip.timing import Stopwatch

    model, preprocess, tokenizer = clip
    x = preprocess(item.image)
    found = explain(model, x, [TEXT], tokenizer, words=False)
    arguments = list(found.maps), found.scores, found.explained_scores, [x], (0.5,) * 3, (0.5,) * 3, True
    times = []
    for _ in range(20):
        with Stopwatch() as watch:
            guards.always(*arguments)  # type: ignore[arg-type]
        times.append(watch.seconds)
    assert min(times) < 0.02


def test_on_other_families(item: scenes.SceneItem) -> None:
    """Random weights tell nothing of any text, and the report says so whatever the library."""
    model = copy.deepcopy(stir(families()["transformers CLIP"].build()))
    tokenizer = _Words()
    report = trust(model, torch.rand(3, 32, 32), "red blue", tokenizer)
    assert not report.trusted and all(one.value == one.value or one.guard == "preprocessing" for one in report.findings)


class _Words:
    """A tokenizer of a few words, with the marks of the tiny models."""

    def __init__(self) -> None:
        words = ["red", "blue", "green", "ring", "star", "cross", "small", "large"]
        self.encoder = {f"{word}</w>": number for number, word in enumerate(words, 1)}

    def __call__(self, texts: list[str]) -> Tensor:
        from .conftest import CONTEXT, END, START

        rows = [[START, *(self.encoder[f"{word}</w>"] for word in text.split()), END] for text in texts]
        return torch.tensor([row + [0] * (CONTEXT - len(row)) for row in rows])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    scenes.SceneDataset(1, "validation")[0].image.save(tmp_path / "photo.png")
    command = ["trust", str(tmp_path / "photo.png"), "my grandmother", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "normalization" in told and "better than random texts" in told and "YES" in told
    written = json.loads((tmp_path / "out" / "trust.json").read_text())
    assert written["trusted"] is False and written["text"] == "my grandmother"
    assert cli.main([*command, "--heads", "model", "--randomize"]) == 0
    assert "weights" in capsys.readouterr().out
    assert cli.main([*command, "--method", "GAME"]) == 0
    assert cli.main([*command, "--seed", "-1"]) == 2
