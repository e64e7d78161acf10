"""Somebody's own transform: which part of a picture it shows is found by looking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from captum_gradeclip import adapters, explain, scenes
from captum_gradeclip.maps import Frame
from captum_gradeclip.placement import find_frame

from .conftest import FAMILIES

SIZES = [(240, 160), (161, 243), (1000, 300), (64, 64)]
COLORS = [T.ToTensor(), T.Normalize((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [32, 224])
def test_usual_transforms_have_their_exact_frames(size: tuple[int, int], side: int) -> None:
    squash = T.Compose([T.Resize((side, side)), *COLORS])
    gray = T.Compose([T.Grayscale(), T.Resize((side, side)), T.ToTensor(), lambda image: 1 - image])
    assert find_frame(squash, size) == find_frame(gray, size) == Frame.whole(size)
    crop = find_frame(T.Compose([T.Resize(side), T.CenterCrop(side), *COLORS]), size)
    assert crop is not None
    assert all(abs(one - two) < max(1, max(size) / side) for one, two in zip(crop.box, Frame.crop(size).box))


@pytest.mark.parametrize("size", SIZES)
def test_any_box_is_found(size: tuple[int, int]) -> None:
    width, height = size
    box = (0.1 * width, 0.3 * height, 0.55 * width, 0.9 * height)

    def transform(image: Image.Image) -> Tensor:
        return T.Compose(COLORS)(image.resize((48, 40), Image.Resampling.BICUBIC, box=box))  # type: ignore[no-any-return]

    found = find_frame(transform, size)
    assert found is not None and found.size == size
    assert all(abs(one - two) < 0.006 * side for one, two, side in zip(found.box, box, size * 2))


@pytest.mark.parametrize("name", ["open_clip ViT", "timm ViT", "torchvision ViT", "transformers CLIP"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_found_is_what_libraries_state(name: str, size: tuple[int, int]) -> None:
    own = adapters.preprocessing(FAMILIES[name].build())
    found = find_frame(own.transform, size)
    assert found is not None
    assert all(abs(one - two) < max(1.5, 0.02 * side) for one, two, side in zip(found.box, own.box(size), size * 2))


def test_a_padded_picture_is_smaller_than_its_frame() -> None:
    found = find_frame(T.Compose([T.Resize((32, 64)), T.Pad((0, 16)), *COLORS]), (400, 200))
    assert found is not None
    assert all(abs(one - two) < 2 for one, two in zip(found.box, (0, -100, 400, 300)))


ODD: dict[str, Callable[[Image.Image], Any]] = {
    "mirrored": T.Compose([T.Resize((32, 32)), T.RandomHorizontalFlip(1.0), T.ToTensor()]),
    "turned": T.Compose([T.Resize((32, 32)), T.RandomRotation((90, 90)), T.ToTensor()]),
    "blank": lambda image: torch.zeros(3, 32, 32),
    "one size only": lambda image: T.ToTensor()(image.resize((32, 32))) if image.getextrema()[0][1] < 250 else 1 / 0,
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_box_is_told(name: str) -> None:
    model, _, tokenizer = scenes.load()
    image = Image.new("RGB", (90, 60), "gray")
    side = adapters.image_tower(model).size[0]

    def transform(given: Image.Image) -> Tensor:
        return T.Resize((side, side))(ODD[name](given))  # type: ignore[no-any-return]

    found = explain(model, image, "a star", tokenizer, preprocess=transform)
    assert len(found.warnings) >= 1 and "preprocess: which part of a picture it shows" in found.warnings[0]
    assert found.pictures[0].frame == Frame.crop((90, 60))


def test_an_own_resize_needs_no_word_about_it() -> None:
    model, preprocess, tokenizer = scenes.load()
    side = adapters.image_tower(model).size[0]
    normalize = T.Compose([T.Resize((side, side)), T.ToTensor(), T.Normalize((0.5,) * 3, (0.5,) * 3)])
    image = scenes.draw(scenes.sample_scene(0, 5, "evaluation"), 120)[0].resize((180, 120))
    state = torch.get_rng_state()
    found = explain(model, [image, image.rotate(180)], "a star", tokenizer, preprocess=normalize)
    assert torch.equal(state, torch.get_rng_state()) and found.warnings == []
    assert not found.pixels(0).isnan().any() and found.pictures[1].frame == Frame.whole((180, 120))
    cropped = explain(model, image, "a star", tokenizer, preprocess=preprocess)
    assert cropped.pixels(0)[0, 60].isnan().sum() == 60
