"""Classification of regions and retrieval, counted by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from captum_gradeclip import scenes
from captum_gradeclip.attr import dense_features
from captum_gradeclip.experiments import CocoCaptions
from captum_gradeclip.experiments.data.base import DataError
from captum_gradeclip.scores import encode_text
from captum_gradeclip.tuning import (
    CocoPanoptic,
    SceneRegionData,
    classify_regions,
    mean_class_accuracy,
    recalls,
    retrieve,
)
from captum_gradeclip.tuning.region_classification import padded
from captum_gradeclip.tuning.region_data import box_of


@pytest.fixture(scope="module")
def clip() -> Any:
    return scenes.load()


def test_accuracy_is_the_mean_over_classes() -> None:
    cosines = torch.rand(50, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 6, (50,), generator=torch.Generator().manual_seed(1))
    for k in (1, 5):
        each = []
        for label in range(6):
            rows = [row for row in range(50) if labels[row] == label]
            hits = [label in sorted(range(8), key=lambda c: -float(cosines[row, c]))[:k] for row in rows]
            each.append(sum(hits) / len(hits))
        assert mean_class_accuracy(cosines, labels, k) == pytest.approx(sum(each) / 6, abs=1e-12)
    assert math.isnan(mean_class_accuracy(cosines[:0], labels[:0]))


def test_recall_is_that_of_the_best_own_result() -> None:
    cosines = torch.rand(6, 11, generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 5])
    found = recalls(cosines, owner, (1, 3))
    for k in (1, 3):
        best = [sorted(range(11), key=lambda t: -float(cosines[i, t]))[:k] for i in range(6)]
        assert found[f"image to text R@{k}"] == pytest.approx(sum(any(owner[t] == i for t in best[i]) for i in range(6)) / 6)
        best = [sorted(range(6), key=lambda i: -float(cosines[i, t]))[:k] for t in range(11)]
        assert found[f"text to image R@{k}"] == pytest.approx(sum(int(owner[t]) in best[t] for t in range(11)) / 11)


def test_regions_of_scenes_are_classified_by_their_dense_features(clip: Any) -> None:
    model, preprocess, tokenizer = clip
    data = SceneRegionData(3)
    texts = encode_text(model, tokenizer(list(data.classes)))
    cosines, labels = [], []
    for index in range(3):
        one = data[index]
        with torch.no_grad():
            dense = dense_features(model, preprocess(one.image)[None])[0]
        for mask, label in zip(one.masks, one.labels):
            touched = F.interpolate(mask[None, None].float(), size=(12, 12), mode="bicubic")[0, 0] > 0
            total = sum(dense[:, row, column] for row in range(12) for column in range(12) if touched[row, column])
            assert isinstance(total, torch.Tensor)
            cosines.append(F.normalize(total, dim=0) @ texts.T)
            labels.append(int(label))
    found = classify_regions(model, data, tokenizer, batch=2, quiet=True)
    expected = mean_class_accuracy(torch.stack(cosines), torch.tensor(labels))
    assert found["thing masks top1"] == pytest.approx(expected) and found["boxes count"] == len(labels)
    assert math.isnan(found["stuff masks top1"]) and 0.2 < found["boxes top5"] <= 1


def test_the_box_of_a_thing_is_around_its_mask() -> None:
    one = SceneRegionData(1)[0]
    for mask, box in zip(one.masks, one.boxes):
        left, top, right, bottom = (round(float(side) * 96) for side in box)
        inside = torch.zeros(96, 96, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert not (mask & ~inside).any() and mask[top].any() and mask[bottom - 1].any()
        assert mask[:, left].any() and mask[:, right - 1].any() and torch.equal(box, box_of(mask))


def write_panoptic(folder: Path) -> CocoPanoptic:
    """Two pictures, longer than high, with a thing on the left and stuff on the right; one of them has a tiny thing too."""
    (folder / "val").mkdir(parents=True)
    (folder / "panoptic").mkdir()
    annotations, pictures = [], []
    for number in (7, 8):
        ids = np.zeros((32, 64), dtype=np.int64)
        ids[:, :24], ids[:, 24:], ids[:4, :4] = 70_001, 300, 5
        Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(
            folder / "panoptic" / f"{number}.png"
        )
        Image.new("RGB", (64, 32), "red").save(folder / "val" / f"{number}.jpg")
        segments = [
            {"id": 70_001, "category_id": 3, "bbox": [0, 0, 24, 32]},
            {"id": 300, "category_id": 9, "bbox": [24, 0, 40, 32]},
            {"id": 5, "category_id": 3, "bbox": [0, 0, 4, 4]},
        ]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
        pictures.append({"id": number, "file_name": f"{number}.jpg", "height": 32, "width": 64})
    categories = [
        {"id": 3, "name": "red square", "isthing": 1},
        {"id": 4, "name": "blue star", "isthing": 1},
        {"id": 9, "name": "wall-other-merged", "isthing": 0},
    ]
    content = {"images": pictures, "annotations": annotations, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(content))
    return CocoPanoptic(folder / "val", folder / "panoptic.json")


def test_panoptic_segments_are_regions(clip: Any, tmp_path: Path) -> None:
    data = write_panoptic(tmp_path)
    assert list(data.classes) == ["red square", "blue star", "wall"] and list(data.things) == [True, True, False]
    one = data[0]
    assert one.labels.tolist() == [0, 2] and one.boxes.tolist() == [[0, 0, 0.375, 1], [0.375, 0, 1, 1]]
    assert one.masks[1].sum() == 40 * 32 and one.masks[0].sum() == 24 * 32 - 16
    model, _, tokenizer = clip
    found = classify_regions(model, data, tokenizer, templates=["{}", "the {}"], size=64, quiet=True)
    assert (found["boxes count"], found["thing masks count"], found["stuff masks count"]) == (2, 2, 2)
    assert len(CocoPanoptic(tmp_path / "val", tmp_path / "panoptic.json", samples=1)) == 1


def test_pictures_are_padded_before_they_are_normalized() -> None:
    pixels = padded(Image.new("RGB", (20, 10), (255, 0, 51)), 40, (0.5, 0.25, 0.2), (0.5, 0.25, 0.1))
    assert pixels.shape == (3, 40, 40)
    assert torch.allclose(pixels[:, :20].mean(dim=(1, 2)), torch.tensor([1.0, -1.0, 0.0]), atol=1e-5)
    assert torch.allclose(pixels[:, 20:].mean(dim=(1, 2)), torch.tensor([-1.0, -1.0, -2.0]), atol=1e-5)


def test_segments_of_another_size_or_format_are_refused(tmp_path: Path) -> None:
    data = write_panoptic(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "panoptic" / "7.png")
    with pytest.raises(DataError, match="expected the size of its picture, 64 x 32, got 32 x 32"):
        data[0]
    (tmp_path / "panoptic" / "8.png").write_text("no picture")
    with pytest.raises(DataError, match="the segments cannot be read"):
        data[1]
    (tmp_path / "panoptic.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="expected COCO's panoptic format"):
        CocoPanoptic(tmp_path / "val", tmp_path / "panoptic.json")


def test_flickr30k_is_read_in_karpathys_format(clip: Any, tmp_path: Path) -> None:
    colors = ["red", "blue"]
    for color in colors:
        Image.new("RGB", (32, 32), color).save(tmp_path / f"{color}.jpg")
    rows: list[dict[str, object]] = [
        {
            "filename": f"{color}.jpg",
            "split": "test",
            "sentences": [{"raw": f"a {color} square"}, {"raw": f"one {color} thing"}],
        }
        for color in colors
    ]
    rows.append({"filename": "gone.jpg", "split": "train", "sentences": []})
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": rows}))
    data = CocoCaptions(tmp_path, tmp_path / "dataset_flickr30k.json", "test")
    model, _, tokenizer = clip
    found = retrieve(model, data, tokenizer, quiet=True)
    assert (found["images"], found["texts"]) == (2, 4) and found["text to image R@5"] == 1
    assert retrieve(model, data, tokenizer, captions=1, quiet=True)["texts"] == 2
