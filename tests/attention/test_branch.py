"""What a block adds to the stream, and other tokens behind a block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore
from captum_gradeclip.adapters import Family
from captum_gradeclip.attention import LayerError, ReplaceOutput, SidePath, model_heads, tokens_as_batch

from ..conftest import captions, fingerprint, images, relative


def test_a_branch_is_what_a_block_adds(model: nn.Module, family: Family) -> None:
    """With the model's own heads: the block's output less its input and the MLP, found by leaving the MLP out."""
    from ..conftest import scores

    score, x, _ = scores(model, family, family.oblong or family.size)[0]
    block = score.layers[-1] if score.readout.kind == "token" else score.layers[0]
    if score.sites[0].kind == "pool":
        with (
            pytest.raises(LayerError, match="does not add what its attention returns"),
            torch.no_grad(),
            SidePath([block], model_heads, len(x)),
        ):
            score(x)
        return
    before = fingerprint(model)
    kept: list[Any] = []
    handle = block.register_forward_hook(lambda module, args, output: kept.append(output))
    with torch.no_grad(), SidePath([block], model_heads, len(x)) as beside:
        plain = score(x)
    handle.remove()
    with torch.no_grad():
        assert torch.equal(plain, score(x))
    assert beside.added[0].shape == beside.inputs[0].shape and beside.added[0].std() > 0
    stream = (beside.inputs[0] + beside.added[0]).to(torch.float32)
    whole = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
    whole = whole if whole.shape[0] == len(x) else whole.transpose(0, 1)
    mlp = next(part for name, part in block.named_modules() if name in ("mlp", "ffn") or name == "intermediate")
    norms = [part for name, part in block.named_children() if name in SECOND_NORM]
    if norms and not hasattr(mlp, "dense"):
        rest = mlp(norms[0](stream))
        scale = next(
            (part for name, part in block.named_children() if name in ("ls2", "layer_scale2", "ls_2")), nn.Identity()
        )
        gamma = getattr(block, "gamma_2", getattr(block, "lambda_2", None))
        rest = scale(rest) if gamma is None else gamma * rest
        assert relative(stream + rest, whole) < 1e-5
    assert fingerprint(model) == before


SECOND_NORM = ("ln_2", "norm2", "layer_norm2", "layernorm_after")


def test_layers_that_do_not_run_or_hide_their_examples(vit: nn.Module) -> None:
    x = images((32, 32))
    idle = nn.Linear(3, 3)
    with pytest.raises(LayerError, match="ran 0 times"), ReplaceOutput(idle, 2, tokens_as_batch):
        vit.encode_image(x)  # type: ignore[operator]
    with pytest.raises(LayerError, match="1 blocks ran 0 times"), SidePath([idle], model_heads, 2):
        vit.encode_image(x)  # type: ignore[operator]
    many = torch.randn(17, 3, 32, 32)  # as many examples as tokens
    score = ImageTextScore(vit, captions())
    watched = ReplaceOutput(score.layers[-1], 17, lambda tokens: tokens)
    with pytest.raises(LayerError, match="does not show which of its dimensions"), watched, torch.no_grad():
        score(many)
    with pytest.raises(RuntimeError, match="stop"), ReplaceOutput(score.layers[-1], 2, _stop), torch.no_grad():
        score(x)
    assert not score.layers[-1]._forward_hooks


def _stop(tokens: Tensor) -> Tensor:
    raise RuntimeError("stop")
