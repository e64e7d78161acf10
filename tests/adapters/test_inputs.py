"""Images as a model takes them: its own size, its own channels, and what its first layers make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip import (
    METHODS,
    ClassScore,
    GradECLIP,
    ImageTextScore,
    InputSpaceAttribution,
    TextImageScore,
    adapters,
    explain,
)
from captum_gradeclip.adapters import UnsupportedModelError
from captum_gradeclip.adapters.open_clip import _tiny as tiny_open_clip, _tiny_timm as in_open_clip
from captum_gradeclip.adapters.timm import tiny
from captum_gradeclip.attr.captum_methods import Occlusion
from captum_gradeclip.attr.registry import CAPTUM
from captum_gradeclip.check import self_check
from captum_gradeclip.metrics import ROAD, Deletion
from captum_gradeclip.scores import BareScore, ImageScore

from ..conftest import CONTEXT, FAMILIES, VOCABULARY, captions, relative, stir

SMALL: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": VOCABULARY}
CLASSIFIERS = ("ViTForImageClassification", "DeiTForImageClassification", "Dinov2ForImageClassification")


def created(name: str = "vit_tiny_patch16_224", **settings: Any) -> nn.Module:
    return timm.create_model(name, **{**SMALL, "img_size": 64, **settings})


def hugging_face(name: str, size: int = 32, channels: int = 3) -> nn.Module:
    """The tiny model of transformers with another image size or number of channels."""
    import transformers

    body = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    image = {**body, "image_size": size, "patch_size": 8, "num_channels": channels}
    if name == "Siglip2Model":
        image = {**image, "num_patches": 16}
        del image["image_size"]
    text = {**body, "vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "pad_token_id": 0}
    text |= {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
    kind: Any = getattr(transformers, name)
    if name in CLASSIFIERS:
        return kind(kind.config_class(**image, num_labels=VOCABULARY))
    return kind(kind.config_class(vision_config=image, text_config=text, projection_dim=24))


def with_channels(channels: int, image: dict[str, object] | None = None) -> nn.Module:
    """An open_clip model whose first convolution was replaced, since open_clip itself builds for colors only."""
    model: Any = tiny_open_clip(image)
    first = model.visual.conv1
    model.visual.conv1 = nn.Conv2d(channels, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False)
    return model


def torchvision_vit(channels: int) -> nn.Module:
    model: Any = FAMILIES["torchvision ViT"].build()
    model.conv_proj = nn.Conv2d(channels, 48, 8, 8)
    return model


def score_of(model: nn.Module) -> ImageScore:
    is_classifier = adapters.image_tower(model).classes > 0
    return ClassScore(model) if is_classifier else ImageTextScore(model, captions())


def check_maps(build: Callable[[], nn.Module], x: Tensor, grid: tuple[int, int], start: int | None = None) -> ImageScore:
    """The score is the model's own, and its map that of a callable, whose patches a probe finds or ``start`` states."""
    torch.manual_seed(0)
    model: Any = stir(build())
    score = score_of(model)

    def own(images: Tensor) -> Tensor:
        if isinstance(score, ImageTextScore):
            found = model.encode_image(images) if hasattr(model, "encode_image") else model.get_image_features(images)
            return F.normalize(getattr(found, "pooler_output", found), dim=-1) @ score.text_features.T
        found = model(images)
        return getattr(found, "logits", found)

    with torch.no_grad():
        assert relative(score(x), own(x)) < 1e-5
    layer = score.layers[-1:]
    bare = own if start is None else BareScore(own, grid, start)
    found, expected = (
        GradECLIP(one, layer).attribute(x, target=1, relu_attributions=False, heads="model") for one in (score, bare)
    )
    assert found.shape == (len(x), 1, *grid) and found.std(dim=(-2, -1)).min() > 0
    assert relative(found, expected) < 1e-4
    return score


def tiny_timm(name: str, pool: str, size: int = 32, **settings: Any) -> nn.Module:
    """A tower of timm inside a model of open_clip."""
    return in_open_clip(tiny(name, size, num_classes=0, global_pool=pool, **settings), size)


