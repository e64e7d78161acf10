"""What the page does, without the page: maps equal to those of the command, visitors apart, refusals in words."""

from __future__ import annotations

import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_gradeclip import METHODS, ContrastScore, ImageTextScore, MatchScore, WordRegionAttribution, cli, maps
from captum_gradeclip.adapters.loading import load
from captum_gradeclip.app import Answer, Limits, Models, Query, views
from captum_gradeclip.app.desk import Desk
from captum_gradeclip.app.picture import scene_picture, texts_about
from captum_gradeclip.app.program import program, programs
from captum_gradeclip.attr import MatchRegionAttribution

from ..conftest import FAMILIES, relative, stir
from ..scores.test_match import blip, vilt
from .conftest import offering, words_of

TEXTS = tuple(texts_about(3))


def explained(desk: Desk, query: Query, picture: str | None = None) -> tuple[str, Answer]:
    *_, (token, found) = desk.explain(query, picture)
    assert token is not None
    return token, found


def run(lines: str) -> torch.Tensor:
    """The maps of a program."""
    names: dict[str, torch.Tensor] = {}
    exec(compile(lines, "explain.py", "exec"), names)
    return names["maps"]


def test_maps_are_those_of_the_command(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene_picture(3).save(tmp_path / "scene.png")
    token, _, name = desk.take(tmp_path / "scene.png")
    assert name == "scene.png"
    query = Query(TEXTS, methods=("GradECLIP", "GAME"), layers=2)
    _, found = explained(desk, query, token)
    for one in found.found:
        out = tmp_path / one.method
        asked = ("--method", one.method, "--layers", "2", "--out", str(out))
        assert cli.main(["explain", str(tmp_path / "scene.png"), *TEXTS, *asked]) == 0
        told = json.loads((out / "explanation.json").read_text())
        assert one.explanation is not None
        assert np.array_equal(np.load(out / "maps.npz")["image"], one.explanation.maps[0].numpy())
        assert [text["score"] for text in told["texts"]] == pytest.approx(one.explanation.scores[0].tolist(), abs=1e-6)
        assert one.explanation.warnings == told["warnings"]
        assert all(float(each.std()) > 0 for each in one.explanation.maps[0])


@pytest.mark.parametrize(
    "query",
    [
        Query(TEXTS, 3),
        Query(TEXTS, 3, heads="model", spatial_weight="softmax", signed=True, layers=2),
        Query(('a "red" circle\'s\\ edge', "ünï"), 4, methods=("GAME",)),
        Query(TEXTS[:1], 3, against="", methods=("GradECLIP", "TokenGradCam")),
        Query(TEXTS[:1], 3, against="something blue", signed=True),
    ],
    ids=["plain", "options", "quotes", "no words", "contrast"],
)
def test_the_lines_make_the_same_maps(desk: Desk, query: Query) -> None:
    _, found = explained(desk, query)
    for one in found.found:
        assert one.explanation is not None, one.refused
        lines = program(query, desk.models.named("scenes"), found.name, one.method)
        assert torch.equal(run(lines), torch.as_tensor(one.explanation.maps))


def test_a_contrast_is_the_difference_of_two_scores(desk: Desk) -> None:
    _, found = explained(desk, Query(TEXTS[:2], 3, against="something blue"))
    loaded = load("scenes")
    score = ContrastScore(ImageTextScore(loaded.model, list(TEXTS[:2]), loaded.tokenizer), "something blue")
    (explanation,) = found.explanations
    assert torch.allclose(torch.as_tensor(explanation.scores), score(found.picture.pixels), atol=1e-5)
    assert "rather than something blue" in views.result(found)


def test_every_method_answers_or_says_why_not(models: Models) -> None:
    """All methods of the package, in parts as the page allows them."""
    desk = Desk(models, Limits(methods=len(METHODS), seconds=0.001))
    *_, (_, found) = desk.explain(Query(TEXTS[:1], 3, methods=tuple(kind.__name__ for kind in METHODS)))
    assert len(found.found) == len(METHODS) > 8
    for one in found.found:
        assert (one.explanation is None) == bool(one.refused)
    slow = {one.method: one.refused for one in found.found if one.refused}
    assert "RISE" in slow and "would take about" in slow["RISE"] and "gradeclip explain" in slow["RISE"]
    assert "GradECLIP" not in slow


def test_maps_come_one_method_after_the_other(desk: Desk) -> None:
    steps = list(desk.explain(Query(TEXTS, 3, methods=("GradECLIP", "GAME", "MaskCLIP"))))
    assert [len(found.found) for _, found in steps] == [1, 2, 3]
    assert [token is None for token, _ in steps] == [True, True, False]


def test_the_region_of_a_word_is_that_of_word_region_attribution(desk: Desk) -> None:
    text = "a red circle and a blue star"
    token, found = explained(desk, Query(("something green", text), 3))
    loaded = load("scenes")
    tokens = loaded.tokenizer([text])  # type: ignore[misc]
    expected = WordRegionAttribution(loaded.model).attribute(found.picture.pixels, tokens)[0]
    words = maps.merge_regions(expected, tokens[0], loaded.tokenizer)
    got = found.regions(1)
    assert [word for word, _ in got] == [word for word, _ in words] == text.split()
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(got, words))
    assert "region of star" in desk.word(token, 1, 6)
    assert desk.word(token, 1, 6) != desk.word(token, 1, 2)
    for place in ((1, 7), (1, -1), (2, 0), (-1, 0)):
        with pytest.raises(ValueError, match="expected 0 to"):
            desk.word(token, *place)


