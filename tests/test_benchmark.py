"""Runs over data sets: loaders on miniatures of the real formats, records that survive anything, tables that repeat."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, cli, experiments, images, scenes
from captum_gradeclip.attr.base import NotDefinedError
from captum_gradeclip.experiments import PromptScore, published, records, tables, tasks
from captum_gradeclip.experiments.data import IGNORE, MERGED, NOTHING, DataError
from captum_gradeclip.experiments.explainers import Batch, MethodError, explainers
from captum_gradeclip.experiments.quantus import explain_func
from captum_gradeclip.loading import Loaded
from captum_gradeclip.maps import merge_words
from captum_gradeclip.metrics import baseline


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    model, _, tokenizer = scenes.load()
    return Loaded(model, tokenizer)


def picture(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def imagenet_s(root: Path) -> Path:
    """Three classes, one of them merged into another, with masks as the data set writes them."""
    merged, into = next(iter(MERGED.items()))
    for number, folder in enumerate(("n01440764", into, merged)):
        picture(root / "validation" / folder / "ILSVRC2012_val_1.JPEG", seed=number)
        ids = np.zeros((30, 40), dtype=np.int64)
        ids[5:15, 5:20] = 1 if number == 0 else 2
        ids[20:, :] = 1000
        mask = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=2).astype(np.uint8)
        path = root / "validation-segmentation" / folder / "ILSVRC2012_val_1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(mask).save(path)
    return root


def coco(root: Path) -> Path:
    entries = []
    for number, split in enumerate(("train", "val", "val", "test")):
        name = f"COCO_val2014_{number:012d}.jpg"
        picture(root / "val2014" / name, seed=number)
        sentences = [{"raw": f" a {word} thing. "} for word in ("red", "green", "blue", "small", "big", "striped")]
        entries.append({"filepath": "val2014", "filename": name, "split": split, "cocoid": number, "sentences": sentences})
    (root / "dataset_coco.json").write_text(json.dumps({"images": entries, "dataset": "coco"}))
    return root / "dataset_coco.json"


def test_imagenet_folders(tmp_path: Path) -> None:
    for folder in ("n02", "n01"):
        for number in range(2):
            picture(tmp_path / folder / f"{number}.JPEG")
    (tmp_path / "n01" / "notes.txt").write_text("")
    data = experiments.ClassFolders(tmp_path)
    assert len(data) == 4 and list(data.classes) == ["n01", "n02"]
    assert data.about != experiments.ClassFolders(tmp_path, templates=("{}",)).about
    assert [data[n].label for n in range(4)] == [0, 0, 1, 1] and data[2].id == "n02/0.JPEG"
    (tmp_path / "names.txt").write_text("tench\n\ngoldfish\n")
    assert experiments.ClassFolders(tmp_path, tmp_path / "names.txt").classes == ["tench", "goldfish"]
    (tmp_path / "names.json").write_text('["tench"]')
    for names, message in (("names.json", "1 names for 2 folders"), ("missing.txt", "missing.txt"), ("bad.json", "no JSON")):
        (tmp_path / "bad.json").write_text('["tench"')
        with pytest.raises(DataError, match=message):
            experiments.ClassFolders(tmp_path, tmp_path / names)
    with pytest.raises(DataError, match="is not a folder"):
        experiments.ClassFolders(tmp_path / "nowhere")
    (tmp_path / "n02" / "1.JPEG").write_bytes((tmp_path / "n02" / "0.JPEG").read_bytes()[:300])
    with pytest.raises(DataError, match=r"n02/1\.JPEG"):
        data[3]
    (tmp_path / "thousand").mkdir()
    for number in range(1000):
        (tmp_path / "thousand" / f"n{number:08d}").mkdir()
    picture(tmp_path / "thousand" / "n00000001" / "1.png")
    assert experiments.ClassFolders(tmp_path / "thousand").classes[1] == "goldfish"


def test_imagenet_s_masks(tmp_path: Path) -> None:
    root = imagenet_s(tmp_path)
    with pytest.raises(DataError, match="folders such as 'n01440764' are no names to ask for"):
        experiments.ImageNetS(root)
    (tmp_path / "names.txt").write_text("tench\ntrolley\n")
    data = experiments.ImageNetS(root, tmp_path / "names.txt")
    assert len(data) == 3 and len(data.classes) == 2
    labels = {data[n].id.split("/")[0]: data[n].label for n in range(3)}
    merged, into = next(iter(MERGED.items()))
    assert labels == {"n01440764": 0, into: 1, merged: 1}
    sample = data[0]
    assert sample.segments is not None and set(sample.segments.unique().tolist()) == {NOTHING, IGNORE, 0}
    mask = sample.mask(0)
    assert (int((mask == 1).sum()), int((mask == -1).sum())) == (150, 400)
    broken = tmp_path / "validation-segmentation" / "n01440764" / "ILSVRC2012_val_1.png"
    for content, message in (
        (np.full((30, 40, 3), 9, dtype=np.uint8), "class 2313, but there are 2 classes"),
        (np.zeros((3, 4, 3), dtype=np.uint8), "4 x 3, but its picture is 40 x 30"),
        (np.zeros((30, 40), dtype=np.uint8), "color PNG"),
    ):
        Image.fromarray(content).save(broken)
        with pytest.raises(DataError, match=message) as error:
            data[0]
        assert str(broken) in str(error.value)
    broken.unlink()
    with pytest.raises(DataError, match="the mask cannot be read"):
        data[0]


def test_coco_captions(tmp_path: Path) -> None:
    annotations = coco(tmp_path)
    data = experiments.CocoCaptions(tmp_path, annotations)
    assert len(data) == 2 and data[1].id == "val2014/COCO_val2014_000000000002.jpg"
    assert data[0].captions == tuple(f"a {word} thing." for word in ("red", "green", "blue", "small", "big"))
    assert len(experiments.CocoCaptions(tmp_path, annotations, split="test")) == 1
    (tmp_path / "val2014" / "COCO_val2014_000000000001.jpg").unlink()
    with pytest.raises(DataError, match=r"COCO_val2014_000000000001\.jpg"):
        data[0]
    for content, message in (
        (annotations.read_text()[:-40], "no JSON, it may be cut off"),
        ('{"images": [{"split": "val"}]}', "'filename'"),
        ('{"images": []}', "no picture of the split"),
        ("[]", "Karpathy's format"),
    ):
        annotations.write_text(content)
        with pytest.raises(DataError, match=message) as error:
            experiments.CocoCaptions(tmp_path, annotations)
        assert str(annotations) in str(error.value)


def test_index_masks(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[:10], mask[10:20] = 2, 255
    (tmp_path / "annotations").mkdir()
    Image.fromarray(mask).save(tmp_path / "annotations" / "a.png")
    (tmp_path / "names.txt").write_text("wall\nsky\n")
    sample = experiments.IndexMasks(tmp_path, tmp_path / "names.txt", offset=1)[0]
    assert sample.segments is not None and sample.label == 1
    assert [int(sample.segments[y, 0]) for y in (0, 10, 20)] == [1, IGNORE, NOTHING]
    with pytest.raises(DataError, match="class 2, but there are 2 names"):
        experiments.IndexMasks(tmp_path, tmp_path / "names.txt")[0]


def test_broken_samples_are_skipped_and_counted(tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    root = imagenet_s(tmp_path / "data")
    (root / "validation-segmentation" / "n01440764" / "ILSVRC2012_val_1.png").write_bytes(b"nothing")
    (tmp_path / "names.txt").write_text("red circle\nblue star\n")
    command = ["benchmark", "localization", "--data", "imagenet-s", "--root", str(root), "--methods", "Grad-ECLIP,random"]
    command += ["--class-names", str(tmp_path / "names.txt"), "--out", str(tmp_path / "out")]
    assert cli.main(command) == 2
    assert "ILSVRC2012_val_1.png: the mask cannot be read" in capsys.readouterr().err
    assert cli.main([*command[:-1], str(tmp_path / "skipped"), "--skip-broken"]) == 0
    text = (tmp_path / "skipped" / "localization-imagenet-s" / "localization.md").read_text()
    assert "(2 samples)" in text and "1 broken samples were left out." in text and "(0.890)" not in text
    released = [*command[:-1], str(tmp_path / "released"), "--skip-broken", "--protocol", "release"]
    assert cli.main(released) == 0
    text = (tmp_path / "released" / "localization-imagenet-s" / "localization.md").read_text()
    assert "(0.890)" in text  # the paper's figure beside ours, since data set and protocol are the paper's
    names = coco(tmp_path / "coco")
    (tmp_path / "coco" / "val2014" / "COCO_val2014_000000000001.jpg").write_bytes(b"")
    of_captions = ["benchmark", "retrieval", "--data", "coco", "--root", str(tmp_path / "coco"), "--annotations", str(names)]
    of_captions += ["--methods", "Grad-ECLIP", "--resize", "squash", "--out", str(tmp_path / "captions")]
    assert cli.main(of_captions) == 2
    assert "COCO_val2014_000000000001.jpg" in capsys.readouterr().err
    assert cli.main([*of_captions, "--skip-broken"]) == 2  # another run is there
    assert "with other skip_broken" in capsys.readouterr().err
    assert cli.main([*of_captions[:-1], str(tmp_path / "again"), "--skip-broken"]) == 0
    assert "(1 samples)" in (tmp_path / "again" / "retrieval-coco" / "retrieval.md").read_text()


def test_records_survive_and_complain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = records.Records(tmp_path, {"task": "a"})
    kept.write(0, [{"id": "x"}])
    assert records.Records(tmp_path, {"task": "a"}).has(0)
    with pytest.raises(records.RecordError, match="another run is there, with other task"):
        records.Records(tmp_path, {"task": "b"})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            kept.write(1, [{"id": "y"}])
    assert not kept.has(1) and [path.name for path in kept.folder.iterdir()] == ["chunk-000000.jsonl"]
    kept.path(0).write_text('{"id": "x"')
    with pytest.raises(records.RecordError, match=r"chunk-000000\.jsonl: broken .* run again"):
        kept.read(1)


def test_a_run_goes_on_where_it_was(tmp_path: Path, loaded: Loaded) -> None:
    settings = experiments.Settings(methods=["Grad-ECLIP", "random", "oracle"])
    data = experiments.Scenes(10)
    kind = tasks.Localization
    whole = experiments.run(kind, loaded, data, settings, tmp_path / "a", chunk=4)
    assert whole is not None and len(whole) == 30
    calls: list[int] = []

    class Counted(kind):  # type: ignore[valid-type,misc]
        def measure(self, samples: Any) -> Any:
            calls.append(len(samples))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().measure(samples)

    with pytest.raises(KeyboardInterrupt):
        experiments.run(Counted, loaded, data, settings, tmp_path / "b", chunk=4)
    again = experiments.run(Counted, loaded, data, settings, tmp_path / "b", chunk=4)
    assert calls == [4, 4, 4, 2] and again == whole
    for other in (
        experiments.Scenes(10, seed=1),
        experiments.Scenes(10, split="validation"),
        experiments.Scenes(10, counts=(2,)),
    ):
        with pytest.raises(records.RecordError, match="another run is there, with other data"):
            experiments.run(kind, loaded, other, settings, tmp_path / "b", chunk=4)
    with pytest.raises(ValueError, match="protocol: expected one of"):
        experiments.Settings(protocol="released")
    for folder in ("a", "b"):
        experiments.tabulate(kind, whole, data, settings, tmp_path / folder)
    for suffix in ("csv", "md", "tex"):
        assert (tmp_path / "a" / f"localization.{suffix}").read_bytes() == (
            tmp_path / "b" / f"localization.{suffix}"
        ).read_bytes()
    by_name = {method: [r["values"] for r in some] for method, some in tables.by_method(whole, "values").items()}
    assert all(one["PG"] == 1 and one["mask IoU (foreground, 0.5)"] == 1 for one in by_name["Oracle"])
    # the same by the API, one scene at a time
    score = PromptScore(loaded, data.classes, data.templates)
    for number in range(3):
        sample = data[number]
        pixels = scenes.preprocess()(sample.image)[None]
        one = GradECLIP(score, score.layers[-1:]).attribute(pixels, target=sample.label)
        hit = benchmark_pointing(one, sample.mask(sample.label or 0))
        assert by_name["GradECLIP"][number]["PG"] == hit


def benchmark_pointing(attribution: Tensor, mask: Tensor) -> float:
    large = torch.nn.functional.interpolate(attribution, size=mask.shape, mode="bilinear", align_corners=False)[0, 0]
    return float(mask.flatten()[large.flatten().argmax()] == 1)


@pytest.mark.parametrize("protocol", ["fair", "release"])
def test_faithfulness_is_what_the_metrics_say(tmp_path: Path, loaded: Loaded, protocol: str) -> None:
    data = experiments.Scenes(4, counts=(1,))
    settings = experiments.Settings(methods=["Grad-ECLIP", "GAME", "random", "oracle"], protocol=protocol)
    found = experiments.run(tasks.Faithfulness, loaded, data, settings, tmp_path)
    assert found is not None and len(found) == 16
    assert set(found[0]["curves"]) == {"GT", "Pred"}
    random = next(one for one in found if one["method"] == "RandomMap")
    assert set(random["curves"]) == {"GT"}
    score = PromptScore(loaded, data.classes, data.templates)
    for number in range(4):
        sample = data[number]
        pixels = scenes.preprocess()(sample.image)[None]
        similarity: Any = "cosine" if protocol == "fair" else "projected"
        heat = GradECLIP(score, score.layers[-1:]).attribute(pixels, target=sample.label, similarity=similarity)
        heat = torch.nn.functional.interpolate(heat, size=(96, 96), mode="bilinear", align_corners=False).flatten()
        order = heat.argsort(descending=True, stable=True)
        noise = baseline(pixels, "random", (0.5,) * 3, (0.5,) * 3, [number]).flatten(2)
        empty = noise if protocol == "fair" else torch.full_like(noise, -1.0)
        own = next(r for r in found if r["id"] == sample.id and r["method"] == "GradECLIP")["curves"]["GT"]
        share = 1.0 if protocol == "fair" else 0.5
        steps = {mode: [round(9216 * share * k / 10) for k in range(11)] for mode in ("deletion", "insertion")}
        if protocol == "release":
            steps = {mode: [10 * (9216 // 200) * k for k in range(11)] for mode in steps}
            steps["insertion"] = [*steps["insertion"][1:], 9216]
        for mode, (start, shown) in {"deletion": (pixels, noise), "insertion": (empty, pixels)}.items():
            for step, count in enumerate(steps[mode]):
                x = start.flatten(2).clone()
                x[:, :, order[:count]] = shown.flatten(2)[:, :, order[:count]]
                with torch.no_grad():
                    hit = float(score(x.view(1, 3, 96, 96)).argmax() == sample.label)
                assert own[mode]["1"][step] == hit


def test_retrieval_by_hand(tmp_path: Path, loaded: Loaded) -> None:
    data = experiments.Scenes(6)
    settings = experiments.Settings(methods=["Grad-ECLIP", "oracle"], baseline="black")
    found = experiments.run(tasks.Retrieval, loaded, data, settings, tmp_path)
    assert found is not None and {one["method"] for one in found} == {"GradECLIP", "Oracle"}
    ours = {one["id"]: one["curves"]["image"] for one in found if one["method"] == "GradECLIP"}
    pixels = torch.stack([scenes.preprocess()(data[n].image) for n in range(6)])
    captions = [caption for n in range(6) for caption in data[n].captions]
    score = ImageTextScore(loaded.model, captions, loaded.tokenizer)
    with torch.no_grad():
        plain = score(pixels)
    for number in range(6):
        curve = ours[data[number].id]["deletion"]
        order = plain[number].argsort(descending=True).tolist()
        assert curve["TR@1"][0] == float(order[0] in (2 * number, 2 * number + 1))
        assert curve["IR@5"][0] == float(number in plain[:, 2 * number].argsort(descending=True)[:5].tolist())
        heat = GradECLIP(score, score.layers[-1:]).attribute(pixels[number : number + 1], target=2 * number)
        heat = torch.nn.functional.interpolate(heat, size=(96, 96), mode="bilinear", align_corners=False).flatten()
        for mode in ("deletion", "insertion"):
            curve = ours[data[number].id][mode]
            for step in (1, 3, 6):
                taken = torch.zeros(9216, dtype=torch.bool)
                taken[heat.argsort(descending=True, stable=True)[: round(9216 * step / 10)]] = True
                shown = ~taken if mode == "deletion" else taken
                x = torch.where(shown.view(96, 96), pixels[number], -1.0)
                with torch.no_grad():
                    output = score(x[None])[0]
                changed = plain.clone()
                changed[number] = output
                assert curve["TR@1"][step] == float(int(output.argmax()) in (2 * number, 2 * number + 1))
                assert curve["IR@1"][step] == float(int(changed[:, 2 * number].argmax()) == number)


@pytest.mark.parametrize("protocol", ["fair", "release"])
def test_words_by_hand(tmp_path: Path, loaded: Loaded, protocol: str) -> None:
    data = experiments.Scenes(6)
    settings = experiments.Settings(methods=["Grad-ECLIP", "oracle"], baseline="black", protocol=protocol)
    words = experiments.run(tasks.Words, loaded, data, settings, tmp_path)
    assert words is not None and len(words) == 6
    pixels = torch.stack([scenes.preprocess()(data[n].image) for n in range(6)])
    captions = [caption for n in range(6) for caption in data[n].captions]
    with torch.no_grad():
        plain = ImageTextScore(loaded.model, captions, loaded.tokenizer)(pixels)
    texts = TextImageScore(loaded.model, pixels)
    for number, record in enumerate(words):
        caption = data[number].captions[0]
        tokens = loaded.tokenizer([caption])
        # The released setup keeps what the published code does with words, which the defaults no longer do.
        asked = {"relu_before_sum": False, "key_tokens": "all"} if protocol == "release" else {}
        weights = GradECLIP(texts, texts.layers[-8:]).attribute(tokens, target=number, **asked)
        told = merge_words(weights, tokens, loaded.tokenizer)[0]
        order = sorted(range(len(told)), key=lambda i: -told[i][1])
        for step in range(1, 6):
            count = step if protocol == "release" else round(len(told) * step / 5)
            left = " ".join(word for i, (word, _) in enumerate(told) if i not in order[:count])
            with torch.no_grad():
                cosines = texts(loaded.tokenizer([left]))[0]
            hit = float(int(cosines.argmax()) == number)
            assert record["curves"]["words"]["deletion"]["IR"][step] == hit
            others = [plain[number, column] for column in range(12) if column not in (2 * number, 2 * number + 1)]
            assert record["curves"]["words"]["deletion"]["TR"][step] == float(max(others) <= cosines[number])
            kept = " ".join(word for i, (word, _) in enumerate(told) if i in order[:count])
            with torch.no_grad():
                hit = float(int(texts(loaded.tokenizer([kept]))[0].argmax()) == number)
            assert record["curves"]["words"]["insertion"]["IR"][step] == hit


def test_open_vocabulary_of_the_truth_itself(tmp_path: Path, loaded: Loaded) -> None:
    data = experiments.Scenes(5)
    settings = experiments.Settings(methods=["CLIP Surgery", "GAME"])
    found = experiments.run(tasks.OpenVocabulary, loaded, data, settings, tmp_path / "a")
    assert found is not None
    table = tables.open_vocabulary_table(found, "")
    assert all(0 < table.rows["CLIPSurgery"][column].value < 1 for column in table.columns)

    perfect = experiments.run(tasks.OpenVocabulary, loaded, data, replace(settings, methods=["oracle"]), tmp_path / "b")
    assert perfect is not None
    row = tables.open_vocabulary_table(perfect, "").rows["Oracle"]
    assert row["mIoU"].value == 1 and row["mAP"].value == 1 and row["points"].value > 0.9


class Oblong:
    """Scenes in the middle of wide pictures, whose centre is all that a crop sees."""

    name, segmented, templates = "oblong", True, ("{}",)

    def __init__(self, length: int, size: tuple[int, int] = (144, 96)) -> None:
        self.scenes, self.size = experiments.Scenes(length), size
        self.classes, self.about = self.scenes.classes, {"size": size}

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> experiments.Sample:
        sample = self.scenes[index]
        width, height = self.size
        side = min(self.size)
        image = Image.new("RGB", self.size, "grey")
        image.paste(sample.image.resize((side, side)), ((width - side) // 2, (height - side) // 2))
        segments = torch.full((height, width), NOTHING)
        assert sample.segments is not None
        inner = torch.nn.functional.interpolate(sample.segments[None, None].float(), size=(side, side))[0, 0].long()
        top, left = (height - side) // 2, (width - side) // 2
        segments[top : top + side, left : left + side] = inner
        return replace(sample, image=image, segments=segments)


def test_a_crop_knows_its_place(tmp_path: Path, loaded: Loaded) -> None:
    """What is asked of the centre alone is the same as of the scene that is there."""
    settings = experiments.Settings(methods=["Grad-ECLIP", "oracle"], resize="crop")
    for kind in (tasks.Localization, tasks.OpenVocabulary):
        wide = experiments.run(kind, loaded, Oblong(4), settings, tmp_path / f"{kind.name} wide")
        plain = experiments.run(kind, loaded, experiments.Scenes(4), settings, tmp_path / kind.name)
        assert wide is not None and plain is not None
        for one, other in zip(wide, plain):
            if kind is tasks.Localization:
                assert one["values"]["PG"] == other["values"]["PG"]
                assert abs(one["values"]["energy-PG"] - other["values"]["energy-PG"]) < 0.02
            else:
                assert one["open"]["points"] == other["open"]["points"]


def test_the_released_inputs(tmp_path: Path, loaded: Loaded) -> None:
    """Pictures up to 640 pixels of the shorter side; the methods that see the centre, and the judge that does."""
    wide = Oblong(1)
    settings = experiments.Settings(methods=["Grad-ECLIP", "GAME"], protocol="release")
    task = tasks.Faithfulness(loaded, wide, settings)
    task.begin()
    (group,) = task.groups([task.prepare(wide[0])])
    assert group.pixels.shape == (1, 3, 96, 144)
    (large,) = task.groups([task.prepare(replace(wide[0], image=wide[0].image.resize((1920, 1280))))])
    assert large.pixels.shape == (1, 3, 640, 960)
    centre = group.pixels[..., 24:120]
    game = next(one for one in task.explainers if one.id == "GAME")
    assert torch.equal(task.batch(game, group, [0]).inputs, centre)
    assert torch.equal(task.batch(task.explainers[0], group, [0]).inputs, group.pixels)
    with torch.no_grad():
        assert torch.allclose(task.judge(group.pixels), task.score(centre), atol=1e-6)
    changed = torch.randn_like(group.pixels)
    assert torch.equal(task.batch(game, group, [0], changed).inputs, changed[..., 24:120])
    found = experiments.run(tasks.Axioms, loaded, wide, settings, tmp_path)
    assert found is not None and all(one["values"]["sensitivity"] > 1e-3 for one in found)


def test_methods_that_refuse_the_model_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from .conftest import FAMILIES, captions

    torch.manual_seed(0)
    model = FAMILIES["open_clip ResNet"].build().eval()
    small = Loaded(model, lambda texts: captions(count=1).expand(len(texts), -1))
    settings = experiments.Settings(methods=["Grad-ECLIP", "GAME", "Attention Rollout"])
    found = experiments.run(tasks.Localization, small, experiments.Scenes(2), settings, tmp_path)
    assert found is not None and {one["method"] for one in found} == {"GradECLIP"}
    assert "GAME is left out" in caplog.text
    # The wrapper of M2IB's code projects twice, which needs a square projection.
    score = TextImageScore(FAMILIES["open_clip ViT"].build().eval(), torch.randn(2, 3, 32, 32))
    fair, released = (explainers(["M2IB"], text=True, setup=setup)[0] for setup in experiments.SETUPS.values())
    batch = Batch(score, captions(count=1), [0], [0])
    assert fair.is_defined(batch) and not released.is_defined(batch)


def test_a_method_that_fails_stops_the_run_and_is_named(
    tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a method that is not defined for the model leaves the table; a fault must not shorten it in silence."""
    from captum_gradeclip.attr import GAME

    settings = experiments.Settings(methods=["Grad-ECLIP", "GAME"])
    for error in (ValueError("a fault"), RuntimeError("another"), AttributeError("a third")):

        def broken(*_: Any, error: Exception = error, **__: Any) -> Tensor:
            raise error

        monkeypatch.setattr(GAME, "attribute", broken)
        with pytest.raises(MethodError, match=f"GAME failed with {type(error).__name__}: {error}") as raised:
            experiments.run(tasks.Localization, loaded, experiments.Scenes(2), settings, tmp_path / str(error))
        assert raised.value.__cause__ is error
    monkeypatch.setattr(GAME, "attribute", lambda *_, **__: (_ for _ in ()).throw(NotDefinedError("not here")))
    found = experiments.run(tasks.Localization, loaded, experiments.Scenes(2), settings, tmp_path / "defined")
    assert found is not None and {one["method"] for one in found} == {"GradECLIP"}
    assert "GAME is left out" in caplog.text and "not here" in caplog.text


