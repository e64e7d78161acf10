"""Values of tokens as values of words."""

from __future__ import annotations

import pytest
import torch
from open_clip import SimpleTokenizer

from captum_gradeclip import scenes
from captum_gradeclip.maps import merge_words


def test_words_of_the_embedded_tokenizer() -> None:
    _, _, tokenizer = scenes.load()
    texts = ["a red octagon, left of two stars", "Something GREEN!", "", "a"]
    tokens = tokenizer(texts)
    weights = torch.arange(tokens.numel(), dtype=torch.float32).reshape(tokens.shape)
    words = merge_words(weights, tokens, tokenizer)
    assert [[word for word, _ in caption] for caption in words] == [
        ["a", "red", "octagon", ",", "left", "of", "two", "stars"],
        ["something", "green", "!"],
        [],
        ["a"],
    ]
    pieces = tokenizer.encode("octagon")
    assert len(pieces) > 1
    assert words[0][2][1] == sum(range(3, 3 + len(pieces)))
    for row, caption in enumerate(words):
        end = int(tokens[row].argmax())
        assert sum(weight for _, weight in caption) == weights[row, 1:end].sum()
    assert merge_words(weights[3], tokens[3], tokenizer) == [words[3]]


def test_words_of_openais_tokenizer() -> None:
    tokenizer = SimpleTokenizer()
    tokens = tokenizer(["a photo of a thingamajig, isn't it?"])
    words = merge_words(torch.ones(tokens.shape), tokens, tokenizer)[0]
    assert [word for word, _ in words] == ["a", "photo", "of", "a", "thingamajig", ",", "isn", "'t", "it", "?"]
    assert dict(words)["thingamajig"] == len(tokenizer.encode("thingamajig"))


class Pieces:
    """The part of a transformers tokenizer that is used."""

    def __init__(self, vocabulary: list[str], special: list[int], **marks: int) -> None:
        self.vocabulary, self.all_special_ids = vocabulary, special
        vars(self).update(marks)

    def get_vocab(self) -> dict[str, int]:
        return {piece: i for i, piece in enumerate(self.vocabulary)}

    def decode(self, ids: list[int]) -> str:
        return "".join(self.vocabulary[i] for i in ids).replace("##", "").replace("\u2581", " ").replace("\u0120", " ")


def test_signs_on_letters_are_no_words() -> None:
    """OpenAI's tokenizer ends a word before each vowel sign of Devanagari."""
    tokenizer = SimpleTokenizer()
    tokens = tokenizer(["नमस्ते"])
    words = merge_words(torch.ones(tokens.shape), tokens, tokenizer)[0]
    assert [word for word, _ in words] == ["नमस्", "ते"]
    assert sum(weight for _, weight in words) == len(tokenizer.encode("नमस्ते"))


def test_words_of_other_families() -> None:
    bert = Pieces(["[PAD]", "[CLS]", "[SEP]", "dog", "un", "##der", "."], [0, 1, 2], cls_token_id=1, sep_token_id=2)
    assert merge_words(torch.ones(8), torch.tensor([1, 4, 5, 3, 6, 2, 0, 0]), bert) == [
        [("under", 2.0), ("dog", 1.0), (".", 1.0)]
    ]
    left_padded = torch.tensor([0, 0, 1, 4, 5, 3, 2])
    assert merge_words(torch.ones(7), left_padded, bert) == [[("under", 2.0), ("dog", 1.0)]]
    t5 = Pieces(["<pad>", "</s>", "\u2581dog", "\u2581under", "stand"], [0, 1], eos_token_id=1)
    assert merge_words(torch.ones(6), torch.tensor([3, 4, 2, 1, 0, 0]), t5) == [[("understand", 2.0), ("dog", 1.0)]]


def test_wrong_shapes_and_tokenizers_are_named() -> None:
    _, _, tokenizer = scenes.load()
    tokens = tokenizer(["a"])
    with pytest.raises(ValueError, match="one value for each of tokens"):
        merge_words(torch.ones(1, 3), tokens, tokenizer)
    with pytest.raises(TypeError, match="expected one of open_clip or transformers, got object"):
        merge_words(torch.ones(tokens.shape), tokens, object())