def test_the_page_of_an_answer(desk: Desk) -> None:
    hostile = '<script>"&'
    token, found = explained(desk, Query((hostile, TEXTS[0]), 3))
    page = views.result(found)
    assert "<script" not in page and "&lt;script&gt;&quot;&amp;" in page and "http" not in page
    assert page.count('class="stack"') == 2 and page.count('class="word"') == sum(map(len, found.words))
    assert "model: cosine" in page and "explained: cosine" in page and "never saw" in page
    assert desk.result(token, True) == page != desk.result(token, False)
    assert "<script" not in desk.word(token, 0, 1) and "region of" in desk.word(token, 0, 1)


def test_warnings_of_guards_are_told_in_words(desk: Desk) -> None:
    _, found = explained(desk, Query(TEXTS, 3, methods=("GradECLIP", "RawAttention")))
    warned = [warning for one in found.explanations for warning in one.warnings]
    page = views.result(found)
    assert warned, "raw attention does not depend on the text, which a guard says"
    assert all(views.escape(warning) in page for warning in warned)


def test_files_to_take_home(desk: Desk) -> None:
    token, found = explained(desk, Query(TEXTS, 3, methods=("GradECLIP", "GAME")))
    files = dict(desk.files(token, True))
    assert set(files) == {
        *(f"{method}-{name}" for method in ("GradECLIP", "GAME") for name in ("strip.png", "strip.pdf", "maps.npz")),
        *(f"{method}-explanation.json" for method in ("GradECLIP", "GAME")),
        *(f"{one.method}-words.png" for one in found.explanations if one.words),
        "explain.py",
    }
    for explanation in found.explanations:
        arrays = np.load(io.BytesIO(files[f"{explanation.method}-maps.npz"]))
        assert np.array_equal(arrays["image"], explanation.maps[0].numpy())
        told = json.loads(files[f"{explanation.method}-explanation.json"])
        assert [one["text"] for one in told["texts"]] == list(TEXTS) and told["options"]["model"] == "scenes"
        assert Image.open(io.BytesIO(files[f"{explanation.method}-strip.png"])).width > 300
        assert files[f"{explanation.method}-strip.pdf"].startswith(b"%PDF")
    assert files["explain.py"].decode() == programs(found, desk.models.named("scenes"))
    assert views.links([("<a>.png", b"1")]).count("&lt;a&gt;.png") == 2


def test_two_visitors_do_not_mix(desk: Desk, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "mine.png")
    mine, _, _ = desk.take(tmp_path / "mine.png")
    first, _ = explained(desk, Query(("a red circle",)), mine)
    second, _ = explained(desk, Query(("a blue star",), 5))
    assert "a red circle" in desk.result(first, True) and "a blue star" in desk.result(second, True)
    for guess in (None, "", "x", second[:-1]):
        with pytest.raises(ValueError, match="press Explain"):
            desk.result(guess, True)
        with pytest.raises(ValueError, match="picture: expected one, got none; upload a picture"):
            list(desk.explain(Query(("a",)), guess))


