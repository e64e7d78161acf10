"""Setups: what the released one keeps of the published code where the defaults of a method have moved away from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, scenes
from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.attr import GAME, M2IB, RISE, CLIPSurgery, GradECLIPWithoutWeight, MaskCLIP
from captum_gradeclip.experiments import FAIR, RELEASED, Settings, Setup, released_texts
from captum_gradeclip.experiments.data import Scenes
from captum_gradeclip.experiments.explainers import Batch, Explainer, explainers
from captum_gradeclip.experiments.prompt_score import PromptScore
from captum_gradeclip.experiments.released_texts import NOUNS, SCENE_TEMPLATES, wrapper_features
from captum_gradeclip.experiments.setups import InputSpec
from captum_gradeclip.experiments.tasks import Localization
from captum_gradeclip.scores import ModelScore
from captum_gradeclip.scores.prompts import imagenet_templates, prompt_ensemble

TEXTS = ["a picture of the red circle", "there is a blue star", "two stripes of orange paper"]


def batch_of(score: ModelScore, inputs: Tensor) -> Batch:
    return Batch(score, inputs, targets=[0, 1, 1], seeds=[0, 1, 2])


@pytest.fixture(scope="module")
def texts() -> Batch:
    model, preprocess, tokenizer = scenes.load()
    pixels = torch.stack([preprocess(item.image) for item in scenes.SceneDataset(2, "validation", counts=(3,))])
    return batch_of(TextImageScore(model, pixels), tokenizer(TEXTS))


@pytest.fixture(scope="module")
def pictures() -> Batch:
    model, preprocess, tokenizer = scenes.load()
    pixels = torch.stack([preprocess(item.image) for item in scenes.SceneDataset(3, "validation", counts=(3,))])
    return batch_of(ImageTextScore(model, TEXTS[:2], tokenizer), pixels)


def maps_of(setup: Setup, kind: type[GradECLIP], batch: Batch, layers: int | None = None) -> list[Tensor]:
    explainer = Explainer(kind, setup, layers=layers)
    return [explainer.explain(batch), explainer.explain_all(batch)]


@pytest.mark.parametrize("kind", [GradECLIP, GradECLIPWithoutWeight])
@pytest.mark.parametrize("layers", [None, 4])
def test_released_word_maps_are_the_sum_before_relu_to_the_last_bit(
    texts: Batch, kind: type[GradECLIP], layers: int | None
) -> None:
    method = kind(texts.score, texts.score.layers[-(layers or 8) :])
    keys = {"key_tokens": "all"} if kind is GradECLIP else {}
    asked = {"relu_before_sum": False, **keys}
    expected = [
        method.attribute(texts.inputs, list(texts.targets), **asked),
        method.attribute_targets(texts.inputs, list(texts.targets), **asked),
    ]
    for one, other in zip(maps_of(RELEASED, kind, texts, layers), expected):
        assert torch.equal(one, other)
    signed = method.attribute(texts.inputs, list(texts.targets), relu_attributions=False, **keys)
    assert torch.equal(expected[0], signed.relu()), "ReLU of the sum over the layers, as the released code has it"
    for one, other in zip(maps_of(FAIR, kind, texts, layers), expected):
        assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", [GradECLIP, GradECLIPWithoutWeight])
def test_of_one_layer_the_order_of_relu_and_sum_is_no_matter(texts: Batch, kind: type[GradECLIP]) -> None:
    for number in (-1, 0):
        method = kind(texts.score, texts.score.layers[number])
        for options in ({}, {"heads": "model"}, {"relu_attributions": False}):
            one, other = (method.attribute(texts.inputs, 0, relu_before_sum=order, **options) for order in (True, False))
            assert torch.equal(one, other) and one.abs().sum() > 0


def test_pictures_had_this_order_before(pictures: Batch) -> None:
    for setup in (FAIR, RELEASED):
        method = GradECLIP(pictures.score, pictures.score.layers[-2:])
        options = {"similarity": "projected"} if setup is RELEASED else {}
        expected = method.attribute(pictures.inputs, list(pictures.targets), relu_before_sum=True, **options)
        assert torch.equal(maps_of(setup, GradECLIP, pictures, layers=2)[0], expected)
    plain = method.attribute(pictures.inputs, list(pictures.targets))
    assert not torch.allclose(plain, expected), "the scripts compare queries and keys behind the output projection"


SPEC = InputSpec((96, 96), 8, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("pixels", [1, 150, 199, 200, 9216, 640 * 959])
def test_the_released_step_is_ten_parts_of_two_hundred(pixels: int) -> None:
    size = max(1, int(pixels / 200))
    expected = [min(pixels, 10 * size * number) for number in range(1, 11)]
    assert RELEASED.schedule.counts(pixels, "deletion") == [0, *expected]
    assert RELEASED.schedule.counts(pixels, "insertion") == [*expected, pixels]


@pytest.mark.parametrize("size", [(100, 96), (1000, 667), (301, 203), (96, 96)])
def test_the_released_picture_is_changed_as_it_is_and_seen_in_patches(size: tuple[int, int]) -> None:
    """The shorter side is cut to 640 by truncation; methods see the nearest patches, the model the center of it all."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    view = RELEASED.view(image, SPEC, "squash")
    small = image
    if min(size) > 640:
        factor = min(size) / 640
        small = image.resize((int(size[0] / factor), int(size[1] / factor)), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255 * 2 - 1
    assert torch.allclose(view.pixels, expected, atol=1e-6) and view.image.size == size
    assert view.frame_of(torch.zeros(3, 4)).box == (0.0, 0.0, *map(float, size)), "maps are stretched over the whole picture"
    seen = RELEASED.seen(MaskCLIP, view.pixels, SPEC)
    wanted = [int(side / 8 + 0.5) * 8 for side in view.pixels.shape[-2:]]
    assert list(seen.shape[-2:]) == wanted
    resized = F.interpolate(view.pixels, wanted, mode="bicubic", antialias=True)
    assert torch.allclose(seen, view.pixels if list(view.pixels.shape[-2:]) == wanted else resized, atol=1e-6)
    center = SPEC.center(expected)
    assert torch.allclose(RELEASED.judge(view.pixels, SPEC), center, atol=1e-5)
    assert torch.allclose(RELEASED.seen(GAME, view.pixels, SPEC), center, atol=1e-5)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    model, _, tokenizer = scenes.load()
    return Loaded(model, tokenizer)


def ensemble(loaded: Loaded, name: str, templates: list[str]) -> Tensor:
    """The mean direction of some sentences, one by one."""
    total = torch.zeros(128)
    for template in templates:
        with torch.no_grad():
            feature = loaded.model.encode_text(loaded.tokenizer([template.format(name)]))[0]
        total = total + feature / feature.norm()
    return total / total.norm()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven sentences of the 85, since the others only take time."""
    assert len(NOUNS) == len(set(NOUNS)) == 59 and len(imagenet_templates()) + len(SCENE_TEMPLATES) == 85
    monkeypatch.setattr(released_texts, "imagenet_templates", lambda: imagenet_templates()[:2])


@pytest.mark.usefixtures("few")
def test_each_method_is_told_what_the_released_code_tells_it(loaded: Loaded, pictures: Batch) -> None:
    names = ["red circle", "blue star", "ring"]
    score = PromptScore(loaded, names, ["a picture of the {}"])
    batch = Batch(score, pictures.inputs, [0, 1, 2], [0, 1, 2])

    def explained(kind: type) -> Tensor:
        return Explainer(kind, RELEASED).explain(batch)

    bare = torch.stack([ensemble(loaded, name, ["{}"]) for name in names])
    game = GAME.for_score(ImageTextScore(loaded.model, bare, loaded.tokenizer))
    assert torch.allclose(explained(GAME), game.attribute(pictures.inputs, [0, 1, 2]), atol=1e-6)
    wrapped = ImageTextScore(loaded.model, wrapper_features(loaded.model, loaded.tokenizer(names)))
    m2ib = M2IB.for_score(wrapped).attribute(pictures.inputs, [0, 1, 2])
    assert torch.allclose(explained(M2IB), m2ib, atol=1e-6)
    sentences = [*imagenet_templates()[:2], *SCENE_TEMPLATES]
    nouns = [ensemble(loaded, noun, sentences) for noun in NOUNS]
    for number, name in enumerate(names):  # each class is the first of sixty labels
        labels = torch.stack([ensemble(loaded, name, sentences), *nouns])
        surgery = CLIPSurgery.for_score(ImageTextScore(loaded.model, labels))
        options = {"redundancy": "labels", "normalization": "tokens"}
        expected = surgery.attribute(pictures.inputs[number][None], 0, **options)
        assert torch.allclose(explained(CLIPSurgery)[number], expected[0], atol=1e-5)
    plain = GradECLIP.for_score(score).attribute(pictures.inputs, [0, 1, 2], similarity="projected")
    assert torch.equal(explained(GradECLIP), plain), "Grad-ECLIP has the prompts of the data set"


@pytest.mark.usefixtures("few")
def test_texts_of_a_method_are_encoded_once(loaded: Loaded, pictures: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def counting(model: nn.Module, tokenizer: object, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        encoded.append(len(names) * len(templates))
        return prompt_ensemble(model, tokenizer, names, templates)

    monkeypatch.setattr(released_texts, "prompt_ensemble", counting)
    batch = Batch(PromptScore(loaded, ["red circle", "blue star"], ["{}"]), pictures.inputs, [0, 1, 1], [0, 1, 2])
    for _ in range(2):
        Explainer(CLIPSurgery, RELEASED).explain(batch)
        Explainer(GAME, RELEASED).explain(batch)
    assert sorted(encoded) == [2, 2 * 7, 59 * 7]


def test_rise_has_as_many_masks_as_the_setup_says_or_the_user() -> None:
    for setup, given, expected in ((FAIR, None, 500), (RELEASED, None, 2000), (RELEASED, 7, 7)):
        (one,) = explainers(["RISE"], rise_masks=given, setup=setup)
        assert one.kind is RISE and one.options == {"n_masks": expected}
    with pytest.raises(ValueError, match="rise_masks: expected at least 1"):
        Settings(rise_masks=0)


def test_a_released_run_on_pictures_that_are_not_whole_patches(loaded: Loaded) -> None:
    """The oracle's mask has the size of what methods see, and points where it should."""
    task = Localization(loaded, Scenes(2, counts=(2,)), Settings(methods=["GradECLIP", "oracle"], protocol="release"))
    task.begin()
    samples = []
    for number in range(2):
        sample = task.data[number]
        image = sample.image.resize((123, 101), Image.Resampling.BICUBIC)
        assert sample.segments is not None
        segments = F.interpolate(sample.segments[None, None].double(), size=(101, 123), mode="nearest")[0, 0].long()
        samples.append(task.prepare(replace(sample, image=image, segments=segments)))
    records = task.measure(samples)
    assert [one["values"]["PG"] for one in records if one["method"] == "Oracle"] == [1.0, 1.0]
