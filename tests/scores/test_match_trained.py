"""A matching head that was trained: what its maps mark is what its logit needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from captum_gradeclip import GradECLIP, MatchScore, scenes
from captum_gradeclip.attr import MatchRegionAttribution
from captum_gradeclip.metrics import Schedule, curves

from ..conftest import varies

SIDE = 48


def drawn(count: int, split: Any) -> tuple[Tensor, list[list[str]]]:
    """Scenes of two things ``(N, 3, SIDE, SIDE)``, with the colors of both."""
    data, prepare = scenes.SceneDataset(count, split, size=SIDE, counts=(2,)), scenes.preprocess(SIDE)
    items = [data[number] for number in range(count)]
    return torch.stack([prepare(item.image) for item in items]), [
        [thing.colour for thing in item.scene.things] for item in items
    ]


def trained(x: Tensor, shown: Tensor) -> Any:
    """A tiny BLIP whose matching head says whether a color ``(N, colors)`` is shown."""
    from transformers import BlipConfig, BlipForImageTextRetrieval

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": 20, "max_position_embeddings": 8, "pad_token_id": 0, "bos_token_id": 2, "sep_token_id": 3}
    model: Any = BlipForImageTextRetrieval(
        BlipConfig(
            vision_config={**small, "image_size": SIDE, "patch_size": 8},
            text_config={**small, **text, "encoder_hidden_size": 64, "hidden_dropout_prob": 0.0},
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():  # the usual weights are too small for so narrow layers, and learn slowly
            if parameter.dim() > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    recent: list[float] = []
    for _ in range(1500):
        chosen, match = torch.randint(len(x), (64,)), torch.rand(64) < 0.5
        color = torch.where(match[:, None], shown[chosen], ~shown[chosen]).float().multinomial(1)[:, 0]
        tokens = ids(color)
        logits = model(
            pixel_values=x[chosen], input_ids=tokens, attention_mask=torch.ones_like(tokens), use_itm_head=True
        ).itm_score
        loss = F.cross_entropy(logits, match.long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent = [*recent[-19:], float(loss.detach())]
        if sum(recent) / 20 < 0.08 and len(recent) == 20:
            break
    return model.eval()


def ids(colors: Tensor) -> Tensor:
    """Texts of one word, a color, between marks."""
    return torch.stack([torch.full_like(colors, 2), 4 + colors, torch.full_like(colors, 3)], dim=1)


@pytest.mark.slow
def test_what_the_maps_mark_is_what_the_logit_needs() -> None:
    """Under 1 minute of a core: the head learns to find a color, and its logit falls with the tenth that a map marks."""
    torch.manual_seed(0)
    x, colors = drawn(1000, "train")
    names = sorted({color for both in colors for color in both})
    shown = torch.tensor([[name in both for name in names] for both in colors])
    model = trained(x, shown)
    score = MatchScore(model, ids(torch.arange(len(names))))
    held_out, others = drawn(64, "evaluation")
    named = torch.tensor([names.index(both[0]) for both in others])
    right = torch.tensor([[name in both for name in names] for both in others])
    with torch.no_grad():
        assert ((score(held_out) > 0) == right).float().mean() > 0.8

    def fall(maps: Tensor) -> Tensor:
        logits = curves(
            score,
            held_out,
            maps,
            {"logit": lambda output, example: output.gather(1, named[example][:, None])[:, 0]},
            background=torch.zeros_like(held_out),
            schedule=Schedule(points=1, share=0.1),
        )["logit"]
        return logits[:, 0] - logits[:, 1]

    generator = torch.Generator().manual_seed(0)
    by_chance = torch.stack([fall(torch.rand(64, 6, 6, generator=generator)) for _ in range(4)]).mean(dim=0)
    word = MatchRegionAttribution(score).attribute(held_out, target=named.tolist())[:, 1]  # between the marks
    every = GradECLIP(score, score.layers).attribute(held_out, target=named.tolist(), heads="model")
    last = GradECLIP(score, score.layers[-1]).attribute(held_out, target=named.tolist(), heads="model")
    for maps, least in ((word, 1.0), (every[:, 0], 1.0), (last[:, 0], 0.3)):
        found = fall(maps)
        assert varies(maps) and float(found.mean()) > least
        assert float((found - by_chance).mean()) > 3 * float((found - by_chance).std()) / 64**0.5  # three standard errors
