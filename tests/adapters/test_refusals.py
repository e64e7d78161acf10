"""What is refused is refused with the reason and the way out that the page on models states."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torchvision
import transformers
from torch import nn

from captum_gradeclip import GradECLIP, adapters
from captum_gradeclip.adapters import open_clip as open_clip_adapter, timm as timm_adapter
from captum_gradeclip.attention import LayerError

from ..conftest import images

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def of_transformers(name: str) -> nn.Module:
    """A module of a class of the library, without its weights: what is refused is the class."""
    kind: Any = getattr(transformers, name)
    model: nn.Module = kind.__new__(kind)
    nn.Module.__init__(model)
    return model


def tower(build: Callable[[], nn.Module]) -> Callable[[], object]:
    return lambda: adapters.image_tower(build())


def text_tower(build: Callable[[], nn.Module]) -> Callable[[], object]:
    return lambda: adapters.text_tower(build())


def explained(build: Callable[[], Any]) -> Callable[[], object]:
    """What only an explanation shows: how many attentions a block has."""

    def run() -> object:
        model = build().eval()
        return GradECLIP(model, model.blocks[-1]).attribute(images((32, 32)), target=0)

    return run


def tiny_timm(name: str, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: timm_adapter.tiny(known(name), **settings)


def known(name: str) -> str:
    """The name of an architecture of timm; the test is skipped where the installed version lacks it."""
    if timm_adapter.lacking(name):
        pytest.skip(f"the installed timm lacks {name}")
    return name


def tiny_open_clip(**settings: Any) -> Callable[[], nn.Module]:
    return lambda: open_clip_adapter._tiny(kind="CustomTextCLIP", **settings)


def joined() -> nn.Module:
    blocks: Any = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    image = transformers.BeitConfig(**blocks, image_size=32, patch_size=8)
    text = transformers.BertConfig(**blocks, vocab_size=50)
    config: Any = transformers.VisionTextDualEncoderConfig
    return transformers.VisionTextDualEncoderModel(config.from_vision_text_configs(image, text, projection_dim=24))


# By the first column of the page's table.
CASES: dict[str, list[tuple[Callable[[], object], str]]] = {
    "convolutional towers": [
        (tower(lambda: timm.create_model("resnet18")), "convolutional or hierarchical.*LayerGradCam"),
        (tower(torchvision.models.resnet18), "convolutional or hierarchical.*LayerGradCam"),
        (tower(lambda: of_transformers("AlignModel")), "convolutional or hierarchical.*LayerGradCam"),
    ],
    "hierarchical towers, and towers of windows": [
        (tower(lambda: of_transformers("SwinForImageClassification")), "convolutional or hierarchical.*LayerGradCam"),
        (tower(lambda: of_transformers("HieraForImageClassification")), "convolutional or hierarchical.*LayerGradCam"),
        (tower(lambda: timm.models.VisionTransformerSAM.__new__(timm.models.VisionTransformerSAM)), "LayerGradCam"),
    ],
    "attention that mixes heads or channels": [
        (tower(lambda: timm.create_model("cait_xxs24_224", depth=1)), "mixes its heads.*RISE"),
        (tower(lambda: timm.create_model("xcit_nano_12_p16_224", depth=1)), "mixes its heads.*RISE"),
    ],
    "blocks with two attentions": [
        (explained(tiny_timm("vit_dlittle_patch16_reg1_gap_256")), "2 attention calls"),
        (explained(tiny_timm("vit_small_patch16_18x2_224")), "2 attention calls.*choose one of its attention modules"),
    ],
    "packed inputs": [
        (tower(lambda: timm.create_model(known("gemma4_vit_167m"), depth=1)), "packed sequence.*NaFlexVit"),
        (tower(lambda: timm.create_model(known("qwen3_vit_88m"), depth=1)), "packed sequence.*NaFlexVit"),
    ],
    "generative models, and embeddings by a decoder": [
        (tower(lambda: of_transformers("LlavaForConditionalGeneration")), "generates.*LLMAttribution.*colpali-engine"),
        (tower(lambda: of_transformers("ColPaliForRetrieval")), "generates.*LLMAttribution.*colpali-engine"),
    ],
    "several vectors for an image": [
        (tower(lambda: of_transformers("Blip2ForImageTextRetrieval")), "several vectors.*callable"),
        (tower(lambda: of_transformers("XCLIPModel")), "several vectors.*callable"),
        (tower(lambda: of_transformers("GroupViTModel")), "several vectors.*callable"),
    ],
    "no pooling": [
        (tower(tiny_timm("vit_tiny_patch16_224", global_pool="")), "global_pool '' leaves all tokens.*create it with"),
        (tower(tiny_open_clip(image={"pool_type": "none"})), "image pooling 'none' is not supported"),
        (text_tower(tiny_open_clip(text={"pool_type": "none"})), "text pooling 'none' is not supported"),
    ],
    "a pair of attention pools": [
        (
            tower(tiny_open_clip(image={"attentional_pool": "parallel", "attn_pooler_heads": 4})),
            "pair of attention pools.*the single one is",
        ),
    ],
    "a pair of encoders that nobody has stated": [(tower(joined), "BeitModel and BertModel has no adapter.*callable")],
    "patches that are not square": [(tower(tiny_timm("vit_tiny_patch16_224", patch=(16, 8))), "patches must be square")],
    "anything else": [(tower(lambda: nn.Linear(2, 2)), "expected a model of open_clip.*callable")],
}


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind in CASES for place in range(len(CASES[kind]))])
def test_the_reason_and_the_way_out_are_told(kind: str, place: int) -> None:
    run, told = CASES[kind][place]
    with pytest.raises((adapters.UnsupportedModelError, LayerError)) as error:
        run()
    assert re.search(told, str(error.value)), str(error.value)


def test_the_page_lists_what_is_refused() -> None:
    section = PAGE.read_text().partition("## What is refused")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]
    assert rows[1:] == list(CASES)