@pytest.mark.slow
def test_twenty_at_once_are_each_right_and_those_of_the_command(desk: Desk, tmp_path: Path) -> None:
    """Visitors share the model, whose attention is intercepted for each of them alone."""
    queries = [
        Query((texts_about(seed)[0], "something red"), seed, heads=("single", "model")[seed % 2]) for seed in range(20)
    ]
    (tmp_path / "shots").mkdir()
    for seed in range(20):
        scene_picture(seed).save(tmp_path / "shots" / f"{seed}.png")
    for heads in ("single", "model"):
        asked = ("--text", "something red", "--heads", heads, "--out", str(tmp_path / heads))
        assert cli.main(["explain", str(tmp_path / "shots"), *asked]) == 0
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: explained(desk, query)[1], queries))
    for query, found in zip(queries, together):
        assert found.query == query
        (alone,) = explained(desk, query)[1].explanations
        (explanation,) = found.explanations
        # The last digits of a product depend on where its numbers lie in the memory.
        assert relative(torch.as_tensor(explanation.maps), torch.as_tensor(alone.maps)) < 1e-5
        theirs = np.load(tmp_path / query.heads / str(query.scene) / "maps.npz")["image"]
        assert relative(explanation.maps[0][1:], torch.as_tensor(theirs)) < 1e-4
        for one, other in zip(explanation.words[0], alone.words[0]):  # type: ignore[index]
            assert [word for word, _ in one] == [word for word, _ in other]
            assert [weight for _, weight in one] == pytest.approx([weight for _, weight in other], rel=1e-4, abs=1e-7)


def test_a_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["torchvision ViT"].build()
    assert isinstance(model, nn.Module)
    desk = offering(monkeypatch, stir(model))
    assert desk.models.heads("own") == ["classes"]
    _, found = explained(desk, Query((), 3, "own", head="classes"))
    assert len(found.texts) == 3 and "probability" in views.result(found) and 'class="word"' not in views.result(found)
    _, found = explained(desk, Query(("1", "0"), 3, "own", head="classes"))
    assert found.explanations[0].targets == [1, 0]
    with pytest.raises(ValueError, match="has the scores classes, not features"):
        list(desk.explain(Query(("a",), 3, "own")))


def test_a_model_without_encoders_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = offering(monkeypatch, vilt(), words_of("a"))
    with pytest.raises(TypeError, match="ViltForImageAndTextRetrieval has no adapter"):
        list(desk.explain(Query(("a",), 3, "own", head="match")))


def test_a_matching_head(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = offering(monkeypatch, stir(blip(), amount=0.2), words_of("a", "red", "circle", "blue"))
    assert desk.models.heads("own") == ["features", "match"]
    query = Query(("a red circle", "a blue circle"), 3, "own", ("GradECLIP", "MaskCLIP"), layers=2, head="match")
    token, found = explained(desk, query)
    one, refused = found.found
    assert one.explanation is not None and "choose GradECLIP or RawAttention" in refused.refused
    loaded = desk.models["own"]
    score = MatchScore(loaded.model, list(query.texts), loaded.tokenizer)
    with torch.no_grad():
        assert torch.allclose(torch.as_tensor(one.explanation.scores), score(found.picture.pixels), atol=1e-6)
    lines = program(query, desk.models.named("own"), found.name, "GradECLIP")
    monkeypatch.setattr("captum_gradeclip.adapters.loading.load", lambda *_: loaded)
    assert torch.equal(run(lines), torch.as_tensor(one.explanation.maps))
    assert float(torch.as_tensor(one.explanation.maps).std()) > 0
    expected = MatchRegionAttribution(MatchScore(loaded.model, ["a blue circle"], loaded.tokenizer)).attribute(
        found.picture.pixels, 0
    )[0]
    assert torch.equal(found.regions(1)[1][1], expected[2]) and found.regions(1)[1][0] == "blue"
    assert "region of blue" in desk.word(token, 1, 1)
    page = views.result(found)
    assert "model: logit" in page and re.search(r'class="word"[^>]*>blue<', page)
    files = dict(desk.files(token, True))
    assert "GradECLIP-strip.png" in files
    with pytest.raises(ValueError, match="against"):
        list(desk.explain(Query(("a red circle",), 3, "own", against="a", head="match")))