NATIVE: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], tuple[int, int], int]] = {
    "transformers SigLIP": (lambda: hugging_face("SiglipModel", 29), (29, 29), (3, 3), 0),
    "transformers CLIP": (lambda: hugging_face("CLIPModel", 28), (28, 28), (3, 3), 1),
    "transformers ViT": (lambda: hugging_face("ViTForImageClassification", 28), (28, 28), (3, 3), 1),
    "transformers DINOv2": (lambda: hugging_face("Dinov2ForImageClassification", 28), (28, 28), (3, 3), 1),
    "timm ViT": (lambda: created(img_size=(50, 70)), (50, 70), (3, 4), 1),
    "timm EVA-02": (lambda: created("eva02_tiny_patch14_224", img_size=60), (60, 60), (4, 4), 1),
    "timm BEiT": (lambda: created("beit_base_patch16_224", img_size=60), (60, 60), (3, 3), 1),
    "open_clip ViT": (lambda: tiny_open_clip({"image_size": (50, 35)}), (50, 35), (6, 4), 1),
    "open_clip SigLIP": (lambda: tiny_timm("vit_base_patch16_siglip_224", "map", size=30), (30, 30), (3, 3), 0),
}


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_size_that_is_no_multiple_of_the_patch(name: str) -> None:
    build, size, grid, start = NATIVE[name]
    score = check_maps(build, torch.randn(2, 3, *size), grid, start)
    assert score.tower.size == size
    patch = score.tower.patch
    with pytest.raises(ValueError, match=rf"^inputs: images, .* multiples of the patch size {patch}, got \d+ x \d+; resize"):
        score(torch.randn(1, 3, size[0] - 1, size[1] + 1))
    if name != "timm BEiT":  # which has one size
        x = torch.randn(1, 3, 2 * patch, 3 * patch)
        assert GradECLIP(score, score.layers[-1:]).attribute(x, target=1).shape == (1, 1, 2, 3)


def test_timm_takes_no_rest_where_the_size_is_free() -> None:
    score = ClassScore(created(img_size=50, dynamic_img_size=True).eval())
    with pytest.raises(ValueError, match=r"^inputs: images, .* got 50 x 50; resize to 48 x 48$"):
        score(torch.randn(1, 3, 50, 50))


CHANNELS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "transformers CLIP": (lambda c: hugging_face("CLIPModel", channels=c), 32),
    "transformers SigLIP": (lambda c: hugging_face("SiglipModel", channels=c), 32),
    "transformers ViT": (lambda c: hugging_face("ViTForImageClassification", channels=c), 32),
    "timm ViT": (lambda c: created(in_chans=c), 64),
    "timm EVA-02": (lambda c: created("eva02_tiny_patch14_224", img_size=56, in_chans=c), 56),
    "timm hybrid": (lambda c: created("vit_tiny_r_s16_p8_224", in_chans=c), 64),
    "open_clip ViT": (with_channels, 32),
    "open_clip ResNet": (
        lambda c: with_channels(c, {"image_size": 64, "layers": (1, 1, 1, 1), "width": 8, "head_width": 16}),
        64,
    ),
    "open_clip SigLIP": (lambda c: tiny_timm("vit_base_patch16_siglip_224", "map", in_chans=c), 32),
    "torchvision ViT": (torchvision_vit, 32),
}


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", CHANNELS)
def test_other_channels_than_three(name: str, channels: int) -> None:
    build, side = CHANNELS[name]
    grid = side // adapters.image_tower(build(channels)).patch
    score = check_maps(lambda: build(channels), torch.randn(2, channels, side, side), (grid, grid))
    tower = score.tower
    assert tower.channels == len(tower.mean) == len(tower.std) == channels
    color = adapters.image_tower(build(3))
    assert tower.mean == pytest.approx([sum(color.mean) / 3] * channels)
    with pytest.raises(ValueError, match=rf"^inputs: images, expected \(N, {channels}, H, W\), got shape \(1, 3,"):
        score(torch.randn(1, 3, side, side))