@pytest.mark.parametrize("kind", [tasks.Localization, tasks.Faithfulness, tasks.Axioms, tasks.Targeted])
def test_a_picture_is_prepared_once(
    kind: type[experiments.Task], tmp_path: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    prepare = images.prepare
    monkeypatch.setattr(images, "prepare", lambda *given, **options: calls.append(given) or prepare(*given, **options))
    experiments.run(kind, loaded, experiments.Scenes(3), experiments.Settings(methods="random"), tmp_path)
    assert len(calls) == 3


def test_data_sets_and_tasks_declare_what_the_command_line_reads(tmp_path: Path) -> None:
    fields = set(experiments.DataArguments.__dataclass_fields__)
    for name, data in experiments.DATASETS.items():
        assert data.name == name and data.summary and set(data.takes) <= fields
    for kinds in experiments.TASKS.values():
        assert len({(kind.summary, kind.usual_baseline) for kind in kinds}) == 1 and kinds[0].summary
    arguments = experiments.DataArguments(root=tmp_path, samples=2, class_names=tmp_path / "names.txt")
    for name in ("a", "b"):
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    (tmp_path / "names.txt").write_text("tench\ngoldfish\n")
    data = experiments.make_dataset("folders", arguments)
    assert len(data) == 2 and list(data.classes) == ["tench", "goldfish"] and len(data.templates) == 80
    assert data.about["first"] == 2
    assert len(experiments.make_dataset("folders", replace(arguments, samples=9))) == 4
    assert len(experiments.make_dataset("scenes", experiments.DataArguments())) == 500


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("folders", {}, "root: the data set 'folders' needs it"),
        ("folders", {"root": Path("x")}, "root: 'x' is not a folder"),
        ("coco", {"root": Path()}, "annotations: the data set 'coco' needs it"),
        ("masks", {"root": Path()}, "class_names: the data set 'masks' needs it"),
        ("scenes", {"samples": 0}, "samples: expected at least 1, got 0"),
        ("nothing", {}, "data: expected one of scenes, folders, imagenet-s, coco, masks, got 'nothing'"),
    ],
)
def test_messages_name_parameters(name: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        experiments.make_dataset(name, experiments.DataArguments(**given))
    assert str(error.value).startswith(message) and "--" not in str(error.value)


def test_the_old_names_go_on_working(loaded: Loaded) -> None:
    from captum_gradeclip import benchmark, quantus
    from captum_gradeclip.benchmark import data, published, records, runner, tables, tasks, timing
    from captum_gradeclip.benchmark.explainers import Question

    assert benchmark.First is experiments.Subset and benchmark.Data is experiments.Dataset
    for name in ("TASKS", "ClassFolders", "DataError", "Records", "Scenes", "Settings", "Table", "evaluate_scenes", "run"):
        assert vars(benchmark)[name] is vars(experiments)[name]
    assert records.Records is experiments.Records and runner.run is experiments.run and data.MERGED is MERGED
    assert tables.curve_table and timing.time_table and published.BY_DATA and Question is Batch
    assert type(tasks.ClassScore(loaded, benchmark.Scenes(1))) is PromptScore and quantus.explain_func is explain_func


def test_axioms_and_layers(tmp_path: Path, loaded: Loaded) -> None:
    settings = experiments.Settings(methods=["Grad-ECLIP", "random"])
    found = experiments.run(tasks.Axioms, loaded, experiments.Scenes(2), settings, tmp_path / "a")
    assert found is not None
    values = {one["method"]: one["values"] for one in found}
    # a random map does not change with its input, since it has never seen it
    assert values["RandomMap"]["sensitivity"] == 0 < values["GradECLIP"]["sensitivity"]
    assert experiments.run(tasks.Axioms, loaded, experiments.Scenes(2), settings, tmp_path / "b") == found
    for kind, count in ((tasks.ImageLayers, 2), (tasks.TextLayers, 5)):
        layers = experiments.run(kind, loaded, experiments.Scenes(3), settings, tmp_path / kind.name)
        assert layers is not None and len({one["method"] for one in layers}) == count


def test_names_in_tables_stand_for_themselves(tmp_path: Path) -> None:
    name = "$5_6 #1 | {a} \\b ~ ^ \x1b[2J\n100 %"
    table = tables.Table(name, [name], {name: {name: tables.Cell(0.5)}}, note=name)
    table.write(tmp_path, "a")
    written = {kind: (tmp_path / f"a.{kind}").read_text() for kind in ("md", "tex", "csv")}
    assert all(line.isprintable() for text in written.values() for line in text.splitlines())
    rows = [row for row in written["md"].splitlines() if row.startswith("|")]
    assert len(rows) == 3 and all(row.replace(r"\|", "").count("|") == 3 for row in rows)
    comment, _, _, _, columns, _, row, *_ = written["tex"].splitlines()
    told = r"\$5\_6 \#1 | \{a\} \textbackslash{}b \textasciitilde{} \textasciicircum{} "
    told += r"\textbackslash{}x1b[2J\textbackslash{}n100 \%"
    assert comment.startswith("% ") and row == rf"{told} & \textbf{{0.500}} \\"
    assert columns.replace(r"\\", " ") == rf" & \shortstack{{{told}}}  "
    assert len(written["csv"].splitlines()) == 2


def test_tables_say_what_is_best_and_what_was_published(tmp_path: Path) -> None:
    made = []
    for number in range(8):
        for method, good in (("GradECLIP", 0.8), ("GAME", 0.6), ("Oracle", 0.9)):
            curve = {"deletion": {"1": [1.0, 1 - good, 0.0]}, "insertion": {"1": [0.0, good, 1.0 - number / 100]}}
            made.append({"id": f"{number}", "method": method, "curves": {"GT": curve}})
    table = replace(tables.curve_table(made, "a title"), published=published.FAITHFULNESS)
    assert list(table.columns) == ["Del GT@1", "Ins GT@1", "IMD GT@1"] and table.best("Del GT@1") == "GradECLIP"
    assert "| **0.400 (0.246)** | **0.588 (0.384)** | **0.188 (0.137)** |" in table.markdown()
    assert r"\textbf{0.400 (0.246)}" in table.latex() and "a title (8 samples)" in table.latex()
    lines = table.csv().splitlines()
    assert lines[0] == "method,column,value,low,high,published" and lines[1].startswith("Grad-ECLIP,Del GT@1,0.4")
    assert table.rows["p-value"]["Del GT@1"].value > 0.05
    figure = tables.draw_curves(made, None)
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 3
    for known in (
        published.FAITHFULNESS,
        published.RETRIEVAL,
        published.WORDS,
        published.IMAGE_LAYERS,
        published.TEXT_LAYERS,
    ):
        for row in known.values():
            for column, value in row.items():
                if not column.startswith("IMD"):
                    continue
                rest = column[4:]
                assert abs(value - (row[f"Ins {rest}"] - row[f"Del {rest}"])) < 0.0021, column


def test_a_method_without_curves_of_its_own_for_the_predicted_class_stands_in_the_table() -> None:
    made = []
    for number in range(8):
        for method, good in (("GradECLIP", 0.8), ("GAME", 0.6), ("RawAttention", 0.7)):
            curve = {"deletion": {"1": [1.0, 1 - good, 0.0]}, "insertion": {"1": [0.0, good, 1.0 - number / 100]}}
            made.append({"id": f"{number}", "method": method, "curves": {"GT": curve, "Pred": curve}})
            if method == "RawAttention":
                del made[-1]["curves"]["Pred"]
    table = tables.curve_table(made, "a title")
    assert set(table.rows["GAME"]) - set(table.rows["RawAttention"]) == {"Del Pred@1", "Ins Pred@1", "IMD Pred@1"}
    assert set(table.rows["p-value"]) == set(table.columns)


def test_explainers_by_name() -> None:
    names = [one.id for one in explainers(["w/o weight", "legrad", "Occlusion", "oracle"], masks=True)]
    assert names == ["GradECLIPWithoutWeight", "LeGrad", "Occlusion", "Oracle"]
    assert [one.id for one in explainers(["oracle", "GAME", "game"])] == ["GAME"]
    with pytest.raises(ValueError, match="there is no 'nothing'"):
        explainers(["nothing"])
    with pytest.raises(ValueError, match="none of"):
        explainers(["MaskCLIP"], text=True)


def test_rivals_as_the_code_of_grad_eclip_runs_them() -> None:
    from captum_gradeclip.attr import M2IB, AttentionRollout, CLIPSurgery, MaskCLIP, RawAttention

    model, _, tokenizer = scenes.load()
    pixels, tokens = torch.randn(2, 3, 64, 64), tokenizer(["a red circle", "two stars"])
    score, words = ImageTextScore(model, ["a red circle", "two stars"], tokenizer), TextImageScore(model, pixels)
    last = score.layers[-1]
    expected = {
        "RawAttention": RawAttention(score, last).attribute(pixels, heads="single"),
        "AttentionRollout": AttentionRollout(score, last).attribute(pixels),
        "MaskCLIP": MaskCLIP(score, last).attribute(pixels, target=[0, 1], key_weight=True),
        "CLIPSurgery": CLIPSurgery(score, score.layers).attribute(pixels, target=[0, 1], normalization="tokens"),
    }
    batch, same = Batch(score, pixels, [0, 1], [0, 1]), []
    fair = {one.id: one for one in explainers(rise_masks=5)}
    for one in explainers(rise_masks=5, setup=experiments.RELEASED):
        if one.id in expected:
            assert torch.allclose(one.explain(batch), expected[one.id], atol=1e-6)
            assert not torch.allclose(fair[one.id].explain(batch), expected[one.id], atol=1e-4)
        else:
            same.append(one.id)
    assert {"GradECLIP", "GAME"} <= set(same)
    (m2ib,) = explainers(["M2IB"], text=True, setup=experiments.RELEASED)
    layers = M2IB.default_layers(words)
    wrapped = M2IB(words, layers).attribute(tokens, target=[0, 1], wrapper_bug=True)
    assert torch.allclose(m2ib.explain(Batch(words, tokens, [0, 1], [0, 1])), wrapped, atol=1e-6)
    (raw,) = explainers(["raw attention"], text=True, setup=experiments.RELEASED)
    single = RawAttention(words, words.layers[-1]).attribute(tokens, heads="single", single_blocks=8)
    assert torch.allclose(raw.explain(Batch(words, tokens, [0, 1], [0, 1])), single, atol=1e-6)


def test_time_is_a_ratio(loaded: Loaded) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    table = experiments.time_table(
        loaded, pixels, ["red circle", "star"], ["{}"], methods=["GAME", "CLIP Surgery", "RISE"], rounds=2, rise_masks=4
    )
    assert list(table.rows) == [
        "GAME",
        *("CLIPSurgery", "CLIP Surgery, 2 labels", "CLIP Surgery, 2 labels encoded"),
        "RISE",
    ]
    assert all(cell.value > 0 for row in table.rows.values() for cell in row.values())


def test_methods_for_quantus() -> None:
    quantus = pytest.importorskip("quantus")
    model, _, tokenizer = scenes.load()
    score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    x = torch.stack([scenes.preprocess()(experiments.Scenes(3)[n].image) for n in range(3)]).numpy()
    y = np.array([0, 1, 0])
    explain = explain_func("GAME")
    metric = quantus.MaxSensitivity(nr_samples=2, abs=False, normalise=False, disable_warnings=True)
    found = metric(model=score, x_batch=x, y_batch=y, a_batch=explain(score, x, y), explain_func=explain, device="cpu")
    assert len(found) == 3 and all(value > 0 for value in found)


def test_what_quantus_is_given() -> None:
    model, _, tokenizer = scenes.load()
    score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    x = torch.rand(2, 3, 64, 64)
    got = explain_func(GradECLIP, heads="model")(score, x.numpy(), np.array([1, 0]), device="cpu")
    maps = GradECLIP(score, score.layers[-1:]).attribute(x, target=[1, 0], heads="model")
    expected = torch.nn.functional.interpolate(maps, size=(64, 64), mode="bilinear", align_corners=False)
    assert got.dtype == np.float32 and np.allclose(got, expected.numpy(), atol=1e-6)
    assert explain_func("RISE", n_masks=3)(score, x, torch.tensor([0, 0])).shape == (2, 1, 64, 64)
    with pytest.raises(ValueError, match="Quantus knows"):
        explain_func("Occlusion")


def command(out: Path, *more: str) -> list[str]:
    run = [sys.executable, "-m", "captum_gradeclip", "benchmark", "localization", "--samples", "96"]
    return [*run, "--methods", "Grad-ECLIP,GAME,random", "--out", str(out), *more]


def files(out: Path) -> dict[str, bytes]:
    """Tables and records, by name."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_killed_five_times_and_resumed_is_the_same_to_the_last_byte(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command(tmp_path / "a"), check=True, env=environment, capture_output=True)
    rng = np.random.default_rng(0)
    kills = 0
    while kills < 5:
        process = subprocess.Popen(
            command(tmp_path / "b"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        folder = tmp_path / "b" / "localization-scenes" / "records"
        before = len(list(folder.glob("chunk-*"))) if folder.exists() else 0
        while process.poll() is None and not (folder.exists() and len(list(folder.glob("chunk-*"))) > before):
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command(tmp_path / "b"), check=True, env=environment, capture_output=True)
    left = files(tmp_path / "b")
    assert left == files(tmp_path / "a") and len(left) == 24 + 4  # chunks of a twentieth of all samples, and the tables


def test_the_center_of_long_pictures_is_the_same_in_any_number() -> None:
    spec = experiments.setups.InputSpec((64, 64), 8, (0.5,) * 3, (0.5,) * 3)
    pixels = torch.rand(40, 3, 8, 800, generator=torch.Generator().manual_seed(0))
    together = spec.center(pixels)
    assert together.shape == (40, 3, 64, 64)
    assert torch.equal(together, torch.cat([spec.center(one[None]) for one in pixels]))
