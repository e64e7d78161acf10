"""The road from the shell: what is written, and what is said to somebody who made a mistake."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, cli, images, maps, scenes


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "scene.png"
    scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 200)[0].resize((240, 160)).save(path)
    return path


def test_explain_writes_everything_and_the_numbers_are_the_apis(picture: Path, tmp_path: Path, capsys) -> None:
    texts = ["a red circle", "something <green> [/] [red]"]
    assert cli.main(["explain", str(picture), *texts, "--out", str(tmp_path)]) == 0
    assert str(tmp_path) in capsys.readouterr().out.replace("\n", "")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "overlay-0-a-red-circle.png",
        "overlay-1-something-green-red.png",
        "strip.png",
        "words.png",
        "words.html",
        "maps.npz",
        "explanation.json",
    }
    assert Image.open(tmp_path / "overlay-0-a-red-circle.png").size == (240, 160)
    assert "&lt;" in (tmp_path / "words.html").read_text()

    model, _, tokenizer = scenes.load()
    x = images.prepare(images.read(picture), size=(64, 64), patch=8, mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash").pixels
    score = ImageTextScore(model, texts, tokenizer)
    stored = np.load(tmp_path / "maps.npz")
    expected = GradECLIP(score, score.layers[-1:]).attribute_targets(x)[0]
    assert np.allclose(stored["image"], expected.numpy(), atol=1e-6) and stored["image"].std() > 0
    tokens = tokenizer(texts)
    text = TextImageScore(model, x)
    weights = GradECLIP(text, text.layers[-8:]).attribute(tokens, target=0)
    assert np.allclose(stored["text"], weights.numpy(), atol=1e-6)

    told = json.loads((tmp_path / "explanation.json").read_text())
    for n, entry in enumerate(told["texts"]):
        with torch.no_grad():
            assert abs(entry["score"] - float(score(x)[0, n])) < 1e-6
        assert entry["explained_score"] != entry["score"]
        total = sum(word["weight"] for word in entry["words"])
        assert abs(total - 1) < 1e-5 or total == 0
        assert [w["word"] for w in entry["words"]] == [w for w, _ in maps.merge_words(weights, tokens, tokenizer)[n]]
    assert told["options"]["resize"] == "squash" and told["options"]["layers"] == 1
    assert set(told["versions"]) >= {"torch", "captum", "captum_gradeclip"}


def test_with_the_models_heads_the_explained_score_is_its_own(picture: Path, tmp_path: Path) -> None:
    assert cli.main(["explain", str(picture), "a star", "--heads", "model", "--layers", "2", "--out", str(tmp_path)]) == 0
    (entry,) = json.loads((tmp_path / "explanation.json").read_text())["texts"]
    assert abs(entry["explained_score"] - entry["score"]) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        ["--resize", "keep", "--scale", "0.4"],
        ["--resize", "crop"],
        ["--spatial-weight", "none"],
        ["--text-layers", "1"],
    ],
)
def test_options(picture: Path, tmp_path: Path, options: list[str]) -> None:
    assert cli.main(["explain", str(picture), "a star", *options, "--out", str(tmp_path)]) == 0
    assert Image.open(next(tmp_path.glob("overlay-*.png"))).size == (240, 160)


def test_demo(tmp_path: Path) -> None:
    assert cli.main(["demo", "--out", str(tmp_path)]) == 0
    told = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("scene-*/explanation.json"))]
    assert len(told) == 3 and all(len(one["texts"]) >= 3 for one in told)
    assert len(list(tmp_path.glob("scene-*/strip.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png", "a"], "no file 'missing.png'"),
        (["PICTURE", ""], "expected words"),
        (["PICTURE", "red " * 30], "32 tokens with its marks, but the model reads 24"),
        (["PICTURE", "a", "--model", "ViT-B-61"], "did you mean ViT-B-16"),
        (
            ["PICTURE", "a", "--model", "ViT-B-32", "--pretrained", "nonsense"],
            "neither a file nor a tag of ViT-B-32; its tags: .*openai",
        ),
        (["PICTURE", "a", "--pretrained", "PICTURE"], "does not fit the scenes model"),
        (["PICTURE", "a", "--layers", "9"], "--layers: expected 1 to"),
        (["PICTURE", "a", "--text-layers", "0"], "--text-layers: expected 1 to 8"),
        (["PICTURE", "a", "--resize", "keep", "--max-tokens", "10"], "more than max_tokens = 10; shrink it"),
        (["PICTURE", "a", "--resize", "keep", "--scale", "0.01"], "smaller than a patch"),
        (["PICTURE", "a", "--out", "PICTURE"], "--out: cannot write into"),
        (["PICTURE", "a", "--scale", "inf"], "scale: expected a positive factor"),
        (["PICTURE", "a", "--device", "nowhere"], "--device: cannot use 'nowhere'"),
    ],
)
def test_mistakes_are_explained(
    picture: Path, capsys, monkeypatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(picture) if argument == "PICTURE" else argument for argument in arguments]
    assert cli.main(["explain", *given]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_weights_that_do_not_fit_an_open_clip_model(picture: Path, capsys, tmp_path: Path) -> None:
    torch.save({"visual.proj": torch.zeros(3, 3)}, tmp_path / "weights.pt")
    code = cli.main(["explain", str(picture), "a", "--model", "RN50", "--pretrained", str(tmp_path / "weights.pt")])
    assert code == 2 and "could not be loaded" in capsys.readouterr().err


def test_convolutional_models_are_refused_with_the_reason(picture: Path, capsys) -> None:
    assert cli.main(["explain", str(picture), "a", "--model", "convnext_base"]) == 2
    assert "LayerGradCam" in capsys.readouterr().err


@pytest.mark.slow
def test_a_photograph_at_its_own_size_within_four_gigabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (900, 1600, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "captum_gradeclip", "explain", str(tmp_path / "photo.jpg"), "a dog in a car", "a cat"]
    subprocess.run([*command, "--model", "ViT-B-16", "--resize", "keep", "--out", str(out)], check=True)
    told = json.loads((out / "explanation.json").read_text())
    assert told["input"] == {"height": 896, "width": 1600, "grid": [56, 100]}
    assert Image.open(next(out.glob("overlay-*.png"))).size == (1600, 900)
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    assert gigabytes < 4, f"{gigabytes:.2f} GiB at the peak"
