"""Desks and models that the tests of the page share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_gradeclip.adapters.loading import Loaded
from captum_gradeclip.app import Models, Named
from captum_gradeclip.app.desk import Desk


@pytest.fixture(scope="session")
def models() -> Models:
    return Models([Named("scenes")])


@pytest.fixture
def desk(models: Models) -> Desk:
    return Desk(models)


def words_of(*names: str) -> object:
    """A tokenizer of transformers that knows some words, with the marks of the tiny matching heads."""
    from tokenizers import Tokenizer, models as kinds, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {"[PAD]": 0, "[UNK]": 1, "<s>": 2, "</s>": 3, **{word: number for number, word in enumerate(names, start=4)}}
    inner = Tokenizer(kinds.WordLevel(known, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


def offering(monkeypatch: pytest.MonkeyPatch, model: nn.Module, tokenizer: object = None) -> Desk:
    """A desk with one model that no name could load."""
    torch.manual_seed(0)
    loaded = Loaded(model.eval(), tokenizer)  # type: ignore[arg-type]
    monkeypatch.setattr("captum_gradeclip.app.models.load", lambda *_: loaded)
    return Desk(Models([Named("own")]))