def test_siglip_2_has_the_channels_of_its_patches() -> None:
    torch.manual_seed(0)
    model: Any = stir(hugging_face("Siglip2Model", channels=1))
    score, x = ImageTextScore(model, captions()), torch.randn(2, 1, 32, 32)
    patches = F.unfold(x, 8, stride=8).mT
    shapes = {"pixel_attention_mask": torch.ones(2, 16).long(), "spatial_shapes": torch.tensor([[4, 4]] * 2)}
    own = model.get_image_features(pixel_values=patches, **shapes)
    with torch.no_grad():
        expected = F.normalize(getattr(own, "pooler_output", own), dim=-1) @ score.text_features.T
        assert score.tower.channels == 1 and relative(score(x), expected) < 1e-5


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_every_method_takes_one_channel(kind: Any) -> None:
    torch.manual_seed(0)
    model = stir(hugging_face("CLIPModel", channels=1))
    score = ImageTextScore(model, captions())
    options = {"RISE": {"n_masks": 8}, "M2IB": {"steps": 1, "copies": 1}}.get(kind.__name__, {})
    found = kind.for_score(score).attribute(torch.randn(2, 1, 32, 32), target=1, **options)
    assert found.shape[:2] == (2, 1) and found.isfinite().all()


def test_metrics_take_one_channel() -> None:
    torch.manual_seed(0)
    score = ImageTextScore(stir(hugging_face("CLIPModel", channels=1)), captions())
    x, maps = torch.randn(2, 1, 32, 32), torch.rand(2, 4, 4)
    tower = score.tower
    for metric in (ROAD(score, shares=(0.5,)), Deletion(score, baseline="random", mean=tower.mean, std=tower.std)):
        metric.update(x, maps, torch.tensor([0, 1]))
        assert metric.compute().isfinite()


def test_one_channel_on_every_other_way_into_the_package() -> None:
    torch.manual_seed(0)
    model, x = stir(hugging_face("CLIPModel", channels=1)), torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert relative(TextImageScore(model, x)(captions()).T, ImageTextScore(model, captions())(x)) < 1e-5
    with pytest.raises(ValueError, match=r"images, expected \(N, 1, H, W\)"):
        TextImageScore(model, torch.randn(2, 3, 32, 32))
    assert [check.passed for check in self_check(model)] == [True, True]
    tower = adapters.image_tower(model)
    assert tower.statistics() == (tower.mean, tower.std)
    # A processor for colors beside a model that takes none.
    assert tower.statistics(((0.0, 0.5, 1.0), (1.0, 2.0, 3.0))) == ((0.5,), (2.0,))


@pytest.mark.parametrize("kind", CAPTUM, ids=lambda kind: kind.__name__)
def test_captums_methods_take_images_as_the_model_does(kind: Any) -> None:
    torch.manual_seed(0)
    model = stir(created(in_chans=1, dynamic_img_size=True, dynamic_img_pad=True))
    found = kind.for_score(ClassScore(model)).attribute(torch.randn(1, 1, 70, 50), target=1)
    assert found.shape in ((1, 1, 5, 4), (1, 1, 70, 50)) and found.isfinite().all()


def test_occlusion_hides_two_patches_of_a_model_that_pads() -> None:
    torch.manual_seed(0)
    score = ClassScore(stir(created(dynamic_img_size=True, dynamic_img_pad=True)))
    x = torch.randn(1, 3, 70, 50)
    method: Any = Occlusion(score)
    by_hand = method.attribute(x, target=1, sliding_window_shapes=(3, 32, 32), strides=(3, 16, 16))
    assert torch.equal(method.attribute(x, target=1), by_hand)


def test_pictures_of_a_model_with_one_channel_are_gray() -> None:
    model = stir(created(in_chans=1))
    colors = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = explain(model, colors, targets=[1], preprocess="squash")
    gray = torch.from_numpy(np.array(Image.fromarray(colors).convert("L"))).float() / 255
    assert torch.allclose(found.pictures[0].pixels, ((gray - 0.5) / 0.5)[None, None], atol=1e-6)
    again = explain(model, found.pictures[0].pixels, targets=[1])
    assert torch.equal(again.maps, found.maps)
    assert again.pictures[0].image.mode == "RGB"
    shown = torch.from_numpy(np.array(again.pictures[0].image)).float()
    assert (shown - 255 * gray[..., None]).abs().max() <= 1


