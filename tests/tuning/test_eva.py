"""The names of EVA-CLIP: what timm makes of them is the model again."""

from __future__ import annotations

import pytest

from captum_gradeclip.tuning import eva_clip_names

from ..conftest import FAMILIES

GATED = (
    "attn.q_bias",
    "attn.v_bias",
    "attn.inner_attn_ln.weight",
    "mlp.w1.bias",
    "mlp.w2.bias",
    "mlp.w3.bias",
    "mlp.ffn_ln.bias",
)
NAMES = {"EVA02-B-16": GATED, "EVA01-g-14": ("attn.q_bias", "attn.qkv.weight", "mlp.fc1.bias", "mlp.fc2.bias")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_timm_reads_them_back_to_the_same_weights(name: str) -> None:
    import open_clip
    from timm.models.eva import checkpoint_filter_fn

    model = open_clip.create_model(name, device="meta")
    weights = model.state_dict()
    found = eva_clip_names(weights)
    assert len(found) == len(weights) and not any("trunk" in key for key in found)
    assert {f"visual.blocks.0.{key}" for key in NAMES[name]} | {"visual.head.weight", "visual.norm.bias"} <= set(found)
    again = checkpoint_filter_fn(dict(found), model.visual.trunk)
    expected = {key.removeprefix("visual.trunk."): one for key, one in weights.items() if "trunk" in key}
    assert set(again) == set(expected) and all(again[key] is expected[key] for key in expected)
    assert all(found[key] is tensor for key, tensor in weights.items() if not key.startswith("visual."))


def test_weights_of_other_models_are_refused() -> None:
    with pytest.raises(ValueError, match="weights: expected the state dict of an EVA-CLIP"):
        eva_clip_names(FAMILIES["open_clip ViT"].build().state_dict())
