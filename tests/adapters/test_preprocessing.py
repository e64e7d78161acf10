"""The model's own preprocessing: the library's pixels to the bit, and a frame that lies where the transform looks."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision
import transformers
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import ClassScore, GradECLIP, ImageTextScore, adapters, cli, explain, scenes
from captum_gradeclip.adapters.preprocessing import Preprocessing
from captum_gradeclip.adapters.transformers import by_processor
from captum_gradeclip.inputs import preparation

from ..conftest import FAMILIES, VIT, captions, relative, stir
from ..test_cli import folder_of_transformers

SIZES = [(250, 187), (187, 250), (64, 64), (250, 60), (33, 97)]


def ramp(width: int, height: int) -> Image.Image:
    """A picture whose red says how far to the right a pixel lies, and whose green how far down."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, 0 * x + 128], axis=-1).astype(np.uint8))


def check_frame(own: Preprocessing, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> None:
    """Reads off the input of a ramp which place of the picture each of its pixels shows, and compares with the box."""
    pixels = own.pixels(ramp(*size)).double()
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (own.mean, own.std))
    shown = (pixels * std + mean) * 255 + 0.5  # the center of pixel 0 lies at 0.5
    box = box or own.box(size)
    assert box is not None
    left, top, right, bottom = box
    _, rows, columns = pixels.shape
    # Along the middle of the picture, which is not that of the input where colors are put on one side.
    row, column = (size[1] / 2 - top) / (bottom - top) * rows, (size[0] / 2 - left) / (right - left) * columns
    for values, start, end, count, side in (
        (shown[0, int(row)], left, right, columns, size[0]),
        (shown[1, :, int(column)], top, bottom, rows, size[1]),
    ):
        step = (end - start) / count
        expected = start + (torch.arange(count) + 0.5) * step
        inside = (expected > 2.5 * max(step, 1)) & (expected < side - 2.5 * max(step, 1))
        assert inside.sum() >= 2
        difference = values[inside] - expected[inside]
        # Colors are rounded to whole levels, which are pixels here; one pixel of the input is several of these.
        assert difference.abs().max() < 1.05 and difference.mean().abs() < 0.55


@pytest.mark.parametrize("name", FAMILIES)
def test_the_frame_lies_where_the_transform_of_each_family_looks(name: str) -> None:
    model = FAMILIES[name].build()
    if name == "transformers Chinese-CLIP":
        try:
            transformers.ChineseCLIPImageProcessor()(ramp(40, 30))
        except KeyError:
            pytest.skip("the processor of Chinese-CLIP in this transformers cannot do what its defaults say")
    for size in SIZES:
        check_frame(adapters.preprocessing(model), size)


CONFIGS: list[dict[str, Any]] = [
    {"resize_mode": "shortest", "interpolation": "bilinear"},
    {"resize_mode": "longest", "fill_color": 7},
    {"resize_mode": "squash", "interpolation": "bilinear"},
    {"resize_mode": "shortest", "size": (32, 48)},
    {"resize_mode": "longest", "size": (48, 32)},
    {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
]


@pytest.mark.parametrize("settings", CONFIGS, ids=str)
def test_open_clip_says_it_in_preprocess_cfg(settings: dict[str, Any]) -> None:
    model: Any = FAMILIES["open_clip ViT"].build()
    defaults = {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    open_clip.model.set_model_preprocess_cfg(model, {**defaults, **settings})
    own = adapters.preprocessing(model)
    theirs = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    for size in SIZES:
        image = ramp(*size)
        assert torch.equal(own.pixels(image), theirs(image))
        check_frame(own, size)
    assert own.about["interpolation"] == settings.get("interpolation", "bicubic")
    assert own.about["mean"] == list(settings.get("mean", (0.5,) * 3))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("share", [0.875, 1.0])
def test_timm_says_it_in_its_data_settings(mode: str, share: float) -> None:
    model: Any = timm.create_model("vit_tiny_patch16_224", img_size=64)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 64, 64), "crop_pct": share, "crop_mode": mode}
    own = adapters.preprocessing(model)
    theirs = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    for size in SIZES:
        image = ramp(*size)
        assert torch.equal(own.pixels(image), theirs(image))
        check_frame(own, size)


