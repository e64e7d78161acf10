"""The road in one call: what an explanation holds, how few passes it takes, and what is written of it."""

from __future__ import annotations

import io
import json
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from captum_gradeclip import (
    ClassScore,
    Explanation,
    GradECLIP,
    ImageTextScore,
    TextImageScore,
    WordRegionAttribution,
    adapters,
    attr,
    cli,
    explain,
    images,
    maps,
    report,
    scenes,
    show,
)
from captum_gradeclip.attr import GAME, MaskCLIP
from captum_gradeclip.notices import kept_notices, notice

from .conftest import FAMILIES, relative, stir
from .test_files import contents, full_after

TEXTS = ["a red circle", "something <green>"]


@pytest.fixture(scope="module")
def clip() -> tuple[nn.Module, Any, Any]:
    return scenes.load()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return scenes.draw(scenes.sample_scene(0, 5, "evaluation", counts=(3,)), 200)[0].resize((240, 160))


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, int]]:
    """How often each tower of the embedded model runs."""
    passes = {"image": 0, "text": 0}

    def count(tower: str) -> Any:
        def hook(*_: Any) -> None:
            passes[tower] += 1

        return hook

    handles = [
        model.visual.ln_pre.register_forward_hook(count("image")),  # type: ignore[union-attr,operator]
        model.token_embedding.register_forward_hook(count("text")),  # type: ignore[operator,union-attr]
    ]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def squashed(image: Image.Image) -> Tensor:
    facts = {"size": (96, 96), "patch": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return images.prepare(image, resize="squash", **facts).pixels  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_parts(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer, preprocess="squash")
    x, tokens = squashed(picture), tokenizer(TEXTS)
    score, of_words = ImageTextScore(model, TEXTS, tokenizer), TextImageScore(model, x)
    assert torch.equal(found.maps, GradECLIP(score, score.layers[-1:]).attribute_targets(x))  # type: ignore[arg-type]
    weights = GradECLIP(of_words, of_words.layers[-8:]).attribute(tokens, target=0)
    for told, expected in zip(found.words[0], maps.merge_words(weights, tokens, tokenizer), strict=True):  # type: ignore[index]
        assert [word for word, _ in told] == [word for word, _ in expected] and len(told) > 2
        # Not to the bit, since some processors round otherwise for another number of texts.
        assert [weight for _, weight in told] == pytest.approx([weight for _, weight in expected], rel=1e-4, abs=1e-7)
    assert found.token_weights is not None and torch.allclose(found.token_weights[0], weights)
    with torch.no_grad():
        image, text = (nn.functional.normalize(one, dim=-1) for one in (model.encode_image(x), model.encode_text(tokens)))  # type: ignore[operator]
    assert found.scores is not None and torch.allclose(found.scores, image @ text.T, atol=1e-5)
    assert found.explained_scores is not None and found.explained_scores.shape == (1, 2)
    assert not torch.allclose(found.explained_scores, found.scores, atol=1e-4)
    assert found.explained_word_scores is not None and found.explained_word_scores.shape == (1, 2)
    assert found.texts == TEXTS and found.method == "GradECLIP" and found.warnings == []
    assert found.options["layers"] == 1 and found.options["text_layers"] == 8


def test_the_share_that_patches_carry_stands_beside_each_map(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer)
    score, x = ImageTextScore(model, TEXTS, tokenizer), found.pictures[0].pixels
    expected = GradECLIP.for_score(score).outcome(x, carried=True).carried
    assert found.carried is not None and found.carried.shape == (1, len(TEXTS))
    assert torch.allclose(found.carried, expected, atol=1e-5)  # type: ignore[arg-type]
    assert explain(model, picture, TEXTS, tokenizer, method="LeGrad").carried is None


def test_with_the_models_heads_the_explained_scores_are_its_own(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image
) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer, heads="model", layers=2, text_layers=3)
    assert torch.allclose(found.explained_scores, found.scores, atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(found.explained_word_scores, found.scores, atol=1e-5)  # type: ignore[arg-type]
    assert (found.options["layers"], found.options["text_layers"], found.options["heads"]) == (2, 3, "model")


@pytest.mark.parametrize(
    ("options", "image", "text"),
    [
        ({}, 2, 2),
        ({"words": False}, 2, 1),
        ({"scores": False}, 2, 2),
        ({"words": False, "scores": False}, 1, 1),
        ({"method": "MaskCLIP"}, 2, 1),
    ],
)
def test_each_tower_runs_twice_at_most(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, options: dict[str, Any], image: int, text: int
) -> None:
    model, _, tokenizer = clip
    with counted(model) as passes:
        found = explain(model, [picture, picture.rotate(90)], TEXTS, tokenizer, **options)
    assert passes == {"image": image, "text": text}
    assert (found.scores is None) == (not options.get("scores", True))
    assert (found.words is None) == (text == 1)


def test_the_command_runs_each_tower_twice(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, tokenizer = clip
    picture.save(tmp_path / "a.png")
    loaded = adapters.loading.Loaded(model, tokenizer)
    monkeypatch.setattr(adapters.loading, "load", lambda *_: loaded)
    with counted(model) as passes:
        assert cli.main(["explain", str(tmp_path / "a.png"), *TEXTS, "--out", str(tmp_path)]) == 0
    assert passes == {"image": 2, "text": 2}


def test_images_of_every_kind_are_the_same_image(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path
) -> None:
    model, transform, tokenizer = clip
    picture.save(tmp_path / "a.png")
    kinds = [picture, str(tmp_path / "a.png"), tmp_path / "a.png", np.asarray(picture)]
    found = explain(model, kinds, "a red circle", tokenizer, preprocess="squash")
    assert isinstance(found.maps, Tensor) and found.maps.shape == (4, 1, 12, 12) and found.maps.std() > 0
    assert all(torch.allclose(found.maps[0], one, atol=1e-6) for one in found.maps[1:])
    assert found.names == ["image 0", "a.png", "a.png", "image 3"]
    x = squashed(picture)
    for tensor, count in ((x[0], 1), (x, 1), (torch.cat([x, x]), 2), ([x[0], x[0]], 2)):
        prepared = explain(model, tensor, "a red circle", tokenizer)
        assert isinstance(prepared.maps, Tensor) and len(prepared) == count
        assert torch.allclose(prepared.maps[-1], found.maps[0], atol=1e-6)
        assert prepared.pixels(-1).shape == (1, 96, 96) and prepared.pictures[0].image.size == (96, 96)
    # A tensor's picture is what its values show.
    shown = np.asarray(prepared.pictures[0].image, dtype=float)
    assert np.abs(shown / 255 * 2 - 1 - x[0].permute(1, 2, 0).numpy()).max() < 0.01
    by_transform = explain(model, picture, "a red circle", tokenizer, preprocess=transform)
    cropped = explain(model, picture, "a red circle", tokenizer)
    assert by_transform.pictures[0].frame == cropped.pictures[0].frame
    assert torch.allclose(by_transform.maps[0], cropped.maps[0], atol=0.05 * float(cropped.maps[0].max()))


def test_images_of_different_sizes(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    different = [picture.resize((96, 64)), picture.resize((64, 96)), picture.resize((96, 64)).rotate(180)]
    with counted(model) as passes:
        found = explain(model, different, TEXTS, tokenizer, preprocess="keep")
    assert passes == {"image": 4, "text": 2}  # two for each of the two sizes
    assert isinstance(found.maps, list) and [tuple(one.shape) for one in found.maps] == [(2, 8, 12), (2, 12, 8), (2, 8, 12)]
    for number, image in enumerate(different):
        alone = explain(model, image, TEXTS, tokenizer, preprocess="keep")
        assert torch.allclose(found.maps[number], alone.maps[0], atol=1e-6)
        assert torch.allclose(found.scores[number], alone.scores[0], atol=1e-6)  # type: ignore[index]
        for (word, weight), (same, expected) in zip(found.words[number][0], alone.words[0][0]):  # type: ignore[index]
            assert word == same and abs(weight - expected) < 1e-6


@pytest.mark.parametrize("workers", [None, 0, 3])
def test_batches_of_images_that_threads_prepare(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path, workers: int | None
) -> None:
    """However they come together, each image has the explanation that it has alone, in its own place."""
    model, _, tokenizer = clip
    given: list[Any] = []
    for number, size in enumerate([(96, 64), (64, 96), (96, 64), (96, 64), (192, 192), (64, 96), (96, 64)]):
        given.append(picture.rotate(10 * number).resize(size))
        given[-1].save(tmp_path / f"{number}.png")
    given[3], given[5] = tmp_path / "3.png", tmp_path / "5.png"
    with counted(model) as passes:
        found = explain(model, given, TEXTS, tokenizer, preprocess="keep", batch_size=1, workers=workers)
    # Of 96 x 64 pixels one fits into a batch for one image of 96 x 96, of 192 x 192 as well.
    assert passes == {"image": 14, "text": 2} and [one.name for one in found.paths] == ["3.png", "5.png"]
    with counted(model) as passes:
        together = explain(model, given, TEXTS, tokenizer, preprocess="keep", batch_size=2, workers=workers)
    assert passes == {"image": 2 * 4, "text": 2}  # three of four in one size, both of another, the large one, and the last
    for number, one in enumerate(given):
        alone = explain(model, one, TEXTS, tokenizer, preprocess="keep")
        for several in (found, together):
            part = several.image(number)
            assert part.pictures[0].image.size == alone.pictures[0].image.size and len(part) == 1
            assert torch.allclose(part.maps[0], alone.maps[0], atol=1e-5) and float(part.maps[0].std()) > 0
            assert torch.allclose(part.scores, alone.scores, atol=1e-6)  # type: ignore[arg-type]
            assert part.words is not None and alone.words is not None
            assert [word for word, _ in part.words[0][1]] == [word for word, _ in alone.words[0][1]]
            assert torch.allclose(part.token_weights, alone.token_weights, atol=1e-6)  # type: ignore[arg-type]
    assert together.image(-1).names == ["image 6"]
    with pytest.raises(IndexError):
        together.image(7)


def test_a_picture_that_cannot_be_read_is_named_also_by_threads(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path
) -> None:
    model, _, tokenizer = clip
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"^images: .*broken\.jpg"):
        explain(model, [picture, tmp_path / "broken.jpg", picture], "a star", tokenizer, workers=2)
    with counted(model) as passes, pytest.raises(FileNotFoundError, match=r"^images: there is no file .*nowhere"):
        explain(model, [picture] * 3 + [tmp_path / "nowhere.png"], "a star", tokenizer, batch_size=1)  # type: ignore[list-item]
    assert passes["image"] == 0  # told before the work
    before = threading.active_count()
    explain(model, [picture] * 3, "a star", tokenizer, preprocess=lambda image: squashed(image)[0])
    assert threading.active_count() == before


def test_a_transform_of_the_user_is_called_in_the_users_thread(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image
) -> None:
    model, _, tokenizer = clip
    threads = set()

    def transform(image: Image.Image) -> Tensor:
        threads.add(threading.current_thread())
        return squashed(image)[0]

    explain(model, [picture] * 3, "a star", tokenizer, preprocess=transform)
    assert threads == {threading.current_thread()}


def test_pixels_are_nan_where_the_model_saw_nothing(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer)  # cropped to the center 160 x 160
    full = found.pixels(0)
    assert full.shape == (2, 160, 240) and full.dtype == torch.float32
    unseen = torch.isnan(full)
    assert unseen[..., :40].all() and unseen[..., 200:].all() and not unseen[..., 40:200].any()
    assert torch.equal(found.pixels(-1).nan_to_num(), full.nan_to_num())
    with pytest.raises(IndexError):
        found.pixels(1)


def test_classes_of_a_classifier(picture: Image.Image) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["transformers ViT"].build())
    model.config.id2label = {n: f"thing {n}, kind {n}" for n in range(50)}  # type: ignore[union-attr]
    found = explain(model, [picture, picture.rotate(90)], targets=[3, "kind 7"])
    assert found.targets == [3, 7] and found.texts == ["thing 3, kind 3", "thing 7, kind 7"]
    assert isinstance(found.maps, Tensor) and found.maps.shape[:2] == (2, 2) and found.words is None
    score, x = ClassScore(model), torch.cat([one.pixels for one in found.pictures])
    with torch.no_grad():
        logits = score(x)
    assert torch.allclose(found.scores, logits[:, [3, 7]], atol=1e-5)  # type: ignore[arg-type]
    assert torch.allclose(found.probabilities, logits.softmax(dim=1)[:, [3, 7]], atol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(found.maps, GradECLIP.for_score(score).attribute_targets(x, [3, 7]), atol=1e-6)
    likely = explain(model, [picture, picture.rotate(90)])
    assert likely.targets == logits.softmax(dim=1).mean(dim=0).topk(3).indices.tolist()
    alone = explain(model, picture, targets="thing 7,", scores=False)
    assert alone.targets == [7] and alone.scores is None and alone.probabilities is None
    columns = ["image", "text", "target", "score", "probability", "explained_score", "carried"]
    assert list(found.to_pandas().columns) == columns


def test_one_text_rather_than_another(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    signed: dict[str, Any] = {"relu_attributions": False}
    plain = explain(model, picture, [*TEXTS, "a blue star"], tokenizer, **signed)
    found = explain(model, picture, TEXTS, tokenizer, against="a blue star", **signed)
    assert isinstance(found.maps, Tensor) and isinstance(plain.maps, Tensor)
    assert torch.allclose(found.maps, plain.maps[:, :2] - plain.maps[:, 2:], atol=1e-6) and found.maps.std() > 1e-4
    for name in ("scores", "explained_scores"):
        one, other = vars(found)[name], vars(plain)[name]
        assert torch.allclose(one, other[:, :2] - other[:, 2:], atol=1e-6)
    assert found.words == explain(model, picture, TEXTS, tokenizer, **signed).words, "words do not depend on the other text"
    assert found.against == "a blue star" == found.options["against"] and found.texts == TEXTS
    assert list(found.to_pandas()["against"].unique()) == ["a blue star"] and "against" not in plain.to_pandas()
    page = found._repr_html_()
    assert "a red circle rather than a blue star" in page and "difference " in page
    empty = explain(model, picture, TEXTS, tokenizer, against="", words=False)
    score = ImageTextScore(model, TEXTS, tokenizer)
    own = score(empty.pictures[0].pixels) - ImageTextScore(model, score.empty_features)(empty.pictures[0].pixels)
    assert torch.allclose(empty.scores, own.detach(), atol=1e-5) and "rather than no words" in empty._repr_html_()  # type: ignore[arg-type]
    for against, error, message in (
        (1, TypeError, "against: expected another text, got 1"),
        (TEXTS[0], ValueError, "against: 'a red circle' is among the texts"),
    ):
        with pytest.raises(error, match=message):
            explain(model, picture, TEXTS, tokenizer, against=against)


def test_one_class_rather_than_another(picture: Image.Image) -> None:
    model = stir(FAMILIES["timm ViT"].build())
    signed: dict[str, Any] = {"relu_attributions": False}
    plain = explain(model, picture, targets=[3, 7, 5], **signed)
    found = explain(model, picture, targets=[3, 7], against=5, **signed)
    assert torch.allclose(found.maps, plain.maps[:, :2] - plain.maps[:, 2:], atol=1e-5)  # type: ignore[index,call-overload,arg-type]
    assert torch.allclose(found.scores, plain.scores[:, :2] - plain.scores[:, 2:], atol=1e-5)  # type: ignore[index,arg-type]
    assert found.against and torch.equal(found.probabilities, plain.probabilities[:, :2])  # type: ignore[index,arg-type]
    with pytest.raises(ValueError, match="against: 5 is among the targets"):
        explain(model, picture, targets=[5], against=5)
    with pytest.raises(ValueError, match="against: "):
        explain(model, picture, targets=[5], against=5000)


def test_other_methods(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    score, x = ImageTextScore(model, TEXTS, tokenizer), squashed(picture)
    for method in ("game", GAME):
        found = explain(model, picture, TEXTS, tokenizer, preprocess="squash", method=method, layers=1)
        expected = GAME(score, score.layers[-1:]).attribute_targets(x)
        assert found.method == "GAME" and torch.allclose(found.maps[0], expected[0], atol=1e-6) and found.words is not None
    dense = explain(model, picture, TEXTS, tokenizer, preprocess="squash", method="MaskCLIP", key_weight=True)
    expected = MaskCLIP.for_score(score).attribute_targets(x, key_weight=True)
    assert dense.words is None and torch.allclose(dense.maps[0], expected[0], atol=1e-6)
    assert dense.options["key_weight"] is True and dense.explained_word_scores is None


def test_notices_are_kept_and_warnings_of_others_go_on(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip

    def transform(image: Image.Image) -> Tensor:
        notice("this picture is odd")
        warnings.warn("this will go", DeprecationWarning, stacklevel=1)
        return squashed(image)[0]

    with pytest.warns(DeprecationWarning, match="this will go"):
        found = explain(model, [picture, picture], TEXTS, tokenizer, preprocess=transform)
    assert found.warnings == ["this picture is odd"] and "1 warnings" in repr(found)
    assert "this picture is odd" in found._repr_html_()
    with pytest.warns(UserWarning, match="is odd"):
        notice("this picture is odd")  # outside of an explanation


def test_two_threads_keep_their_own_notices() -> None:
    """Python's own way to catch warnings would leave the warnings of all threads changed for good."""
    show, entered, left = warnings.showwarning, threading.Barrier(2), threading.Barrier(2)
    found: dict[int, list[str]] = {}

    def keep(number: int) -> None:
        with kept_notices() as kept:
            entered.wait()
            notice(f"thread {number}")
            left.wait()
        found[number] = kept

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: ["thread 0"], 1: ["thread 1"]} and warnings.showwarning is show


def test_an_object_of_a_method_and_maps_of_heads_are_refused(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    score = ImageTextScore(model, TEXTS, tokenizer)
    with pytest.raises(TypeError, match="method: expected a name or a class"):
        explain(model, picture, TEXTS, tokenizer, method=GAME(score, score.layers[:1]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='heads: "each" gives several maps'):
        explain(model, picture, TEXTS, tokenizer, heads="each")


def test_what_is_shown(clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path) -> None:
    model, _, tokenizer = clip
    found = explain(model, [picture, picture.resize((100, 160))], TEXTS, tokenizer)
    figure = found.plot()
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "plot.png")
    one = explain(model, picture, TEXTS, tokenizer).plot()
    assert [axis.get_title() for axis in one.axes[:3]] == ["image 0", *TEXTS]
    assert len(one.axes) == 7, "the picture, two overlays, their words, the bar and the veil of what was cropped"
    page = replace(found, names=["<script>", "b"])._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 6, "two pictures with two overlays each"
    assert page.count("hatched: not seen by the model") == 2 and page.count('gc-unit">cosine') == 2 and "://" not in page
    assert page.count("<script>") == 1 and "&lt;script&gt;" in page and "&lt;green&gt;" in page
    assert "--weight:1.000" in page and page.startswith('<div class="gradeclip"') and '<button class="gc-word' not in page
    assert page.count(f"score {float(found.scores[0, 0]):+.3f}") >= 1  # type: ignore[index]
    table = found.to_pandas()
    words = sum(len(caption) for image in found.words for caption in image)  # type: ignore[union-attr]
    assert len(table) == words and set(table["text"]) == set(TEXTS) and set(table["image"]) == {"image 0", "image 1"}
    assert abs(float(table["score"][0]) - float(found.scores[0, 0])) < 1e-6  # type: ignore[index]
    assert list(table["word"][:3]) == ["a", "red", "circle"] and list(table["position"][:3]) == [0, 1, 2]
    without = explain(model, picture, TEXTS, tokenizer, words=False)
    assert len(without.to_pandas()) == 2 and "weight" not in without.to_pandas()
    assert 'class="gc-word"' not in without._repr_html_()


def test_words_have_regions_where_they_are_asked_for(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    """Each image with all of its texts is one item of the attribution, whose words stand one behind the other."""
    model, _, tokenizer = clip
    texts = ["a red circle", "something green"]
    found = explain(model, [picture, picture.rotate(90)], texts, tokenizer, regions=True, words=False)
    both = WordRegionAttribution(model, tokenizer)
    directions = both.directions(texts)
    for i, one in enumerate(found.pictures):
        expected = both.regions(one.pixels, directions.flatten(0, 1)[None])[0].unflatten(0, directions.shape[:2])
        for t, text in enumerate(texts):
            words = found.regions[i][t]  # type: ignore[index]
            assert [word for word, _ in words] == text.split()
            # The first token is the start mark, and each of these words is one token.
            assert relative(torch.stack([one for _, one in words]), expected[t, 1 : 1 + len(words)]) < 1e-5
    assert found.image(1).regions == [found.regions[1]]  # type: ignore[index]
    assert explain(model, picture, texts, tokenizer, words=False).regions is None
    assert found._repr_html_().count('<button class="gc-word"') == 2 * sum(len(text.split()) for text in texts)


def test_a_widget_is_bounded(clip: tuple[nn.Module, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, tokenizer = clip
    noise = Image.effect_noise((900, 900), 90).convert("RGB")
    found = explain(model, [noise] * 3, [*TEXTS, "a blue star"], tokenizer, words=False)
    monkeypatch.setattr(report, "MOST_PICTURES", 2)
    monkeypatch.setattr(report, "MOST_TEXTS", 2)
    piece = found._repr_html_()
    assert "the first 2 of 3 pictures" in piece and "2 of 3 texts" in piece and piece.count('class="gc-text"') == 4
    assert found.scores is not None
    least = found.texts[int(found.scores[0].argmin())]
    assert f'dir="auto">{least}</span>' not in piece and len(piece) < 2_000_000


def test_a_page_is_written_where_it_is_asked_for(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path
) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer, regions=True)
    found.save(tmp_path, html=True)
    page, stored = (tmp_path / "explanation.html").read_text(), np.load(tmp_path / "maps.npz")
    assert page.startswith("<!DOCTYPE html>") and "://" not in page and "a red circle" in page
    for t, words in enumerate(found.regions[0]):  # type: ignore[index]
        assert np.array_equal(stored[f"regions_{t}"], torch.stack([one for _, one in words]).numpy())
    found.save(tmp_path)
    assert not (tmp_path / "explanation.html").exists(), "it belongs to the results that were replaced"


def test_a_plot_has_the_look_that_was_asked_for(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer, preprocess="squash", relu_attributions=False)
    full = found.pixels(0)
    for options, scales in (
        ({}, [show.Scale.of(full)] * 2),
        ({"color_scale": "each", "cmap": "PuOr"}, [show.Scale.of([one]) for one in full]),
    ):
        figure = found.plot(width=100, dpi=120, **options)
        assert figure.get_figwidth() * 25.4 == pytest.approx(100) and figure.dpi == 120
        for axis, one, scale in zip(figure.axes[1:3], full, scales):
            assert scale.signed
            expected = np.asarray(show.overlay(picture, one, cmap=options.get("cmap"), scale=scale)).astype(int)
            assert np.abs(np.asarray(axis.get_images()[0].get_array()) - expected).max() <= 2
    words = [text.get_text() for axis in found.plot().axes for text in axis.texts]
    assert {"red", "circle", "<green>"} & set(words)
    shown = Image.open(io.BytesIO(found.plot()._repr_png_()))
    assert shown.format == "PNG"
    for name, value in {"cmap": "virdis", "width": 1, "color_scale": "own", "dpi": 0}.items():
        with pytest.raises(ValueError, match=f"^{name}: "):
            found.plot(**{name: value})  # type: ignore[arg-type]


def test_one_image_may_be_plotted_alone(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    model, _, tokenizer = clip
    found = explain(model, [picture, picture.rotate(90)], TEXTS, tokenizer, words=False)
    first, last, all_ = found.plot(0), found.plot(-1), found.plot()
    assert len(first.axes) == len(last.axes) < len(all_.axes)
    assert not np.array_equal(first.axes[0].images[0].get_array(), last.axes[0].images[0].get_array())
    for wrong in (2, -3):
        with pytest.raises(IndexError, match="^image: expected the number of one of 2 images"):
            found.plot(wrong)


def test_a_notebook_shows_a_plot_of_which_pyplot_knows_nothing(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook asks an object for its PNG; a figure of pyplot would be shown twice, or need a window."""
    import matplotlib.pyplot as plt

    model, _, tokenizer = clip
    monkeypatch.setattr(plt, "switch_backend", lambda name: pytest.fail(f"pyplot was asked for {name}"))
    figure = explain(model, picture, TEXTS, tokenizer).plot()
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert shown.format == "PNG" and shown.width == pytest.approx(150 * figure.get_figwidth(), abs=1)
    assert (not plt.get_fignums() and not hasattr(figure, "_repr_html_")) or figure._repr_html_() is None


def test_a_wrong_text_looks_cold(clip: tuple[nn.Module, Any, Any]) -> None:
    """On one scale, a text with a hundredth of the attribution changes hardly a pixel; by itself it looks like it."""
    model, _, tokenizer = clip
    image = Image.effect_noise((64, 64), 60).convert("RGB")
    found = explain(model, image, TEXTS, tokenizer, preprocess="squash", words=False)
    assert isinstance(found.maps, Tensor)
    maps = torch.stack([found.maps[0, 0], 0.01 * found.maps[0, 0]])[None]
    strong = []
    for color_scale in ("shared", "each"):
        figure = replace(found, maps=maps).plot(color_scale=color_scale)  # type: ignore[arg-type]
        right, wrong = (np.asarray(axis.get_images()[0].get_array()).astype(int) for axis in figure.axes[1:3])
        strong.append([np.abs(one - np.asarray(image)).max() for one in (right, wrong)])
    assert strong[0][0] > 60 and strong[0][1] < 15 and strong[1][1] == strong[1][0]


def test_every_method_says_what_its_maps_are_measured_in() -> None:
    units = {kind.__name__: report.unit_of(kind.__name__, "cosine") for kind in attr.METHODS}
    assert {name for name, unit in units.items() if unit == "attention"} == {"RawAttention", "AttentionRollout"}
    assert (units["M2IB"], units["GAME"], units["GradECLIP"]) == ("nats", "relevance", "cosine")
    assert set(units.values()) == {"attention", "nats", "relevance", "cosine"}
    assert report.unit_of("GradECLIP", "logit") == "logit"


def test_without_pandas(clip: tuple[nn.Module, Any, Any], picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, tokenizer = clip
    found = explain(model, picture, TEXTS, tokenizer)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        found.to_pandas()


def test_what_is_written(clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path) -> None:
    model, _, tokenizer = clip
    one = explain(model, picture, TEXTS, tokenizer)
    one.save(tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        *("overlay-0-a-red-circle.png", "overlay-1-something-green.png", "strip.png", "words.png", "words.html"),
        *("maps.npz", "explanation.json"),
    }
    stored = np.load(tmp_path / "one" / "maps.npz")
    assert np.array_equal(stored["image"], one.maps[0].numpy()) and stored["text"].shape == (2, 24)
    assert Image.open(tmp_path / "one" / "overlay-0-a-red-circle.png").size == (240, 160)
    told = json.loads((tmp_path / "one" / "explanation.json").read_text())
    assert told["method"] == "GradECLIP" and told["warnings"] == [] and told["input"]["grid"] == [12, 12]
    assert abs(sum(word["weight"] for word in told["texts"][0]["words"]) - 1) < 1e-6
    assert told["figures"] == {
        **{"cmap": None, "color_scale": "shared", "width": None, "dpi": 150, "format": "png", "full_size": False}
    }
    one.save(tmp_path / "one", format="pdf", width=84, color_scale="each", cmap="viridis")
    assert {path.name for path in (tmp_path / "one").glob("*.p*")} == {
        *("overlay-0-a-red-circle.png", "overlay-1-something-green.png", "strip.pdf", "words.pdf"),
    }
    several = explain(model, [picture, picture], TEXTS, tokenizer, words=False, scores=False)
    several.save(str(tmp_path / "several"))
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == ["0-image-0", "1-image-1"]
    told = json.loads((tmp_path / "several" / "0-image-0" / "explanation.json").read_text())
    assert set(told["texts"][0]) == {"text", "explained_score", "carried"}
    assert not list((tmp_path / "several").rglob("words*"))


def test_overlays_have_the_size_that_is_looked_at(clip: tuple[nn.Module, Any, Any], tmp_path: Path) -> None:
    model, _, tokenizer = clip
    photo = Image.effect_noise((2000, 500), 60).convert("RGB")
    found = explain(model, photo, TEXTS[0], tokenizer, words=False)
    name = "overlay-0-a-red-circle.png"
    found.save(tmp_path)
    assert Image.open(tmp_path / name).size == (report.OVERLAY, report.OVERLAY // 4)
    found.save(tmp_path, full_size=True)
    full = np.asarray(Image.open(tmp_path / name)).astype(int)
    assert full.shape == (500, 2000, 3)
    expected = show.overlay(photo, found.pixels(0)[0], scale=show.Scale.of(found.pixels(0)))
    assert np.array_equal(full, np.asarray(expected))
    unseen = torch.isnan(found.pixels(0)[0]).numpy()
    assert (np.ptp(full, axis=-1)[unseen] == 0).all() and unseen.mean() > 0.7, "the crop of a panorama"


def test_results_of_several_images_are_replaced_together(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, tmp_path: Path
) -> None:
    model, _, tokenizer = clip
    noise = Image.effect_noise((1200, 1200), 90).convert("RGB")  # which needs a larger file
    before, after = (explain(model, [picture, noise], text, tokenizer, words=False) for text in TEXTS)
    before.save(tmp_path)
    kept = contents(tmp_path)
    with full_after(1_500_000), pytest.raises(OSError, match="too large.*1-image-1/overlay-0"):
        after.save(tmp_path)
    assert contents(tmp_path) == kept
    after.save(tmp_path)
    assert contents(tmp_path).keys() != kept.keys() and not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"images": []}, ValueError, "images: expected at least one"),
        ({"images": 3}, TypeError, "images: expected a PIL image.*got int"),
        ({"images": "missing.png"}, FileNotFoundError, "images: there is no file"),
        ({"images": np.zeros((4, 4), dtype=np.uint8)}, ValueError, r"images: expected an array \(H, W, 3\) of uint8"),
        ({"images": np.zeros((4, 4, 3))}, ValueError, r"images: expected an array \(H, W, 3\) of uint8, got float64"),
        ({"images": torch.zeros(3, 64, 64, dtype=torch.uint8)}, ValueError, "images: expected a floating point tensor"),
        ({"images": torch.zeros(1, 64, 64)}, ValueError, "images: expected a floating point tensor"),
        ({"images": torch.zeros(3, 0, 0)}, ValueError, "images: expected a floating point tensor"),
        ({"texts": None}, ValueError, "texts: CLIP compares images with texts; give at least one text"),
        ({"texts": []}, ValueError, "texts: CLIP compares images with texts"),
        ({"texts": ["red " * 40]}, ValueError, "text: .* the model reads 24"),
        ({"tokenizer": None}, TypeError, "tokenizer: needed"),
        ({"targets": 3}, ValueError, "targets: CLIP is no classifier"),
        ({"preprocess": "fit"}, ValueError, "preprocess: expected 'model', one of"),
        ({"preprocess": lambda image: torch.zeros(3, 0, 8)}, TypeError, r"preprocess: expected it to return .* \(3, 0, 8\)"),
        ({"preprocess": lambda image: image}, TypeError, "preprocess: expected it to return .* got Image"),
        ({"method": "ScoreCAM"}, ValueError, "there is no 'ScoreCAM'"),
        ({"layers": 9}, ValueError, "^layers: expected 1 to 2"),
        ({"text_layers": 0}, ValueError, "^text_layers: expected 1 to 8"),
        ({"device": "nowhere"}, ValueError, "device: torch cannot use 'nowhere'"),
        ({"heads": "both"}, ValueError, "heads: expected"),
        ({"batch_size": 0}, ValueError, "^batch_size: expected at least 1, got 0"),
        ({"workers": -1}, ValueError, "^workers: expected at least 0, got -1"),
        ({"heads": "each"}, ValueError, "heads: "),
    ],
)
def test_bad_arguments_are_named(
    clip: tuple[nn.Module, Any, Any],
    picture: Image.Image,
    changed: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    model, _, tokenizer = clip
    given: dict[str, Any] = {"images": picture, "texts": TEXTS, "tokenizer": tokenizer, **changed}
    with pytest.raises(kind, match=message):
        explain(model, **given)


def test_bad_arguments_of_a_classifier_are_named(picture: Image.Image) -> None:
    model = FAMILIES["timm ViT"].build().eval()
    for changed, message in (
        ({"texts": "a dog"}, "texts: .* is a classifier without a text encoder; name classes by targets"),
        ({"targets": 50}, "targets: expected a class from 0 to 49, got 50"),
        ({"targets": []}, "targets: expected at least one class"),
        ({"targets": "dog"}, "targets: this model does not name its classes"),
    ):
        with pytest.raises(ValueError, match=message):
            explain(model, picture, **changed)  # type: ignore[arg-type]
    with pytest.raises(adapters.UnsupportedModelError, match=r"^model: "):
        explain(nn.Linear(2, 2), picture, "a dog")


def test_nothing_is_changed(clip: tuple[nn.Module, Any, Any], picture: Image.Image) -> None:
    from .conftest import fingerprint

    model, _, tokenizer = clip
    before = fingerprint(model)
    found = explain(model, picture, TEXTS, tokenizer)
    with torch.inference_mode():
        again = explain(model, picture, TEXTS, tokenizer)
    assert fingerprint(model) == before and torch.equal(found.maps, again.maps)  # type: ignore[arg-type]
    assert isinstance(found, Explanation) and not re.search("0x", repr(found))


def test_more_patches_than_usual_are_asked_for_in_python_as_well(
    clip: tuple[nn.Module, Any, Any], picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, tokenizer = clip
    monkeypatch.setattr(images, "USUAL_TOKENS", 300)
    found = explain(model, picture, TEXTS, tokenizer, preprocess="keep")
    patch = adapters.image_tower(model).patch
    whole = (160 // patch) * (240 // patch)
    assert found.maps[0, 0].numel() <= 300 and f"max_tokens={whole} takes all" in found.warnings[0]  # type: ignore[call-overload]
    every = explain(model, picture, TEXTS, tokenizer, preprocess="keep", max_tokens=whole)
    assert every.maps[0, 0].numel() == whole and "max_tokens" not in " ".join(every.warnings)  # type: ignore[call-overload]
    finer = explain(model, picture, TEXTS, tokenizer, preprocess=12 * patch)
    assert finer.maps.shape[-2:] == (8, 12) and not finer.pixels(0).isnan().any()  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="more than max_tokens=10"):
        explain(model, picture, TEXTS, tokenizer, preprocess="keep", max_tokens=10)


def test_what_a_processor_returned_without_images_is_refused(clip: tuple[nn.Module, Any, Any]) -> None:
    model, _, tokenizer = clip
    with pytest.raises(ValueError, match="images: expected the pixel_values of a processor, got input_ids"):
        explain(model, {"input_ids": torch.zeros(1, 4)}, TEXTS, tokenizer)
    with pytest.raises(ValueError, match=r"images: expected pixel_values of a processor as a tensor .* got them as list"):
        explain(model, {"pixel_values": [np.zeros((3, 4, 4))]}, TEXTS, tokenizer)


def test_a_transform_that_ends_in_bytes_is_told_what_is_missing() -> None:
    model, _, tokenizer = scenes.load()
    with pytest.raises(TypeError, match=r"^preprocess: .* got torch.uint8 .*ToDtype\(torch.float32, scale=True\)"):
        explain(model, Image.new("RGB", (64, 64)), ["a"], tokenizer, preprocess=lambda _: torch.zeros(3, 64, 64).byte())  # type: ignore[arg-type]