def test_a_picture_is_no_input_of_four_channels_but_a_tensor_is() -> None:
    model = stir(created(in_chans=4))
    with pytest.raises(ValueError, match="this model takes 4; prepare a tensor"):
        explain(model, Image.new("RGB", (64, 64)), targets=[1])
    found = explain(model, torch.randn(4, 64, 64), targets=[1])
    assert found.maps.shape == (1, 1, 4, 4) and found.pictures[0].image.mode == "RGB"
    with pytest.raises(ValueError, match=r"^images: expected a floating point tensor \(4, H, W\)"):
        explain(model, torch.randn(3, 64, 64), targets=[1])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_base_patch16_siglip_224", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("free", [False, True])
def test_padding_inside_the_model(name: str, free: bool) -> None:
    torch.manual_seed(0)
    patch = 14 if "14" in name else 16
    native = 4 * patch
    model = stir(created(name, img_size=native, dynamic_img_size=free, dynamic_img_pad=True))
    score, x = ClassScore(model), torch.randn(2, 3, 4 * patch + 6, 3 * patch + 2)
    padded = F.pad(x, (0, patch - 2, 0, patch - 6))
    method = GradECLIP(score, score.layers[-1:])
    assert score.grid(x) == (5, 4)
    with torch.no_grad():
        assert relative(score(x), score(padded)) < 1e-6
        assert not free or torch.equal(score(x), model(x))
    assert relative(method.attribute(x, target=3), method.attribute(padded, target=3)) < 1e-6
    found = explain(model, x[:1], targets=[3])
    assert found.maps.shape == (1, 1, 5, 4)
    # What lies beyond the picture is cut off after the map was enlarged over everything that the patches cover.
    whole = F.interpolate(found.maps[0, None], size=padded.shape[-2:], mode="bilinear")[0]
    assert torch.allclose(found.pixels(0), whole[:, : x.shape[-2], : x.shape[-1]], atol=1e-5)


def test_the_rest_that_no_patch_covers_has_no_weight_on_the_picture() -> None:
    torch.manual_seed(0)
    model = stir(created(img_size=50))
    found = explain(model, torch.randn(3, 50, 50), targets=[1])
    shown = found.pixels(0)[0]
    assert shown[:48, :48].isfinite().all()
    assert shown[48:].isnan().all() and shown[:, 48:].isnan().all()
    seen = F.interpolate(found.maps[:1], size=(48, 48), mode="bilinear")[0, 0]
    assert torch.allclose(shown[:48, :48], seen, atol=1e-5)


def test_maps_of_the_input_lie_where_the_patches_do() -> None:
    torch.manual_seed(0)
    pads = ClassScore(stir(created(dynamic_img_size=True, dynamic_img_pad=True)))
    drops = ClassScore(stir(created(img_size=70)))
    for score, covered in ((pads, 80), (drops, 64)):
        x, method = torch.randn(1, 3, 70, 70), GradECLIP(score, score.layers[-1:])
        options: dict[str, Any] = {"target": 1, "relu_attributions": False}
        found = InputSpaceAttribution(method).attribute(x, **options).sum(dim=1)[0]
        whole = F.interpolate(method.attribute(x, **options), size=(covered, covered), mode="bilinear")[0, 0]
        seen = min(covered, 70)
        assert torch.allclose(found[:seen, :seen], whole[:seen, :seen], atol=1e-5 * float(whole.abs().max()))
        assert found.shape == (70, 70) and not found[seen:].any() and not found[:, seen:].any()


STEMS: dict[str, tuple[str, dict[str, Any], int, tuple[int, int], int]] = {
    "conv stem": ("vit_base_mci_224", {"embed_dim": 768, "depth": 1, "num_heads": 12}, 64, (64, 64), 16),
    "conv stem, another size": ("vit_base_mci_224", {"embed_dim": 768, "depth": 1, "num_heads": 12}, 64, (48, 96), 16),
    "hybrid": ("vit_tiny_r_s16_p8_224", {}, 64, (64, 64), 32),
    "hybrid, another size": ("vit_tiny_r_s16_p8_224", {"dynamic_img_size": True}, 64, (96, 64), 32),
}


