"""The weights of an EVA-CLIP under the names of its own repository, by which detectors read them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..quoting import quoted

_TRUNK = "visual.trunk."
_NAMES = (
    (r"\.mlp\.norm\.", ".mlp.ffn_ln."),
    (r"\.attn\.norm\.", ".attn.inner_attn_ln."),
    (r"\.attn\.([qv])_proj\.bias$", r".attn.\1_bias"),
)
_GATED = ((r"\.mlp\.fc1_g\.", ".mlp.w1."), (r"\.mlp\.fc1_x\.", ".mlp.w2."), (r"\.mlp\.fc2\.", ".mlp.w3."))


def eva_clip_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an EVA-CLIP of open_clip, under the names that they have in EVA-CLIP's own repository.

    open_clip builds the image tower of these models with timm, which names its parts otherwise than EVA-CLIP does. F-ViT and
    other detectors read EVA-CLIP's names, and leave what they do not find at random without an error.

    Args:
        weights: a state dict of such a model, all of it.

    Returns:
        The same tensors under the other names. What follows from the architecture alone, such as rotary positions, is not
        among them.

    Raises:
        ValueError: for weights of another kind of model.

    >>> import torch
    >>> names = ("visual.trunk.blocks.0.attn.q_proj.bias", "visual.trunk.blocks.0.mlp.fc1_g.bias", "logit_scale")
    >>> list(eva_clip_names({name: torch.zeros(1) for name in names}))
    ['visual.blocks.0.attn.q_bias', 'visual.blocks.0.mlp.w1.bias', 'logit_scale']

    Source: Sun et al.: "EVA-CLIP", arXiv 2303.15389; the names are those that timm's ``eva`` takes in.
    """
    if not any(re.match(r"visual\.trunk\.blocks\.0\.attn\.(q_proj\.bias|q_bias)$", name) for name in weights):
        raise ValueError(
            "weights: expected the state dict of an EVA-CLIP of open_clip, with 'visual.trunk.blocks.0.attn.q_proj.bias' or"
            f" '...q_bias', got {len(weights)} weights, the first of them {quoted(next(iter(weights), ''))}; other models of"
            " open_clip keep their names"
        )
    gated = any(".mlp.fc1_g." in name for name in weights)
    rules = (*_NAMES, *(_GATED if gated else ()))
    return {_renamed(name, rules): tensor for name, tensor in weights.items()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    if not name.startswith(_TRUNK):
        return name
    own = "visual." + name.removeprefix(_TRUNK)
    for pattern, replacement in rules:
        own = re.sub(pattern, replacement, own)
    return own
