"""How inputs go through the model: on the read-out token alone where that is enough, and in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from captum_gradeclip import GradECLIP, ImageTextScore, TextImageScore, scenes
from captum_gradeclip.attention import model_heads, single_head
from captum_gradeclip.attr import Request

from ..conftest import DUAL, FAMILIES, captions, images, relative, scores, stir
from ..covering import covered
from .refusals import reading

X = images((32, 32))


@pytest.fixture
def score(vit: nn.Module) -> ImageTextScore:
    return ImageTextScore(vit, captions())


@pytest.fixture
def method(score: ImageTextScore) -> GradECLIP:
    return GradECLIP(score, score.layers[-1])


def test_hooks_of_others_see_all_tokens(score: ImageTextScore, method: GradECLIP) -> None:
    """Somebody who looks at the explained block must not find the one token of the short way there."""
    expected = method.attribute(X, target=0)
    seen: list[tuple[int, ...]] = []
    block: Any = score.layers[-1]
    handle = block.mlp.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    try:
        assert relative(method.attribute(X, target=0), expected) < 1e-5
    finally:
        handle.remove()
    assert seen == [(2, 17, 48)]


ALONE = {
    "open_clip ViT",
    "open_clip ViT, custom text",
    "open_clip ViT, end mark by id",
    "open_clip EVA-01",
    "open_clip ViT of timm, no mask",
    "open_clip ViT behind convolutions",
    "open_clip, text of transformers",
    "open_clip, text of BERT, ViT of timm",
    "open_clip, text of XLM-R",
    "open_clip, text of NLLB",
    "open_clip, text of mT5",
    "transformers CLIP",
    "transformers Chinese-CLIP",
    "transformers AltCLIP",
    "transformers BLIP",
    "transformers BLIP retrieval",
    "transformers ViT",
    "timm ViT",
    "timm DINOv2",
    "timm InternViT",
    "timm DeiT-3",
    "timm EVA giant",
    "timm ViT behind convolutions",
    "timm ViT behind a ResNet",
    "torchvision ViT",
}


OPTIONS: list[dict[str, Any]] = [{}, {"heads": "model"}, {"heads": "each", "spatial_weight": "softmax"}]


@pytest.mark.parametrize(("name", "options"), covered(FAMILIES, OPTIONS, per_row=1))
def test_one_token_gives_the_map_of_all(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    family = FAMILIES[name]
    model = stir(family.build())
    score, x, _ = scores(model, family, family.oblong or family.size)[0]
    layer = score.layers[-1]
    method = GradECLIP(score, layer)

    def tokens_behind() -> int:
        (record,) = Request(GradECLIP.info, score, score, [layer], x).intercept_tail(model_heads).records
        assert record.output is not None
        return record.output.shape[-2]

    if reading(family) != "a pool":  # whose queries are few anyway
        assert (tokens_behind() == 1) == (name in ALONE)
    short = [method.attribute(x, target=1, **options), method.attribute_targets(x, [2, 0], **options)]
    handle = layer.register_forward_hook(lambda module, inputs, output: None)  # somebody looks on, so all tokens run
    try:
        assert tokens_behind() > 1 or name not in ALONE
        long = [method.attribute(x, target=1, **options), method.attribute_targets(x, [2, 0], **options)]
    finally:
        handle.remove()
    for a, b in zip(short, long):
        assert relative(a, b) < 1e-5


def test_chunks_change_nothing(vit: nn.Module) -> None:
    x = images((32, 32), 5)
    score = ImageTextScore(vit, captions())
    for layers in (score.layers[-1:], score.layers[-2:]):
        method = GradECLIP(score, layers)
        whole = method.attribute_targets(x)
        for options in ({"chunk_size": 2}, {"max_memory": 1}, {"chunk_size": 3, "max_memory": 2**14}):
            assert relative(method.attribute_targets(x, **options), whole) < 1e-4
    with pytest.raises(ValueError, match="chunk_size: expected at least one input"):
        method.attribute_targets(x, chunk_size=0)
    takes_more = GradECLIP(lambda images, other: score(images), score.layers[-1])
    with pytest.raises(ValueError, match=r"additional_forward_args: a tensor of shape \(7, 1\)"):
        takes_more.attribute_targets(x, additional_forward_args=torch.zeros(7, 1), chunk_size=2)


class Centered(nn.Module):
    """A module that looks at all tokens, which the user put behind another one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        return x - x.mean(dim=1, keepdim=True)


