"""Strings and token ids on their way into a score."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_gradeclip import ImageTextScore, scenes

from ..conftest import CONTEXT, FAMILIES, captions, relative


def test_strings_need_a_tokenizer_and_must_fit() -> None:
    model, _, tokenizer = scenes.load()
    for text, given, error, message in (
        (["a dog"], None, TypeError, "tokenizer: needed"),
        ([], tokenizer, ValueError, "at least one prompt"),
        (["  "], tokenizer, ValueError, "expected words"),
        (["red " * 23], tokenizer, ValueError, "25 tokens with its marks, but the model reads 24"),
        ([3], tokenizer, TypeError, "strings, got int among"),
        (torch.zeros(2, 7), None, ValueError, r"expected features \(T, 128\)"),
        (torch.full((2, 128), float("nan")), None, ValueError, "all finite"),
        (torch.zeros(0, 128), None, ValueError, "at least one feature"),
        (torch.zeros(2, 7, dtype=torch.long), None, ValueError, r"expected token ids \(N, 24\)"),
        (torch.zeros(2, dtype=torch.long), None, ValueError, r"integers \(T, L\)"),
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


def test_features_are_bound_without_a_graph(vit: nn.Module) -> None:
    features = vit.encode_text(captions())
    score = ImageTextScore(vit, features)
    assert features.requires_grad and not score.text_features.requires_grad
    kept = score.text_features.clone()
    with torch.no_grad():
        features.zero_()
    assert torch.equal(score.text_features, kept)
    assert relative(score.text_features.norm(dim=1), torch.ones(3)) < 1e-6