@pytest.mark.parametrize("name", STEMS)
def test_convolutions_in_front_of_the_patches(name: str) -> None:
    architecture, settings, native, size, patch = STEMS[name]
    torch.manual_seed(0)
    model = stir(created(architecture, img_size=native, **settings), amount=0.02)
    tower, score = adapters.image_tower(model), ClassScore(model)
    assert (tower.patch, tower.size, tower.dtype) == (patch, (native, native), torch.float32)
    x = torch.randn(1, 3, *size)
    grid = size[0] // patch, size[1] // patch
    found = GradECLIP(score, score.layers[-1:]).attribute(x, target=3)
    assert found.shape == (1, 1, *grid)
    bare = BareScore(score.forward, grid=grid, start=1)
    assert relative(found, GradECLIP(bare, score.layers[-1:]).attribute(x, target=3)) < 1e-4
    if size == (native, native):
        with torch.no_grad():
            assert relative(score(x), model(x)) < 1e-6


def test_a_hybrid_inside_open_clip() -> None:
    torch.manual_seed(0)
    model = stir(tiny_timm("vit_tiny_r_s16_p8_224", "token", size=64), amount=0.05)
    assert adapters.image_tower(model).patch == 32
    score = ImageTextScore(model, captions())
    assert GradECLIP(score, score.layers[-1:]).attribute(torch.randn(1, 3, 64, 64), target=1).shape[:2] == (1, 1)


@pytest.mark.parametrize("kind", [VisionTransformer, Eva])
def test_a_vit_that_was_made_by_its_class(kind: Any) -> None:
    check_maps(lambda: kind(img_size=64, patch_size=16, **SMALL), torch.randn(2, 3, 64, 64), (4, 4))
    tower = adapters.image_tower(kind(img_size=64, patch_size=16, in_chans=1, **SMALL))
    assert (tower.size, tower.patch, tower.channels, tower.classes) == ((64, 64), 16, 1, VOCABULARY)
    assert tower.mean == pytest.approx([0.449]) and tower.std == pytest.approx([0.226])  # ImageNet's, averaged
    thousand = kind(img_size=64, patch_size=16, **{**SMALL, "num_classes": 1000})
    assert adapters.image_tower(thousand).labels() is None  # nobody says that they are ImageNet's


def test_a_head_that_was_put_in_by_hand_counts() -> None:
    model: Any = created("vit_tiny_patch16_224", num_classes=1000)
    assert len(adapters.image_tower(model).labels() or ()) == 1000
    model.head = nn.Linear(48, 5)
    tower, score = adapters.image_tower(model), ClassScore(model.eval())
    assert (tower.classes, tower.width, tower.labels()) == (5, 5, None)
    assert score(torch.randn(1, 3, 64, 64)).shape == (1, 5)
    headless: Any = created(num_classes=0)
    assert adapters.image_tower(headless).classes == 0
    headless.head = nn.Linear(48, 5)
    assert ClassScore(headless).tower.classes == 5


def test_an_encoder_without_classes_is_checked_by_its_features() -> None:
    headless: Any = stir(created(num_classes=0))
    (check,) = self_check(headless)
    assert check.passed and check.tower == "image" and check.map == (1, 1, 4, 4)


def test_settings_without_statistics_are_as_none() -> None:
    model: Any = created()
    model.pretrained_cfg = {"mean": None, "std": None}
    tower = adapters.image_tower(model)
    assert tower.mean == (0.485, 0.456, 0.406) and tower.std == (0.229, 0.224, 0.225)


def test_patches_that_are_not_square_are_refused() -> None:
    for model in (created(patch_size=(16, 8)), tiny_open_clip({"patch_size": (8, 4)})):
        with pytest.raises(UnsupportedModelError, match="patches must be square, got"):
            adapters.image_tower(model)
