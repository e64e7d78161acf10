"""Tokens to pixels and words."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import SimpleTokenizer
from torch.nn import functional as F

from captum_gradeclip import scenes
from captum_gradeclip.maps import Frame, infer_grid, merge_words, normalise, normalize, shares, to_pixels


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([4, 8, 14, 16, 32]), st.integers(0, 5))
def test_the_grid_of_any_image_is_found(h: int, w: int, patch: int, prefix: int) -> None:
    found_prefix, grid = infer_grid(prefix + h * w, (h * patch, w * patch))
    assert found_prefix + grid[0] * grid[1] == prefix + h * w
    # Another exact patch size can only win with a smaller prefix.
    assert grid == (h, w) or found_prefix < prefix


def test_known_grids() -> None:
    assert infer_grid(50, (224, 224)) == (1, (7, 7))
    assert infer_grid(196, (224, 224)) == (0, (14, 14))
    assert infer_grid(198, (224, 224)) == (2, (14, 14))
    assert infer_grid(3, (8, 16)) == (1, (1, 2))
    assert infer_grid(1 + 14 * 14, (225, 225)) == (1, (14, 14))
    with pytest.raises(ValueError, match="not a patch grid.*patch dropout"):
        infer_grid(120, (224, 224))


def test_whole_frame_is_plain_interpolation() -> None:
    x = torch.rand(2, 3, 5, 7)
    expected = F.interpolate(x, size=(40, 61), mode="bilinear", align_corners=False)
    assert torch.allclose(to_pixels(x, Frame.whole((61, 40))), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (64, 64)])
def test_a_crop_lands_where_the_model_looked(size: tuple[int, int]) -> None:
    """A bright spot in the file comes back at the same place after the way there and back."""
    width, height = size
    spot = torch.zeros(1, 1, height, width)
    y, x = height // 2 + 5, width // 2 - 9
    spot[..., y - 3 : y + 4, x - 3 : x + 4] = 1
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    seen = F.interpolate(spot[..., top : top + side, left : left + side], size=(32, 32), mode="bilinear", antialias=True)
    back = to_pixels(seen, Frame.crop(size))
    assert back.shape == spot.shape
    assert (torch.tensor(divmod(int(back.argmax()), width)) - torch.tensor([y, x])).abs().max() <= 3
    outside = torch.ones(height, width, dtype=torch.bool)
    outside[top : top + side, left : left + side] = False
    assert back[0, 0][outside].abs().sum() == 0


def test_normalizing_never_fails() -> None:
    for x in (torch.zeros(2, 2), torch.full((2, 2), -3.0), torch.tensor([[float("nan"), 1.0], [float("inf"), 0.5]])):
        y = normalize(x)
        assert y.isfinite().all() and y.min() >= 0 and y.max() <= 1
    several = normalize(torch.tensor([[[0.0, 1.0]], [[0.0, 10.0]]]))
    assert several.amax(dim=(1, 2)).tolist() == [1.0, 1.0]
    assert normalise is normalize  # the former spelling, for one version


def test_shares_add_up_to_one_where_there_are_any() -> None:
    assert shares([("a", -1.0), ("red", 2.0), ("dog", 3.0)]) == [("a", -0.25), ("red", 0.5), ("dog", 0.75)]
    for words in ([("a", -1.0), ("dog", 0.5)], [("a", 0.0)], []):
        assert shares(words) == [(word, 0.0) for word, _ in words]


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
    with pytest.raises(ValueError, match="one value per token id"):
        merge_words(torch.ones(1, 3), tokens, tokenizer)
    with pytest.raises(TypeError, match="expected one of open_clip or transformers, got object"):
        merge_words(torch.ones(tokens.shape), tokens, object())
