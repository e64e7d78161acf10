"""On a GPU: the maps of the processor, in every precision, compiled or not, and within the memory of a plain pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import (
    METHODS,
    GradECLIP,
    ImageTextScore,
    TextImageScore,
    WordRegionAttribution,
    explain,
    scenes,
)
from captum_gradeclip.attr import NotDefinedError
from captum_gradeclip.maps import ranks, strongest

from .conftest import FAMILIES, captions, images, relative, stir

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
DEVICE = "cuda"
NAMES = ("open_clip ViT", "transformers CLIP", "transformers SigLIP")


@pytest.fixture(autouse=True)
def exact() -> None:
    """Float32 products in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module]:
    """A model on the processor, and its copy on the GPU."""
    torch.manual_seed(0)
    model = stir(FAMILIES[request.param].build())
    return model, copy.deepcopy(model).to(DEVICE)


def same_on_both(pair: tuple[nn.Module, nn.Module], call: Callable[[nn.Module, str], Tensor], most: float = 1e-4) -> None:
    here, there = call(pair[0], "cpu"), call(pair[1], DEVICE)
    assert there.device.type == "cuda" and there.std() > 0
    assert relative(there.cpu(), here) < most


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_gives_the_map_of_the_processor(kind: Any, pair: tuple[nn.Module, nn.Module]) -> None:
    few = {"RISE": {"n_masks": 20}, "M2IB": {"steps": 2}}.get(kind.__name__, {})

    def call(model: nn.Module, device: str) -> Tensor:
        score = ImageTextScore(model, captions().to(device))
        return kind.for_score(score).attribute(images((32, 32)).to(device), target=1, **few)

    try:
        call(pair[0], "cpu")
    except NotDefinedError:
        pytest.skip(f"{kind.__name__} is not defined for this model")
    same_on_both(pair, call)


@pytest.mark.parametrize("heads", ["single", "model", "each"])
def test_words_and_many_texts(heads: str, pair: tuple[nn.Module, nn.Module]) -> None:
    x = images((32, 32))

    def words(model: nn.Module, device: str) -> Tensor:
        score = TextImageScore(model, x.to(device))
        return GradECLIP(score, score.layers[-2:]).attribute(captions().to(device), target=0, heads=heads)

    def many(model: nn.Module, device: str) -> Tensor:
        features = torch.randn(300, 32, generator=torch.Generator().manual_seed(1))
        width = ImageTextScore(model, captions().to(device)).text_features.shape[1]
        score = ImageTextScore(model, features.repeat(1, 8)[:, :width].to(device))
        return GradECLIP(score, score.layers[-1]).attribute_targets(x.to(device), heads=heads)

    same_on_both(pair, words)
    same_on_both(pair, many)


def test_pairs_of_words_and_regions(pair: tuple[nn.Module, nn.Module]) -> None:
    x, tokens = images((32, 32)), captions()[:2]
    same_on_both(pair, lambda model, device: WordRegionAttribution(model).attribute(x.to(device), tokens.to(device)))


def test_parts_of_many_texts_stay_on_the_gpu() -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build()).to(DEVICE)
    width = ImageTextScore(model, captions().to(DEVICE)).text_features.shape[1]
    score, x = ImageTextScore(model, torch.randn(100, width, device=DEVICE)), images((32, 32)).to(DEVICE)
    method = GradECLIP(score, score.layers[-1])
    whole = method.attribute_targets(x, relu_attributions=False)
    values, best = strongest(method.attribute_in_parts(x, most=7, relu_attributions=False))
    assert torch.allclose(values[:, 0], whole.amax(dim=1), atol=1e-6)
    assert torch.allclose(whole.gather(1, best), values, atol=1e-6)  # of equal ones, any
    above = ranks(method.attribute_in_parts(x, most=7, relu_attributions=False), whole[:, :1])
    assert torch.equal(above[:, 0], (whole > whole[:, :1]).sum(dim=1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [True, False])
def test_half_precision(dtype: torch.dtype, autocast: bool, pair: tuple[nn.Module, nn.Module]) -> None:
    x, (model, other) = images((32, 32)), pair
    score = ImageTextScore(model, captions())
    expected = GradECLIP(score, score.layers[-1]).attribute(x, target=0, relu_attributions=False)
    other = other if autocast else other.to(dtype)
    score = ImageTextScore(other, captions().to(DEVICE))
    method, y = GradECLIP(score, score.layers[-1]), x.to(DEVICE)
    with torch.autocast(DEVICE, dtype, enabled=autocast):
        got = method.attribute(y if autocast else y.to(dtype), target=0, relu_attributions=False)
    assert got.dtype == torch.float32 and got.isfinite().all()
    assert torch.corrcoef(torch.stack([got.flatten().cpu(), expected.flatten()]))[0, 1] > 0.98


def test_explain_on_a_gpu_says_what_the_processor_says() -> None:
    model, preprocess, tokenizer = scenes.load()
    pictures = [scenes.SceneDataset(3, "evaluation")[i].image for i in range(3)]
    texts = ["a red circle", "something green"]
    here = explain(model, pictures, texts, tokenizer, preprocess=preprocess)
    there = explain(model, pictures, texts, tokenizer, preprocess=preprocess, device="auto")
    assert next(model.parameters()).device.type == "cuda"
    assert relative(torch.as_tensor(there.maps).cpu(), torch.as_tensor(here.maps)) < 1e-3
    assert torch.allclose(there.scores.cpu(), here.scores, atol=1e-4)
    model.to("cpu")


def test_the_peak_of_an_explanation_is_that_of_a_plain_pass() -> None:
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-L-14-336").eval().to(DEVICE, torch.bfloat16)
    score = ImageTextScore(model, torch.randn(10, 768, device=DEVICE))
    method = GradECLIP(score, score.layers[-1])
    for size, count in (((336, 336), 4), ((896, 896), 1)):  # 576 and 4,096 patches
        x = torch.randn(count, 3, *size, device=DEVICE, dtype=torch.bfloat16)

        def peak(call: Callable[[Tensor], Tensor], x: Tensor = x) -> int:
            call(x)
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            call(x)
            return torch.cuda.max_memory_allocated()

        assert peak(method.attribute_targets) < 1.05 * peak(torch.no_grad()(score))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_blocks_give_the_same_map(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = stir(FAMILIES["open_clip ViT"].build()).to(DEVICE, dtype)
    score, x = ImageTextScore(model, captions().to(DEVICE)), images((32, 32)).to(DEVICE, dtype)
    method = GradECLIP(score, score.layers[-1])
    expected = method.attribute(x, target=0)
    for block in score.layers:
        block.compile()
    assert relative(method.attribute(x, target=0), expected) < (1e-4 if dtype == torch.float32 else 0.1)
