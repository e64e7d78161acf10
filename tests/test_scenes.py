"""The offline world: what is drawn, what is said, what is true, and a training run that resumes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from captum_gradeclip import adapters, benchmark, scenes
from captum_gradeclip.scenes import Caption, Phrase, Scene, SceneDataset, Thing, holds, soup, train
from captum_gradeclip.scenes.captions import NUMBERS
from captum_gradeclip.scenes.dataset import TwinScenes
from captum_gradeclip.scenes.model import WEIGHTS, build, save
from captum_gradeclip.scenes.vocabulary import MERGES, grammar_words, write_merges
from captum_gradeclip.scenes.world import SHAPES, split_of


def test_scenes_are_seeded_and_splits_share_none() -> None:
    seen: dict[str, str] = {}
    for split in ("train", "validation", "evaluation"):
        for index in range(50):
            scene = scenes.sample_scene(0, index, split)
            assert scene == scenes.sample_scene(0, index, split)
            assert scenes.split_of(scene.things) == split
            key = repr(sorted((t.colour, t.shape, t.material, t.size, int(64 * t.x), int(64 * t.y)) for t in scene.things))
            assert seen.setdefault(key, split) == split
    assert scenes.sample_scene(0, 1) != scenes.sample_scene(1, 1) != scenes.sample_scene(1, 2)
    with pytest.raises(ValueError, match="split: expected one of"):
        scenes.sample_scene(0, 0, "test")  # type: ignore[arg-type]


def test_the_dataset() -> None:
    data = SceneDataset(30, "evaluation", counts=(2, 3, 4), size=96)
    assert len(data) == 30 and len(list(data)) == 30
    for item in data:
        assert item.image.size == (96, 96) and item.masks.shape == (len(item.scene.things), 96, 96)
        assert 2 <= len(item.masks) <= 4 and item.masks.dtype == torch.bool
        assert item.masks.sum(dim=0).max() <= 1, "a pixel belongs to one thing"
        for mask, thing in zip(item.masks, item.scene.things):
            y, x = mask.nonzero().float().mean(dim=0) / 96
            assert abs(x - thing.x) < 0.08 and abs(y - thing.y) < 0.08
    with pytest.raises(IndexError):
        data[30]


def test_twins_differ_in_shapes_alone() -> None:
    data = TwinScenes(200, counts=(1, 2, 3))
    swapped = 0
    for index in range(0, 200, 2):
        one, other = data.scene(index), data.scene(index + 1)
        assert [replace(thing, shape="") for thing in one.things] == [replace(thing, shape="") for thing in other.things]
        assert one.texture == other.texture
        shapes = [[thing.shape for thing in scene.things] for scene in (one, other)]
        assert shapes[0] != shapes[1]
        assert split_of(one.things) == split_of(other.things) == "train"
        swapped += sorted(shapes[0]) == sorted(shapes[1])
    assert 30 < swapped < 90  # of one thing, and of things of one shape, there are none to exchange


def test_a_thing_of_which_no_other_shape_belongs_to_the_split_has_a_twin() -> None:
    data = TwinScenes(1348, counts=(1,))
    (one,), (other,) = data.scene(1346).things, data.scene(1347).things
    assert all(split_of((replace(one, shape=shape),)) != "train" for shape in SHAPES if shape != one.shape)
    assert other.shape != one.shape and other.material != one.material and split_of((other,)) == "train"


def test_a_mask_shows_its_colour() -> None:
    for item in SceneDataset(40, "evaluation", counts=(1,)):
        thing = item.scene.things[0]
        if thing.material == "plain":
            pixels = np.asarray(item.image)[item.masks[0].numpy()].astype(float)
            light = pixels.sum(axis=1)
            face = pixels[light >= np.quantile(light, 0.75)].mean(axis=0)
            nearest = min(scenes.COLOURS, key=lambda c: np.abs(face - scenes.COLOURS[c]).sum())
            assert nearest == thing.colour


def test_the_edge_of_a_thing_is_dark_and_belongs_to_it() -> None:
    for item in SceneDataset(40, "evaluation", counts=(1,)):
        thing, light = item.scene.things[0], np.asarray(item.image).astype(float).sum(axis=2)
        if thing.material == "plain":
            mask = item.masks[0].numpy()
            rim = mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=1)
            face = ndimage.binary_erosion(mask, iterations=6, border_value=1)
            if face.sum() > 20:
                assert light[rim].mean() < 0.6 * light[face].mean()


def test_every_attribute_occurs() -> None:
    things = [thing for index in range(400) for thing in scenes.sample_scene(0, index).things]
    for name, values in (
        ("colour", scenes.COLOURS),
        ("shape", scenes.SHAPES),
        ("material", scenes.MATERIALS),
        ("size", scenes.SIZES),
    ):
        assert {getattr(thing, name) for thing in things} == set(values)


def a(colour: str, shape: str, x: float, y: float, **more: str) -> Thing:
    return Thing(colour, shape, more.get("material", "plain"), more.get("size", "small"), x, y, 0.1, 0.0)


SCENE = Scene((a("red", "star", 0.2, 0.2), a("blue", "star", 0.8, 0.3, material="striped"), a("red", "ring", 0.5, 0.8)), 0)


@pytest.mark.parametrize(
    ("caption", "true"),
    [
        (Caption("", (Phrase("red", "star"),)), True),
        (Caption("", (Phrase("blue", "ring"),)), False),
        (Caption("", (Phrase(material="striped"),)), True),
        (Caption("", (Phrase("red", material="striped"),)), False),
        (Caption("", (Phrase("red", "star", place="left"),)), True),
        (Caption("", (Phrase("blue", place="left"),)), False),
        (Caption("", (Phrase(shape="star"),), count=2), True),
        (Caption("", (Phrase("red"),), count=1), False),
        (Caption("", (Phrase("red"), Phrase("blue")), "left of"), True),
        (Caption("", (Phrase("blue"), Phrase("red", "star")), "left of"), False),
        (Caption("", (Phrase(shape="star"), Phrase(shape="ring")), "above"), True),
        (Caption("", (Phrase("blue"), Phrase("red", "star")), "above"), False),
        (Caption("", (Phrase("red", "star"), Phrase("green"))), False),
    ],
)
def test_truth(caption: Caption, true: bool) -> None:
    assert holds(caption, SCENE) is true


def test_captions_are_true_varied_and_made_of_known_words() -> None:
    rng = np.random.default_rng(0)
    texts = []
    for index in range(600):
        scene = scenes.sample_scene(3, index)
        caption = scenes.sample_caption(scene, rng)
        assert holds(caption, scene), caption
        texts.append(caption.text)
    words = {word for text in texts for word in text.replace(",", "").split()}
    assert words <= set(grammar_words())
    for part in ("left of", "something", " and ", "on the", NUMBERS[2], "a photo of"):
        assert any(part in text for text in texts)
    assert len(set(texts)) > 400


def test_every_word_of_the_grammar_is_one_token() -> None:
    tokenizer = scenes.tokenizer()
    assert all(len(tokenizer.encode(word)) == 1 for word in grammar_words())
    assert len(tokenizer.encode("zebra")) > 1 and tokenizer.decode(tokenizer.encode("zebra")).strip() == "zebra"


def test_the_merge_table_is_what_the_script_writes(tmp_path: Path) -> None:
    write_merges(tmp_path / "merges.txt.gz")
    assert (tmp_path / "merges.txt.gz").read_bytes() == MERGES.read_bytes()


def test_open_clip_is_imported_only_where_it_is_used() -> None:
    code = "import sys; from captum_gradeclip import scenes; scenes.draw(scenes.sample_scene(0, 0)); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "captum_gradeclip.scenes.model" in loaded and not {"open_clip", "timm", "transformers"} & set(loaded)


def test_the_embedded_model() -> None:
    model, preprocess, tokenizer = scenes.load()
    assert WEIGHTS.stat().st_size <= 10 * 2**20
    assert len(model.transformer.resblocks) >= 8
    assert all(block.attn.num_heads > 1 for block in (*model.transformer.resblocks, *model.visual.transformer.resblocks))
    assert not model.training
    tower = adapters.image_tower(model)
    assert (tower.mean, tower.std, tower.size) == ((0.5,) * 3, (0.5,) * 3, (96, 96))
    state = torch.get_rng_state()
    scenes.load()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        data = SceneDataset(60, "evaluation", counts=(1,))
        x = torch.stack([preprocess(item.image) for item in data])
        prompts = [scenes.name(item.scene.things[0]).text for item in data]
        cosines = model.encode_image(x, normalize=True) @ model.encode_text(tokenizer(prompts), normalize=True).T
    true = torch.tensor([[p == q for q in prompts] for p in prompts])
    hits = true.gather(1, cosines.argmax(dim=1, keepdim=True))
    assert hits.float().mean() > 0.8


def test_weights_name_their_architecture(tmp_path: Path) -> None:
    model = build(image_size=48, patch_size=12, layers=1, width=32, heads=2, text_width=32).eval()
    save(model, tmp_path / "small.safetensors")
    loaded, preprocess, _ = scenes.load(tmp_path / "small.safetensors")
    x = preprocess(SceneDataset(1)[0].image)[None]
    assert x.shape == (1, 3, 48, 48) and adapters.image_tower(loaded).grid((48, 48)) == (4, 4)
    with torch.no_grad():
        assert torch.allclose(loaded.encode_image(x), model.encode_image(x), atol=1e-2)
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        scenes.load(tmp_path / "missing.safetensors")


def test_contrastive_loss_is_the_sum_it_says() -> None:
    torch.manual_seed(0)
    image, text = torch.nn.functional.normalize(torch.randn(2, 3, 5, dtype=torch.float64), dim=-1)
    true = torch.tensor([[True, True, False], [False, True, False], [False, False, True]])
    logits = 7 * image @ text.T
    # caption 1 is true of two pictures and weighs half as much for each
    pictures = [[(0, 2 / 3), (1, 1 / 3)], [(1, 1.0)], [(2, 1.0)]]
    captions = [[(0, 1.0)], [(0, 0.5), (1, 0.5)], [(2, 1.0)]]
    rows = sum(-w * logits.log_softmax(1)[i, j] / 3 for i in range(3) for j, w in pictures[i])
    columns = sum(-w * logits.log_softmax(0)[i, j] / 3 for j in range(3) for i, w in captions[j])
    got = train.contrastive_loss(image, text, true, torch.tensor(7.0, dtype=torch.float64))
    assert abs(float(got - (rows + columns) / 2)) < 1e-12


def test_text_features_do_not_depend_on_the_padding_that_is_left_out() -> None:
    model = build().eval()
    tokens = scenes.tokenizer()(["a red circle", "two stars and a blue ring"])
    with torch.no_grad():
        assert torch.allclose(train.encode_text(model, tokens), model.encode_text(tokens, normalize=True), atol=1e-5)


def test_the_embedded_models_words() -> None:
    model, _, _ = scenes.load()
    for counts in ((1,), (2, 3, 4)):
        outweigh, silent = benchmark.scenes_model.words(model, SceneDataset(64, "validation", counts=counts), "")
        assert outweigh.cases == 64 and outweigh.value > 0.85 and silent.value < 0.1


def test_a_centered_image_tower_has_no_common_feature() -> None:
    visual = build(layers=1, width=32, heads=2).visual.eval()
    pixels = torch.randint(0, 256, (40, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = train.normalize(pixels)
    with torch.no_grad():
        before = visual(x)
        train.center(visual, pixels)
        after = visual(x)
    assert before.mean(dim=0).norm() > 1e-2 and after.mean(dim=0).norm() < 1e-4
    assert torch.allclose(after, before - before.mean(dim=0), atol=1e-4)
    assert not visual.ln_post._forward_hooks


@pytest.mark.slow
def test_a_text_tower_for_a_locked_image_tower(tmp_path: Path) -> None:
    small = {"scenes": 40, "batch": 16, "decay_steps": 1, "text_width": 32, "steps": 1}
    image = build(layers=1, width=32, heads=2)
    save(image, tmp_path / "image.safetensors")
    recipe = train.Recipe(layers=1, width=32, heads=2, lock_image=str(tmp_path / "image.safetensors"), **small)
    trainer = train.Trainer(recipe, tmp_path / "run", "cpu", 0)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    changed = {name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and not any(name.startswith("visual.") for name in changed)


def test_a_soup_is_the_mean_of_the_weights(tmp_path: Path) -> None:
    models = [build() for _ in range(3)]
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for model, file in zip(models, files):
        save(model, file)
    soup.main([*map(str, files), "--out", str(tmp_path / "soup.safetensors")])
    found = scenes.load(tmp_path / "soup.safetensors")[0].state_dict()
    for name, tensor in found.items():
        expected = sum(model.state_dict()[name].double() for model in models) / 3
        torch.testing.assert_close(tensor.double(), expected, rtol=2e-3, atol=2e-3)
    for wrong in ([], [build(), build(text_width=64)]):
        with pytest.raises(ValueError, match="models: "):
            soup.soup(wrong)


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    recipe = ["--scenes", "40", "--batch", "16", "--decay-steps", "2", "--device", "cpu", "--workers", "0"]
    small = ["--width", "32", "--text-width", "32", "--layers", "1", "--steps", "4"]
    train.main(["--out", str(tmp_path / "whole"), *recipe, *small])

    class Stop(Exception):
        pass

    trainer = train.Trainer(
        train.Recipe(scenes=40, batch=16, decay_steps=2, width=32, text_width=32, layers=1, steps=4),
        tmp_path / "parts",
        "cpu",
        0,
    )
    trainer._one_step(), setattr(trainer, "step", 1)
    trainer._one_step(), setattr(trainer, "step", 2)
    trainer._record(0.0, 0.0)
    train.main(["--out", str(tmp_path / "parts"), *recipe, *small])
    whole = (tmp_path / "whole" / "scenes_clip.safetensors").read_bytes()
    assert whole == (tmp_path / "parts" / "scenes_clip.safetensors").read_bytes()
    assert json.loads((tmp_path / "parts" / "history.json").read_text())[-1]["step"] == 4
    assert (tmp_path / "parts" / "curve.png").exists()


def test_training_leaves_out_only_what_nobody_reads() -> None:
    model, _, _ = scenes.load()
    images = torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = train.encode_image(model.visual, images)
        assert torch.allclose(found, model.encode_image(images, normalize=True), atol=1e-6)
