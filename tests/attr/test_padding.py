"""Padding that a model never sees changes no word: neither its score nor its weight, by any method of texts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import METHODS, GradECLIP, TextImageScore, adapters, scenes
from captum_gradeclip.attr import NotDefinedError
from captum_gradeclip.attr.registry import Kind

from ..conftest import FAMILIES, images, relative, stir

TEXTS = [name for name, family in FAMILIES.items() if family.text]
# The noise of M2IB's bottleneck has a value for each token of the batch.
KINDS = [kind for kind in METHODS if kind.info.text and kind.__name__ != "M2IB"]


def padded(model: nn.Module, name: str) -> tuple[Tensor, Tensor] | None:
    """A text alone, and with as much padding as the model has room for; ``None`` where padding is seen."""
    tower = adapters.text_tower(model)
    if "SigLIP" in name or tower.pad:
        return None
    alone = torch.tensor([[48, 5, 6, 7, 49]])
    return alone, nn.functional.pad(alone, (0, tower.context_length - alone.shape[1]), value=0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", TEXTS)
def test_padding_changes_no_word(name: str, kind: Kind) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build())
    both = padded(model, name)
    if both is None:
        return
    score = TextImageScore(model, images((32, 32), 2))
    with torch.no_grad():
        if relative(score(both[1]), score(both[0])) > 1e-5:
            return  # the model itself reads the padding
    try:
        alone, longer = (kind.for_score(score).attribute(tokens, target=0) for tokens in both)
    except (NotDefinedError, ValueError):
        return
    assert relative(longer[:, :5], alone) < 1e-4, (alone, longer)


SEES_ALL = {
    "open_clip CoCa",
    "open_clip ViT, average, no mask",
    "open_clip ViT, sines",
    "open_clip ViT of timm, no mask",
    "open_clip SigLIP, last token",
    "transformers SigLIP",
    "transformers SigLIP 2",
}


def short_captions() -> Tensor:
    """Three captions of up to seven tokens, in a context of twelve."""
    tokens = torch.zeros(3, 12, dtype=torch.long)
    for row, words in enumerate(([5, 6], [7, 8, 9, 11, 3], [4])):
        tokens[row, : len(words) + 2] = torch.tensor([48, *words, 49])
    return tokens


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_tower_never_sees_is_left_out(name: str) -> None:
    """The pass on the front of the texts gives the scores and maps of the pass on all positions, whatever is asked."""
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build())
    score, tokens = TextImageScore(model, images((32, 32), 2)), short_captions()
    front, function = score.front(tokens)
    sees_all = name in SEES_ALL
    assert front.shape == ((3, 12) if sees_all else (3, 7))
    with torch.no_grad():
        assert relative(function(front), score(tokens)) < 1e-5
    options: list[dict[str, object]] = [
        {},
        {"heads": "each", "relu_attributions": False},
        {"heads": "model", "spatial_weight": "softmax"},
        {"similarity": "dot", "relu_before_sum": False},
    ]
    asked = [(kind, {}) for kind in KINDS] + [(GradECLIP, one) for one in options]
    seen: list[int] = []

    def maps() -> list[Tensor | None]:
        found: list[Tensor | None] = []
        for kind, some in asked:
            try:
                found.append(kind.for_score(score).attribute_targets(tokens, **some))
            except (NotDefinedError, ValueError):
                found.append(None)
        return found

    short = maps()
    handle = score.layers[0].register_forward_hook(lambda *args: seen.append(1))  # somebody looks on, so that all runs
    try:
        assert score.front(tokens)[0] is tokens
        long = maps()
    finally:
        handle.remove()
    assert seen
    for (kind, some), a, b in zip(asked, short, long):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert a.shape == b.shape and relative(a, b) < 1e-5, (kind.__name__, some)


@pytest.mark.parametrize(("count", "length"), [(1, 17), (2, 9), (4, 5)])
def test_some_padding_stays_where_a_processor_is_slower_with_few_rows(count: int, length: int) -> None:
    model, _, tokenizer = scenes.load()
    score, tokens = TextImageScore(model, torch.rand(1, 3, 64, 64)), tokenizer(["a red circle"] * count)
    front, _ = score.front(tokens)
    assert int(tokens.argmax(dim=1).max()) == 4 and front.shape == (count, length)
    method = GradECLIP(score, score.layers)
    short = method.attribute(tokens, target=0)
    handle = score.layers[0].register_forward_hook(lambda *args: None)
    try:
        assert relative(method.attribute(tokens, target=0), short) < 1e-5 and short.std() > 0
    finally:
        handle.remove()


@pytest.mark.parametrize("name", TEXTS)
def test_all_tokens_run_where_they_are_asked_for(name: str) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES[name].build())
    score, tokens = TextImageScore(model, images((32, 32), 2)), short_captions()
    method = GradECLIP(score, score.layers[-1:])
    for options in ({"key_tokens": "all"}, {"spatial_weight": "none"}):
        full = method.attribute(tokens, target=0, **options)
        handle = score.layers[0].register_forward_hook(lambda *args: None)
        try:
            assert relative(method.attribute(tokens, target=0, **options), full) < 1e-5
        finally:
            handle.remove()


def test_unusual_texts_keep_their_scores() -> None:
    """Texts without an end mark, without a start mark, padded in front, or of nothing but padding."""
    tokens = torch.tensor([[48, 5, 6, 7, 8, 9, 3, 2, 1, 5, 6, 7], [0] * 9 + [48, 5, 49], [0] * 12, [49] * 12])
    for name in TEXTS:
        score = TextImageScore(stir(FAMILIES[name].build()), images((32, 32), 2))
        for one in tokens.split(1):
            front, function = score.front(one)
            with torch.no_grad():
                got, expected = function(front), score(one)
            assert torch.allclose(got, expected, atol=1e-6, equal_nan=True), (name, one)


def test_a_changed_score_or_tower_sees_all_positions() -> None:
    class Longer(TextImageScore):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens) + tokens.ne(0).sum()

    torch.manual_seed(0)
    model, tokens = stir(FAMILIES["open_clip ViT"].build()), short_captions()
    assert Longer(model, images((32, 32), 2)).front(tokens)[0] is tokens
    score = TextImageScore(model, images((32, 32), 2))
    assert score.front(tokens)[0].shape == (3, 7)
    handle = score.register_forward_hook(lambda *args: None)
    assert score.front(tokens)[0] is tokens
    handle.remove()
    model.ln_final.forward = model.ln_final.forward
    assert score.front(tokens)[0] is tokens