@pytest.mark.parametrize("settings", ["none", "gone"])
def test_a_model_of_timm_without_settings_has_those_that_timm_resolves(settings: str) -> None:
    model: Any = timm.create_model("vit_tiny_patch16_224")
    if settings == "none":
        model.pretrained_cfg = None
    else:
        del model.pretrained_cfg
    theirs = timm.data.create_transform(**timm.data.resolve_data_config({"input_size": (3, 224, 224)}))
    assert torch.equal(adapters.preprocessing(model).pixels(ramp(250, 187)), theirs(ramp(250, 187)))


def test_torchvision_says_it_with_its_weights() -> None:
    model = torchvision.models.VisionTransformer(224, 16, 1, 2, 16, 16)
    own, theirs = adapters.preprocessing(model), torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.transforms()
    image = ramp(250, 187)
    assert torch.equal(own.pixels(image), theirs(image))


PROCESSORS: list[Any] = [
    transformers.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=32),
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False, resample=2),
    transformers.SiglipImageProcessor(size={"height": 32, "width": 48}),
    transformers.DeiTImageProcessor(size={"height": 36, "width": 36}, crop_size=32),
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False),
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=20),
]


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda one: type(one).__name__)
def test_a_processor_of_transformers_says_it(processor: Any) -> None:
    own = by_processor(processor, 3)
    for size in SIZES:
        image = ramp(*size)
        theirs = processor(images=image, return_tensors="pt")
        if "spatial_shapes" not in theirs:
            assert torch.equal(own.pixels(image), theirs["pixel_values"][0])
        check_frame(own, size)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_images_of_different_sizes_that_a_processor_has_cut_into_patches() -> None:
    """SigLIP 2 runs them as one padded batch; each is explained at its own size, with the score that it has there."""
    torch.manual_seed(0)
    model: Any = stir(FAMILIES["transformers SigLIP 2"].build())
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    pictures = [noise(80, 60), noise(60, 80, 1), noise(90, 30, 2), noise(81, 61, 3)]
    features = processor(images=pictures, return_tensors="pt")
    assert len({tuple(shape.tolist()) for shape in features["spatial_shapes"]}) == 4
    images = adapters.pixel_values(features, model)
    with torch.no_grad():
        expected = model.get_image_features(**features)
        expected = getattr(expected, "pooler_output", expected)
        got = torch.cat([adapters.image_tower(model).encode(image[None]) for image in images])
    assert expected.std(dim=0).min() > 1e-4 and torch.allclose(got, expected, atol=1e-5)
    check_batch(model, features, images, texts=["a red circle", "two stars"])


def naflex_batch(images: list[Tensor], flat: bool) -> dict[str, Tensor]:
    """What timm's loader makes of images of different sizes, by its own functions."""
    dataset, transforms = (import_module(f"timm.data.naflex_{name}") for name in ("dataset", "transforms"))
    cut = [transforms.patchify_image(one, (8, 8), flatten_patches=flat) for one in images]
    items = [(dict(zip(("patches", "patch_coord", "patch_valid"), one)), 0) for one in cut]
    features: dict[str, Tensor] = dataset.NaFlexCollator(max_seq_len=20)(items)[0]
    return features


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("name", ["timm NaFlex", "timm NaFlex, attention pool", "timm NaFlex, factorized positions"])
def test_images_of_different_sizes_in_a_batch_of_timm(name: str, flat: bool) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build())
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(3, *size, generator=generator) for size in ((32, 32), (24, 40), (16, 48), (32, 32))]
    features = naflex_batch(images, flat)
    found = adapters.pixel_values(features, model)
    assert all(torch.equal(one, other) for one, other in zip(found, images))
    with torch.no_grad():
        expected = model(features)
        got = torch.cat([ClassScore(model)(image[None]) for image in found])
    assert expected.std(dim=0).min() > 1e-4 and torch.allclose(got, expected, atol=1e-4)
    check_batch(model, features, images, targets=[3, 5])


