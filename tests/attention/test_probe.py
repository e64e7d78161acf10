"""The patches of a bare callable are shown by a probe, or the callable is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from captum_gradeclip import GradECLIP
from captum_gradeclip.attention import Interception, single_head
from captum_gradeclip.scores import BareScore

from ..conftest import relative, stir


class Rearranged(nn.Module):
    """A ViT whose tokens are changed in front of its blocks, or in front of the last of them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        settings = {"embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 10, "img_size": (48, 64)}
        self.vit = timm.create_model("vit_tiny_patch16_224", **settings)
        self.how, self.prompts = how, nn.Parameter(torch.randn(1, 20, 48))

    def forward(self, images: Tensor) -> Tensor:
        vit = self.vit
        tokens = vit._pos_embed(vit.patch_embed(images))
        head, patches, prompts = tokens[:, :1], tokens[:, 1:], self.prompts.expand(len(tokens), -1, -1)
        if self.how == "prompts behind":
            tokens = torch.cat([tokens, prompts[:, :4]], dim=1)
        if self.how == "many prompts between":
            tokens = torch.cat([head, prompts[:, :10], patches], dim=1)
        if self.how == "shuffled":
            order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
            tokens = torch.cat([head, patches[:, order]], dim=1)
        if self.how == "column by column":
            tokens = torch.cat([head, patches.unflatten(1, (3, 4)).transpose(1, 2).flatten(1, 2)], dim=1)
        tokens = vit.blocks[0](tokens)
        if self.how == "pruned":
            kept = tokens[:, 1:].norm(dim=-1).topk(9, dim=1).indices[..., None].expand(-1, -1, 48)
            tokens = torch.cat([tokens[:, :1], tokens[:, 1:].gather(1, kept)], dim=1)
        return vit.forward_head(vit.norm(vit.blocks[1](tokens)))


def by_hand(model: Rearranged, images: Tensor, patches: slice) -> Tensor:
    """Gradient times value of the class token, over these keys."""
    with Interception([model.vit.blocks[-1]], single_head) as seen, torch.no_grad():
        output = model(images)
    record = seen.records()[0]
    (gradient,) = torch.autograd.grad(output[:, 1].sum(), record.output)
    return (gradient[:, :1] * record.value.transpose(1, 2).flatten(2)).sum(-1)[:, patches].view(-1, 1, 3, 4)


@pytest.mark.parametrize(("how", "start"), [("plain", 1), ("prompts behind", 1), ("many prompts between", 11)])
def test_patches_are_found_wherever_they_are(how: str, start: int) -> None:
    model, images = stir(Rearranged(how), amount=0.05), torch.randn(2, 3, 48, 64)
    state = torch.get_rng_state()
    for function in (model, lambda x: model(x), BareScore(model, grid=(3, 4), start=start)):
        method = GradECLIP(function, model.vit.blocks[-1])
        found = method.attribute(images, target=1, spatial_weight="none", relu_attributions=False)
        assert relative(found, by_hand(model, images, slice(start, start + 12))) < 1e-4
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("how", ["shuffled", "column by column", "pruned"])
def test_tokens_in_no_raster_order_are_refused(how: str) -> None:
    model, images = stir(Rearranged(how), amount=0.05), torch.randn(2, 3, 48, 64)
    with pytest.raises(ValueError, match=r"BareScore\(forward_func, grid=\(rows, columns\)"):
        GradECLIP(model, model.vit.blocks[-1]).attribute(images, target=1)
    if how != "pruned":  # whoever states it takes the responsibility
        stated = BareScore(model, grid=(3, 4), start=1)
        assert GradECLIP(stated, model.vit.blocks[-1]).attribute(images, target=1).shape == (2, 1, 3, 4)


class ChannelAttention(nn.Module):
    """Attention of channels to channels, of which there are as many as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(q.mT[:, None], k.mT[:, None], v.mT[:, None])
        return x + mixed[:, 0].mT


def test_channels_are_no_tokens() -> None:
    torch.manual_seed(0)
    cut, attention = nn.Conv2d(3, 16, 8, 8), ChannelAttention()
    blocks = nn.Sequential(attention)

    def forward(images: Tensor) -> Tensor:
        return blocks(cut(images).flatten(2).mT).mean(dim=1)

    with pytest.raises(ValueError, match="are not shown to be patches"):
        GradECLIP(forward, attention).attribute(torch.randn(1, 3, 32, 32), target=1)


def test_the_probe_runs_once_per_size() -> None:
    model, runs = stir(Rearranged("plain"), amount=0.05), []
    model.vit.patch_embed.register_forward_hook(lambda *_: runs.append(1))
    method = GradECLIP(model, model.vit.blocks[-1])
    method.attribute(torch.randn(1, 3, 48, 64), target=1)
    first = len(runs)
    method.attribute(torch.randn(3, 3, 48, 64), target=1)
    assert len(runs) == first + 1


def test_what_one_function_shows_is_not_believed_of_another() -> None:
    plain, images = stir(Rearranged("plain"), amount=0.05), torch.randn(1, 3, 48, 64)
    other = Rearranged("column by column")
    other.vit = plain.vit
    layer = plain.vit.blocks[-1]
    assert GradECLIP(lambda x: plain(x), layer).attribute(images, target=1).shape == (1, 1, 3, 4)
    for function in (other, lambda x: other(x)):
        with pytest.raises(ValueError, match="are not shown to be patches"):
            GradECLIP(function, layer).attribute(images, target=1)


def test_a_stated_grid_that_does_not_fit_is_refused() -> None:
    model = stir(Rearranged("plain"), amount=0.05)
    with pytest.raises(ValueError, match="grid: "):
        GradECLIP(BareScore(model, grid=(4, 4), start=1), model.vit.blocks[-1]).attribute(
            torch.randn(1, 3, 48, 64), target=1
        )
