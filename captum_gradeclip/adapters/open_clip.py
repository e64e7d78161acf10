"""open_clip's ``CLIP`` and ``CustomTextCLIP``, of which OpenAI's own models are an instance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import ImageTower, TextTower, UnsupportedModelError, check_size, replaced, resize_positions


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of ``model.visual``: a ViT that reads its class token, or a ResNet with an attention pool."""
    visual: Any = model.visual
    kind = type(visual).__name__
    if kind == "VisionTransformer" and visual.attn_pool is None and visual.pool_type == "tok":
        layers = list(visual.transformer.resblocks)
        table, patch, native = "positional_embedding", int(visual.patch_size[0]), tuple(visual.grid_size)
        width = visual.proj.shape[1] if visual.proj is not None else visual.transformer.width
    elif kind == "ModifiedResNet":
        layers = [visual.attnpool]
        table, patch = "attnpool.positional_embedding", 32
        side = round((len(visual.attnpool.positional_embedding) - 1) ** 0.5)
        native, width = (side, side), visual.attnpool.c_proj.out_features
    else:
        raise UnsupportedModelError(
            f"model: the image tower {kind} is not supported yet; supported are VisionTransformer with class-token"
            " pooling and ModifiedResNet with its attention pool. Convolutional towers without attention have no"
            " queries, keys and values to explain: use captum.attr.LayerGradCam"
        )

    def encode(images: Tensor) -> Tensor:
        height, width = check_size(images, patch)
        grid = height // patch, width // patch
        if grid == native:
            return visual(images)  # type: ignore[no-any-return]
        positions = resize_positions(visual.get_parameter(table), native, grid)
        return replaced(visual, table, positions)(images)  # type: ignore[no-any-return]

    preprocessing = getattr(visual, "preprocess_cfg", {})
    return ImageTower(
        encode=encode,
        layers=layers,
        readout=lambda images: torch.zeros(len(images), dtype=torch.long, device=images.device),
        patch=patch,
        size=(native[0] * patch, native[1] * patch),
        mean=tuple(preprocessing.get("mean", OPENAI_MEAN)),
        std=tuple(preprocessing.get("std", OPENAI_STD)),
        width=width,
        dtype=visual.conv1.weight.dtype,
    )


def text_tower(model: nn.Module) -> TextTower:
    """The facts of the text transformer, which sits in ``model`` itself (``CLIP``) or in ``model.text``."""
    tower: Any = getattr(model, "text", model)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    if not hasattr(tower, "transformer") or not hasattr(tower.transformer, "resblocks"):
        raise UnsupportedModelError(
            f"model: the text tower {type(tower).__name__} is not supported yet; supported are open_clip's own"
            " TextTransformer and the text side of CLIP"
        )
    if getattr(tower, "cls_emb", None) is not None or pool not in ("first", "last", "argmax", "eos"):
        raise UnsupportedModelError(
            f"model: text pooling {pool!r} is not supported yet; supported are 'argmax', 'eos', 'first' and 'last'"
        )
    end: Any = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    context_length = int(tower.context_length)

    def encode(tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        # The position table, or else the causal mask, is added as a whole.
        if length > context_length or (tower.attn_mask is not None and length < context_length):
            raise ValueError(f"tokens: expected token ids (N, {context_length}), got {length} tokens per text")
        return model.encode_text(tokens)  # type: ignore[operator, no-any-return]

    def readout(tokens: Tensor) -> Tensor:
        if pool in ("first", "last"):
            return torch.full((len(tokens),), 0 if pool == "first" else tokens.shape[1] - 1, device=tokens.device)
        return (tokens if pool == "argmax" else tokens.eq(end).int()).argmax(dim=-1)

    projection = tower.text_projection
    if projection is None:
        width = tower.ln_final.normalized_shape[0]
    else:
        width = projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]
    return TextTower(
        encode=encode,
        layers=list(tower.transformer.resblocks),
        readout=readout,
        context_length=context_length,
        width=width,
    )


OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
