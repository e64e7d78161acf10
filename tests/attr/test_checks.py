"""What is refused before or after the pass, by a message that names it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, ImageTextScore
from captum_gradeclip.attention import Interception, LayerError, model_heads
from captum_gradeclip.attr import (
    GAME,
    METHODS,
    AttentionRollout,
    CLIPSurgery,
    NotDefinedError,
    RawAttention,
    compare,
)
from captum_gradeclip.scores import BareScore, describe

from ..conftest import FAMILIES, captions, images, stir


def test_scores_that_are_not_finite_are_refused(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    for break_it in (lambda s: torch.sqrt(-1 - s), lambda s: s / 0):
        method = GradECLIP(lambda images, f=break_it: f(score(images)), score.layers[-1])
        with pytest.raises(ValueError, match="NaN or infinite scores"):
            method.attribute(images((32, 32)), target=0)


def test_arguments_that_captum_would_repeat_are_refused(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))

    def with_texts(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return F.normalize(score.features(images), dim=-1) @ texts.T

    with pytest.raises(ValueError, match=r"additional_forward_args: a tensor of shape \(3, 24\)"):
        GradECLIP(with_texts, score.layers[-1]).attribute(x, target=0, additional_forward_args=score.text_features)


def test_training_mode_that_would_matter_is_refused() -> None:
    torch.manual_seed(0)
    resnet = stir(FAMILIES["open_clip ResNet"].build())
    score = ImageTextScore(resnet, captions())
    resnet.visual.train()
    with pytest.raises(ValueError, match=r"BatchNorm2d 'model.visual.bn1' is in training mode.*model.eval\(\)"):
        GradECLIP(score, score.layers[-1]).attribute(images((64, 64)), target=0)
    from open_clip.model import CLIP

    from ..conftest import TEXT, VIT

    dropping = stir(CLIP(24, {**VIT, "patch_dropout": 0.5}, TEXT))
    score = ImageTextScore(dropping, captions())
    GradECLIP(score, score.layers[-1]).attribute(images((32, 32)), target=0)
    dropping.train()
    with pytest.raises(ValueError, match="drops patches at random"):
        GradECLIP(score, score.layers[-1]).attribute(images((32, 32)), target=0)


def test_gradient_checkpointing_is_refused_where_it_cannot_work() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build())
    model.set_grad_checkpointing(True)
    score = ImageTextScore(model, captions())
    with pytest.raises(ValueError, match="gradient checkpointing"):
        GradECLIP(score, score.layers[-2:]).attribute(images((32, 32)), target=0)


def test_a_layer_beside_the_way_to_the_score(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    side = nn.MultiheadAttention(24, 2, batch_first=True).eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        tokens = torch.zeros(len(x), 5, 24)
        side(tokens, tokens, tokens)
        return score(x)

    with pytest.raises(ValueError, match="the score does not depend on it"):
        GradECLIP(forward, [score.layers[-1], side]).attribute(images((32, 32)), target=0)


def test_bad_inputs_are_named(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    method = GradECLIP(score, score.layers[-1])
    broken = images((32, 32))
    broken[0, 0, 0, 0] = float("nan")
    for inputs, error, message in (
        (broken, ValueError, "NaN or infinite"),
        (broken / 0, ValueError, "NaN or infinite"),
        (images((32, 32))[0], ValueError, "expected images"),
        (images((32, 32))[:0], ValueError, "at least one example"),
        ([1, 2], TypeError, "expected a tensor"),
        ((images((32, 32)), captions()), ValueError, "tuple of 2"),
        (torch.zeros(2, 3, 4, dtype=torch.long), ValueError, "token ids"),
        (images((33, 32)), ValueError, "multiples of the patch size 8"),
        (images((32, 32))[:, :1], ValueError, r"\(N, 3, H, W\)"),
    ):
        with pytest.raises(error, match=message):
            method.attribute(inputs, target=0)


def test_wrong_layers_are_named(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    text_layer = vit.transformer.resblocks[-1]
    for layer, message in (
        (text_layer, "did not run in this forward pass"),
        (vit.visual.ln_post, "has no attention module inside"),
        (vit.visual.transformer, "made 4 attention calls.*resblocks.0.attn"),
        (nn.Sequential(*score.layers[-1:]), r"a slice of one is a new container.*give a list of layers"),
        (nn.ModuleList(score.layers[-1:]), "give a list of layers"),
        ([score.layers[-1], score.layers[-1]], "same module"),
        ([score.layers[-1], score.layers[-1].attn], "inside the other"),
        ([], "empty list"),
    ):
        with pytest.raises(ValueError, match=message):
            GradECLIP(score, layer).attribute(x, target=0)
    with pytest.raises(TypeError, match=r"torch.nn.Module"):
        GradECLIP(score, ["visual"]).attribute(x, target=0)
    with pytest.raises(LayerError, match="made no attention call"):
        GradECLIP(score, vit.visual.conv1).attribute(x, target=0)


def test_a_forward_function_that_cannot_be_explained(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    x = images((32, 32))
    with pytest.raises(ValueError, match="does not depend on the chosen layer"):
        GradECLIP(lambda images: score(images).detach(), score.layers[-1]).attribute(x, target=0)
    with pytest.raises(TypeError, match="expected a tensor"):
        GradECLIP(lambda images: {"logits": score(images)}, score.layers[-1]).attribute(x, target=0)
    with pytest.raises(LayerError, match="ran 2 times"):
        GradECLIP(lambda images: score(images) + score(images), score.layers[-1]).attribute(x, target=0)
    with pytest.raises(ValueError, match="attends in 4 groups for 2 inputs"):
        GradECLIP(lambda images: score(torch.cat([images, images]))[:2], score.layers[-1]).attribute(x, target=0)


def test_keywords_of_the_gradient_are_checked(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    for kind in METHODS:
        for wrong in ({"grad_outputs": None}, {"is_grads_batched": True}, {"nonsense": 1}, 3):
            with pytest.raises(ValueError, match="grad_kwargs: expected a dictionary with some of create_graph"):
                kind.for_score(score).attribute(images((32, 32)), target=0, grad_kwargs=wrong)
    kept = GradECLIP.for_score(score).attribute_targets(images((32, 32)), max_memory=1, grad_kwargs={"retain_graph": False})
    assert torch.allclose(kept, GradECLIP.for_score(score).attribute_targets(images((32, 32))), atol=1e-7)


def test_odd_layers_and_chunks_are_named(vit: nn.Module) -> None:
    score, x = ImageTextScore(vit, captions()), images((32, 32))
    for layer in (None, 3):
        with pytest.raises(TypeError, match="layer: expected torch.nn.Module or a list of modules"):
            GradECLIP(score, layer).attribute(x, target=0)
    for size in (0, 2.5, "2"):
        with pytest.raises(ValueError, match="chunk_size: expected at least one input"):
            GradECLIP.for_score(score).attribute_targets(x, chunk_size=size)


def test_only_forward_stands_for_a_score(vit: nn.Module) -> None:
    score = ImageTextScore(vit, captions())
    assert describe(score.forward) is score and describe(score.__call__) is score and describe(score) is score
    assert isinstance(describe(score.features), BareScore)
    with pytest.raises(NotDefinedError, match="needs an ImageTextScore"):
        CLIPSurgery(score.features, score.layers[-1:]).attribute(images((32, 32)), target=1)


def test_clip_surgery_refuses_a_score_that_it_would_not_ask(vit: nn.Module) -> None:
    class Broken(ImageTextScore):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * torch.nan

    score = Broken(vit, captions())
    with pytest.raises(NotDefinedError, match="never calls forward, which Broken defines anew"):
        CLIPSurgery.for_score(score).attribute(images((32, 32)), target=1)


def test_compare_takes_objects_of_its_own_score_only(vit: nn.Module) -> None:
    score, other = ImageTextScore(vit, captions()), ImageTextScore(vit, captions(1))
    with pytest.raises(ValueError, match="methods: GradECLIP was made with another score"):
        compare(score, images((32, 32)), [GradECLIP.for_score(other)])


@pytest.mark.parametrize("kind", [RawAttention, AttentionRollout, GradECLIP, GAME])
def test_one_layer_of_several_beside_the_way(vit: nn.Module, kind: type) -> None:
    score, side = ImageTextScore(vit, captions()), nn.MultiheadAttention(24, 2, batch_first=True).eval()

    def forward(x: torch.Tensor) -> torch.Tensor:
        tokens = torch.zeros(len(x), 17, 24)
        side(tokens, tokens, tokens)
        return score(x)

    with pytest.raises(ValueError, match="the score does not depend on it"):
        kind(forward, [side, score.layers[-1]]).attribute(images((32, 32)), target=0)


class Twice(nn.Module):
    """Attention that is the difference of two, as of differential transformers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attend = nn.functional.scaled_dot_product_attention
        return attend(x, x, x) - attend(x, 2 * x, x)


class BlockOfTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Twice()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x)  # type: ignore[no-any-return]


def test_no_module_is_advised_that_is_refused_as_well() -> None:
    block = BlockOfTwice().eval()
    tokens = torch.randn(1, 5, 8)
    for layer in (block, block.attention):
        with Interception([layer], model_heads) as seen, torch.no_grad():
            block(tokens)
        with pytest.raises(LayerError, match="made 2 attention calls") as error:
            seen.records()
        assert "choose one of its attention modules" not in str(error.value)
