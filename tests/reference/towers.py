"""The towers of open_clip, block by block and head by head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_gradeclip.adapters.base import resize_positions

from . import equations as reference


def prepared(visual: Any, image: Tensor) -> Tensor:
    """Tokens of one image before the first block."""
    grid = tuple(side // 8 for side in image.shape[-2:])
    x = visual.conv1(image[None])[0].flatten(1).T
    table = resize_positions(visual.positional_embedding, visual.grid_size, grid)
    return visual.ln_pre(torch.cat([visual.class_embedding[None], x]) + table)


@torch.no_grad()
def second_path(visual: Any, image: Tensor, count: int) -> Tensor:
    """Features of all tokens of one image by the dual path of CLIP Surgery, block by block and head by head."""
    original = prepared(visual, image)
    blocks = list(visual.transformer.resblocks)
    new = None
    for number, block in enumerate(blocks):
        if number >= len(blocks) - count:
            new = original if new is None else new
            v = (block.ln_1(original) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=1)[2]
            mixed, _ = reference.attend(v, v, v, block.attn.num_heads, causal=False)
            new = new + mixed @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
        original, _ = reference.block(original, block, block.attn.num_heads, causal=False, track=False)
    new = torch.cat([original[:1], new[1:]])
    return torch.stack([visual.ln_post(token) @ visual.proj for token in new])


def before_pool(score: nn.Module, pool: nn.Module, image: Tensor) -> Tensor:
    """The feature map ``(C, h, w)`` of an image ``(1, 3, H, W)`` that an attention pool over convolutions is given."""
    kept: list[Tensor] = []
    handle = pool.register_forward_pre_hook(lambda module, args: kept.append(args[0][0]))
    with torch.no_grad():
        score(image)
    handle.remove()
    return kept[0]