def check_batch(model: Any, features: Any, images: list[Tensor], **asked: Any) -> None:
    """A batch of images of different sizes is explained as each of them alone."""
    if "texts" in asked:
        asked["tokenizer"] = lambda texts: torch.stack([captions()[len(text) % 3] for text in texts])
    asked["relu_attributions"] = False
    together = explain(model, features, words=False, **asked)
    for number, image in enumerate(images):
        alone = explain(model, image, words=False, **asked)
        assert together.maps[number].shape == (2, *(side // 8 for side in image.shape[1:])) == alone.maps.shape[1:]
        assert relative(together.maps[number], alone.maps[0]) < 1e-5 and alone.maps.std() > 0
        assert torch.allclose(together.scores[number], alone.scores[0], atol=1e-5)


def test_patches_that_are_no_whole_images_are_refused() -> None:
    model = FAMILIES["timm NaFlex"].build()
    features = naflex_batch([torch.randn(3, 16, 24), torch.randn(3, 32, 32)], flat=True)
    dropped = {**features, "patch_valid": features["patch_valid"].clone()}
    dropped["patch_valid"][0, 2] = False
    with pytest.raises(ValueError, match=r"^images: expected a patch for each place of an image, got 5 for 2 x 3 places"):
        explain(model, dropped, targets=0)
    with pytest.raises(ValueError, match=r"^images: expected patches of 8 x 8 pixels in 3 channels, 192 values each"):
        explain(model, {**features, "patches": features["patches"][..., :48]}, targets=0)
    with pytest.raises(ValueError, match="^images: CLIPModel takes no patches"):
        adapters.pixel_values(features, FAMILIES["transformers CLIP"].build())
    method = GradECLIP(score := ClassScore(model), score.layers[-1])
    with pytest.raises(TypeError, match=r"^inputs: expected a tensor, got dict; .*captum_gradeclip\.explain"):
        method.attribute(features, target=0)
    with pytest.raises(ValueError, match=r"^inputs: expected images \(N, C, H, W\), got .*captum_gradeclip\.explain"):
        method.attribute(features["patches"], target=0)


def test_what_a_processor_does_not_state_is_found_by_looking() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["transformers CLIP"].build())
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 40, "longest_edge": 80}, crop_size=32)
    own = by_processor(processor, 3)
    assert own.resized is None and own.box((250, 187)) is None and own.about["resize"] == "in a way of its own"
    prepare = preparation(model, processor)
    for size in ((250, 187), (187, 250), (64, 64)):
        picture = prepare(ramp(*size))
        assert torch.equal(picture.pixels[0], processor(images=ramp(*size), return_tensors="pt")["pixel_values"][0])
        check_frame(own, size, picture.frame.box)


