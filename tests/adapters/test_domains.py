"""The layouts of checkpoints of other domains, as docs/domains.md has them, with random weights and few layers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from open_clip.hf_model import HFTextEncoder
from torch import nn

from captum_gradeclip import adapters
from captum_gradeclip.check import faults_of, self_check

from ..conftest import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "domains.md"
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if line[:2] == "| "][1:]
KINDS = {"token": "class token", "pool": "attention pool"}


def of_open_clip(name: str) -> nn.Module:
    """A true architecture of open_clip, two layers of each tower."""
    config: Any = open_clip.get_model_config(name)
    config["text_cfg"]["layers"] = 2
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    else:
        config["vision_cfg"]["layers"] = 2
    config["text_cfg"].pop("hf_tokenizer_name", None)
    custom = config.pop("custom_text", False) or "timm_model_name" in config["vision_cfg"]
    model: Any = (open_clip.model.CustomTextCLIP if custom else open_clip.model.CLIP)(**config)
    if hasattr(model.visual, "trunk"):
        model.visual.trunk.blocks = model.visual.trunk.blocks[:2]
    return model  # type: ignore[no-any-return]


def biomed_clip() -> nn.Module:
    """A ViT-B/16 of timm and PubMedBERT, which is a BERT base; a small network reads its first token."""
    image = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    config = open_clip.get_model_config("ViT-B-16")
    model: Any = open_clip.model.CustomTextCLIP(512, image, {**config["text_cfg"], "layers": 1})
    model.visual.trunk.blocks = model.visual.trunk.blocks[:2]
    bert = transformers.BertConfig(num_hidden_layers=2)
    model.text = HFTextEncoder("", 512, config=bert, pooler_type="cls_last_hidden_state_pooler", proj_type="mlp")
    return model  # type: ignore[no-any-return]


def med_siglip() -> nn.Module:
    """SigLIP's tower of 400 million weights at 448 pixels."""
    blocks: dict[str, Any] = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}
    small = {**blocks, "num_hidden_layers": 2}
    config: Any = transformers.SiglipConfig
    return transformers.SiglipModel(
        config(vision_config={**small, "image_size": 448, "patch_size": 14}, text_config={**small, "projection_size": 1152})
    )


def clip() -> nn.Module:
    """OpenAI's ViT-B/32 in transformers, of which the default configuration is."""
    config: Any = transformers.CLIPConfig
    few = {"num_hidden_layers": 2}
    marks = {"bos_token_id": 49406, "eos_token_id": 49407}
    return transformers.CLIPModel(config(vision_config=few, text_config={**few, **marks}))


BUILD: dict[str, Callable[[], nn.Module]] = {
    "BiomedCLIP": biomed_clip,
    "MedSigLIP": med_siglip,
    "PLIP": clip,
    "RemoteCLIP": lambda: of_open_clip("ViT-B-32"),
    "GeoRSCLIP": lambda: of_open_clip("ViT-B-32"),
    "BioCLIP": lambda: of_open_clip("ViT-B-16"),
    "BioCLIP 2": lambda: of_open_clip("ViT-L-14"),
    "FashionSigLIP": lambda: of_open_clip("ViT-B-16-SigLIP"),
    "FashionCLIP": clip,
}


def test_the_page_has_a_row_for_each_layout() -> None:
    assert [row[1].partition(" (")[0] for row in ROWS] == list(BUILD)
    assert len({row[0] for row in ROWS}) == 4 and all("--model" in row[2] for row in ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_checkpoint_has_the_layout_of_its_row(row: list[str]) -> None:
    _, name, _, family_name, images, read, prompts = row
    torch.manual_seed(0)
    model = BUILD[name.partition(" (")[0]]().eval()
    family = FAMILIES[family_name]
    same = family.build()
    assert type(model) is type(same) or type(model).__name__ in family.models
    image, text = adapters.image_tower(model), adapters.text_tower(model)
    side, patch = map(int, re.findall(r"\d+", images))
    assert image.size == (side, side) and image.patch == patch
    assert image.readout.kind == adapters.image_tower(same).readout.kind
    assert text.readout.kind == adapters.text_tower(same).readout.kind
    assert read == f"{family.reads}; {family.text_reads}" and KINDS[image.readout.kind] == family.reads
    longest = re.search(r"up to (\d+) tokens", prompts)
    # PubMedBERT has 512 positions, of which its tokenizer uses half.
    assert longest is not None and text.context_length == {256: 512}.get(int(longest[1]), int(longest[1]))
    checks = self_check(model)
    assert not faults_of(checks) and [check.tower for check in checks] == ["image", "text"]
    assert max(check.error for check in checks) < 1e-5
    preprocessing = adapters.preprocessing(model)
    assert preprocessing.crop in ((side, side), None)