def centered(x: Tensor) -> Tensor:
    """What looks at all tokens."""
    return x - x.mean(dim=1, keepdim=True)


def test_whatever_may_look_at_all_tokens_is_given_them() -> None:
    def module(model: nn.Module) -> None:
        model.visual.ln_post = Centered(model.visual.ln_post)

    def adapter(model: nn.Module) -> None:
        block = model.visual.transformer.resblocks[-1]
        block.mlp = Centered(block.mlp)

    def replaced_forward(model: nn.Module) -> None:
        norm, forward = model.visual.ln_post, model.visual.ln_post.forward
        norm.forward = lambda x: centered(forward(x))

    def hook_of_all(model: nn.Module) -> object:
        norm = model.visual.ln_post
        return register_module_forward_hook(lambda part, _, output: centered(output) if part is norm else None)

    def hook(model: nn.Module) -> None:
        model.visual.ln_post.register_forward_pre_hook(lambda _, inputs: (centered(inputs[0]),))

    for change in (module, adapter, replaced_forward, hook_of_all, hook):
        model, _, tokenizer = scenes.load()
        handle = change(model.eval())
        model.eval()
        score, x = ImageTextScore(model, ["a red circle", "two stars"], tokenizer), images((64, 64), 2)
        request = Request(GradECLIP.info, score, score, score.layers[-1:], x)
        (record,) = request.intercept_tail(single_head).records
        assert record.output is not None
        assert record.output.shape[-2] == 65, change.__name__
        if handle is not None:
            handle.remove()  # type: ignore[attr-defined]


CAUSAL = {name for name in DUAL if name.startswith("open_clip ") or name == "transformers CLIP"} - {
    "open_clip CoCa",
    "open_clip ViT, average, no mask",
    "open_clip ViT, sines",
    "open_clip ViT of timm, no mask",
    "open_clip SigLIP, last token",
}


@pytest.mark.parametrize("name", DUAL)
def test_the_graph_runs_along_the_word_that_is_read(name: str) -> None:
    """In a causal tower of texts the gradient needs no other token; the others count as keys and values."""
    model = stir(FAMILIES[name].build())
    score, tokens = TextImageScore(model, images(FAMILIES[name].size, 3)), captions(count=3)
    for count in (1, 3, 8):
        layers = score.layers[-count:]
        request = Request(GradECLIP.info, score, score, layers, tokens)
        records = request.intercept_tail(single_head).records
        whole = request.intercept(single_head).records
        for record, other in zip(records, whole):
            assert record.output is not None and record.key.shape == other.key.shape
            assert (record.output.shape[-2] == 1) == (name in CAUSAL)
            assert relative(record.key, other.key) < 1e-5 and relative(record.value, other.value) < 1e-5
    options: dict[str, Any] = {"target": 0, "key_tokens": "all"}
    backward = GradECLIP(score, score.layers[:-4:-1]).attribute(tokens, **options)
    assert relative(GradECLIP(score, score.layers[-3:]).attribute(tokens, **options), backward) < 1e-5


def test_eager_attention_of_transformers_gives_the_same_words() -> None:
    model: Any = stir(FAMILIES["transformers CLIP"].build())
    score, tokens = TextImageScore(model, images((32, 32), 2)), captions(count=3)
    method = GradECLIP(score, score.layers)
    expected = method.attribute(tokens, target=1, key_tokens="all")
    model.set_attn_implementation("eager")
    got = method.attribute(tokens, target=1, key_tokens="all")
    assert relative(got, expected) < 1e-5