def test_gray_models_see_the_gray_values() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, in_chans=1)
    pixels = adapters.preprocessing(model).pixels(ramp(64, 64))
    assert pixels.shape == (1, 64, 64) and pixels.std() > 0.05
    four = timm.create_model("vit_tiny_patch16_224", img_size=64, in_chans=4)
    with pytest.raises(ValueError, match=r"images: .* this model takes 4; prepare a tensor"):
        adapters.preprocessing(four).pixels(ramp(64, 64))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of several scales, as a JPEG that is no multiple of anything."""
    rng = np.random.default_rng(0)
    layers = [Image.fromarray(rng.integers(0, 255, (n, n, 3), dtype=np.uint8)).resize((403, 301)) for n in (4, 16, 64)]
    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    Image.fromarray(np.mean([np.asarray(one) for one in layers], axis=0).astype(np.uint8)).save(path)
    return path


def told_scores(out: Path) -> Tensor:
    return torch.tensor([one["score"] for one in json.loads((out / "explanation.json").read_text())["texts"]])


def cosine(image: Tensor, texts: Tensor) -> Tensor:
    return (F.normalize(image, dim=-1) @ F.normalize(texts, dim=-1).T)[0]


TEXTS = ["a red circle", "a blue square"]


def test_the_score_is_that_of_three_lines_of_open_clip(photo: Path, tmp_path: Path) -> None:
    settings = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": {"layers": 2, "width": 32, "heads": 2}}
    folder = tmp_path / "own"
    folder.mkdir()
    pixels = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": pixels}))
    torch.manual_seed(0)
    torch.save(stir(open_clip.CLIP(**settings)).state_dict(), folder / "open_clip_pytorch_model.bin")  # type: ignore[arg-type]
    name = f"local-dir:{folder}"

    model, preprocess = open_clip.create_model_from_pretrained(name)
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    with torch.no_grad():
        expected = cosine(model.eval().encode_image(preprocess(Image.open(photo))[None]), model.encode_text(tokens))
    assert cli.main(["explain", str(photo), *TEXTS, "--model", name, "--out", str(tmp_path / "out")]) == 0
    assert expected.std() > 1e-3 and (told_scores(tmp_path / "out") - expected).abs().max() < 1e-5


def test_the_score_is_that_of_three_lines_of_transformers(photo: Path, tmp_path: Path) -> None:
    folder = folder_of_transformers(tmp_path / "model", size={"shortest_edge": 32}, crop_size=32)
    model = transformers.CLIPModel.from_pretrained(folder)
    processor: Any = transformers.CLIPProcessor.from_pretrained(folder)
    given = processor(text=TEXTS, images=Image.open(photo), return_tensors="pt", padding=True)
    with torch.no_grad():
        found = model(**given)
    expected = cosine(found.image_embeds, found.text_embeds)
    assert cli.main(["explain", str(photo), *TEXTS, "--model", f"hf:{folder}", "--out", str(tmp_path / "out")]) == 0
    assert (told_scores(tmp_path / "out") - expected).abs().max() < 1e-5

    with torch.no_grad():
        bound = ImageTextScore(model, TEXTS, processor)(given["pixel_values"])[0]
    assert torch.allclose(bound, expected, atol=1e-5)
    # The same from Python, by whatever people hold.
    for images, options in (
        (Image.open(photo), {}),
        (str(photo), {"preprocess": processor, "tokenizer": processor.tokenizer}),
        (np.asarray(Image.open(photo)), {"preprocess": processor.image_processor}),
        (given, {}),
        ({"pixel_values": given["pixel_values"]}, {"tokenizer": processor.tokenizer}),
    ):
        one = explain(model, images, TEXTS, **{"tokenizer": processor, **options})
        assert one.scores is not None and (one.scores[0] - expected).abs().max() < 1e-5
        assert one.words is not None and [word for word, _ in one.words[0][0]] == ["a", "red", "circle"]


def test_the_score_is_that_of_three_lines_of_the_embedded_model(photo: Path, tmp_path: Path) -> None:
    model, preprocess, tokenizer = scenes.load()
    with torch.no_grad():
        expected = cosine(model.encode_image(preprocess(Image.open(photo))[None]), model.encode_text(tokenizer(TEXTS)))
    assert cli.main(["explain", str(photo), *TEXTS, "--out", str(tmp_path)]) == 0
    assert (told_scores(tmp_path) - expected).abs().max() < 1e-5
    found = explain(model, photo, TEXTS, tokenizer)
    assert found.scores is not None and (found.scores[0] - expected).abs().max() < 1e-5


def test_the_score_is_that_of_three_lines_of_timm(photo: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, name = tmp_path / "own.pth", "vit_tiny_patch16_224"
    torch.save(stir(timm.create_model(name)).state_dict(), weights)
    model: nn.Module = timm.create_model(name, checkpoint_path=str(weights)).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    with torch.no_grad():
        expected = model(transform(Image.open(photo))[None])[0, [207, 3]]
    command = ["explain", str(photo), "--model", f"timm:{name}", "--pretrained", str(weights)]
    assert cli.main([*command, "--target", "207", "--target", "3", "--out", str(tmp_path / "out")]) == 0
    assert (told_scores(tmp_path / "out") - expected).abs().max() < 1e-5 * expected.abs().max()


def test_what_the_model_never_saw_changes_nothing_and_is_nan(photo: Path) -> None:
    model, preprocess, tokenizer = scenes.load()
    image = Image.open(photo).convert("RGB")
    found = explain(model, image, TEXTS, tokenizer)
    unseen = found.pixels(0)[0].isnan()
    left, _, right, _ = found.pictures[0].frame.box
    margin = 3 * image.height / found.pictures[0].pixels.shape[-1]  # of the filter that makes the picture smaller
    columns = torch.arange(image.width) + 0.5
    assert torch.equal(unseen.all(dim=0), (columns < left) | (columns > right)) and unseen.any()
    pixels = np.asarray(image).copy()
    pixels[:, ((columns < left - margin) | (columns > right + margin)).numpy()] = 0
    assert torch.equal(preprocess(Image.fromarray(pixels)), preprocess(image))
    pixels[:, round(left) + 2 : round(left) + 12] = 0
    assert not torch.equal(preprocess(Image.fromarray(pixels)), preprocess(image))
