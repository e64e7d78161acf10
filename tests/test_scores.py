"""Score modules: cosines of the unmodified model, any size of image, and errors that name what is wrong."""

from __future__ import annotations

import pytest
import torch
from open_clip.model import CLIP
from torch import nn
from torch.nn import functional as F

from captum_gradeclip import ImageTextScore, TextImageScore, adapters, scenes
from captum_gradeclip.adapters.base import replaced, resize_positions

from .conftest import CONTEXT, FAMILIES, TEXT, VIT, captions, images, relative


def test_positions_are_interpolated_on_a_copy(vit: nn.Module) -> None:
    table = vit.visual.positional_embedding
    before = table.detach().clone()
    score = ImageTextScore(vit, captions())
    x = images((40, 24))
    with torch.no_grad():
        got = score(x)
        native = resize_positions(table, (4, 4), (4, 4))
        assert torch.allclose(native, table, atol=1e-6)
        patches = F.interpolate(table[1:].T.reshape(1, -1, 4, 4), size=(5, 3), mode="bicubic", align_corners=False)
        other = torch.func.functional_call(
            vit.visual, {"positional_embedding": torch.cat([table[:1], patches[0].flatten(1).T])}, x
        )
    assert torch.allclose(got, F.normalize(other, dim=-1) @ score.text_features.T, atol=1e-6)
    assert torch.equal(vit.visual.positional_embedding, before) and vit.visual.positional_embedding is table


def test_a_replaced_parameter_leaves_the_module_alone() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    view = replaced(inner, "1.weight", torch.zeros(2, 2))
    assert torch.equal(view(torch.ones(2)), inner[1].bias) and inner[1].weight.abs().sum() > 0
    assert view[0] is inner[0]


def test_strings_need_a_tokenizer_and_must_fit() -> None:
    model, _, tokenizer = scenes.load()
    for text, given, error, message in (
        (["a dog"], None, TypeError, "tokenizer: needed"),
        ([], tokenizer, ValueError, "at least one prompt"),
        (["  "], tokenizer, ValueError, "expected words"),
        (["red " * 23], tokenizer, ValueError, "25 tokens with its marks, but the model reads 24"),
        ([3], tokenizer, TypeError, "list of int"),
        (torch.zeros(2, 7), None, ValueError, r"expected features \(T, 128\)"),
        (torch.full((2, 128), float("nan")), None, ValueError, "all finite"),
        (torch.zeros(0, 128), None, ValueError, "at least one feature"),
        (torch.zeros(2, 7, dtype=torch.long), None, ValueError, r"expected token ids \(N, 24\)"),
        (torch.zeros(2, dtype=torch.long), None, ValueError, r"token ids \(T, L\)"),
    ):
        with pytest.raises(error, match=message):
            ImageTextScore(model, text, given)
    assert ImageTextScore(model, "red " * 22, tokenizer).text_features.shape == (1, 128)


def test_a_tokenizer_of_transformers() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "circle"]
    inner = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    marks = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **marks)
    torch.manual_seed(0)
    model = FAMILIES["open_clip ViT"].build()
    got = ImageTextScore(model, ["red circle"], tokenizer)
    by_hand = torch.tensor([[1, 4, 5, 2] + [0] * (CONTEXT - 4)])
    assert torch.allclose(got.text_features, ImageTextScore(model, by_hand).text_features)
    with pytest.raises(ValueError, match="13 tokens with its marks, but the model reads 12"):
        ImageTextScore(model, "red " * 11, tokenizer)


def test_short_token_ids_are_named() -> None:
    for name in ("open_clip ViT", "open_clip ViT, custom text"):
        model = FAMILIES[name].build()
        with pytest.raises(ValueError, match=r"expected token ids \(N, 12\), got 9 tokens"):
            ImageTextScore(model, captions()[:, :9])


def test_images_are_checked() -> None:
    model, _, _ = scenes.load()
    for x, error, message in (
        (torch.full((1, 3, 64, 64), float("inf")), ValueError, "NaN or infinite"),
        (torch.zeros(1, 7), ValueError, r"expected features \(M, 128\)"),
        (torch.zeros(1, 3, 60, 64), ValueError, "multiples of the patch size 8, got 60 x 64; resize to 64 x 64"),
        (torch.zeros(1, 3, 4, 64), ValueError, "resize to 8 x 64"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), TypeError, "floating point"),
    ):
        with pytest.raises(error, match=message):
            TextImageScore(model, x)


def test_unknown_models_and_towers() -> None:
    with pytest.raises(
        adapters.UnsupportedModelError, match=r"expected a model of open_clip.*got torch.nn.modules.linear.Linear"
    ):
        ImageTextScore(nn.Linear(2, 2), torch.zeros(1, 2))
    model = FAMILIES["open_clip ViT"].build()
    model.visual = nn.Conv2d(3, 4, 1)
    with pytest.raises(adapters.UnsupportedModelError, match=r"Conv2d.*LayerGradCam"):
        ImageTextScore(model, captions())
    pooled = CLIP(24, {**VIT, "attentional_pool": "parallel"}, TEXT)
    with pytest.raises(adapters.UnsupportedModelError, match="'parallel' pair of attention pools"):
        ImageTextScore(pooled, captions())
    unpooled = CLIP(24, {**VIT, "pool_type": "none"}, TEXT)
    with pytest.raises(adapters.UnsupportedModelError, match="image pooling 'none'"):
        ImageTextScore(unpooled, captions())


def test_a_users_subclass_is_recognised(vit: nn.Module) -> None:
    class Mine(type(vit)):
        pass

    vit.__class__, kept = Mine, vit.__class__
    try:
        assert ImageTextScore(vit, captions())(images((32, 32))).shape == (2, 3)
    finally:
        vit.__class__ = kept


def test_features_are_bound_without_a_graph(vit: nn.Module) -> None:
    features = vit.encode_text(captions())
    score = ImageTextScore(vit, features)
    assert features.requires_grad and not score.text_features.requires_grad
    kept = score.text_features.clone()
    with torch.no_grad():
        features.zero_()
    assert torch.equal(score.text_features, kept)
    assert relative(score.text_features.norm(dim=1), torch.ones(3)) < 1e-6
