"""Contenders: the maps that compete to say which region each word of a caption means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn import functional as F

from ... import adapters, scenes
from ...adapters.base import Foreign
from ...attr import GradECLIP, WordRegionAttribution
from ...scenes import Phrase, Thing
from ...scores import ImageTextScore, encode_text
from .banzhaf import banzhaf
from .captions import WORDS, PairBatch
from .integrated_jacobians import integrated_jacobians

Contender = Callable[[PairBatch], Tensor]
"""Scenes with a caption each to a map for each of the four words, ``(N, 4, h, w)``."""


@dataclass(frozen=True)
class Growing:
    """A contender that gets better the more it may ask the model.

    Attributes:
        name: its name, with ``{}`` in the place of the budget.
        make: the contender with a budget.
        first: the smallest budget that is tried.
        most: the largest one.
    """

    name: str
    make: Callable[[int], Contender]
    first: int
    most: int

    def budgets(self) -> Iterator[int]:
        """The budgets from the smallest to the largest, each twice the one before."""
        budget = self.first
        while budget <= self.most:
            yield budget
            budget *= 2


def contenders(model: CLIP) -> dict[str, Contender]:
    """The maps with nothing to choose, by name; the last two know the truth, and nothing.

    Args:
        model: the model.
    """
    method, tokenizer = WordRegionAttribution(model), scenes.tokenizer()

    def prompts(batch: PairBatch, prompt: Callable[[Thing, int], str]) -> Tensor:
        """Unit features ``(N, 4, D)`` of a prompt for each word, made of its thing and of 0 for a color, 1 for a shape."""
        asked = [prompt(item.scene.things[number // 2], number % 2) for item in batch.items for number in range(4)]
        features: Tensor = encode_text(model, tokenizer(asked)).unflatten(0, (len(batch), 4))
        return features

    def grad_eclip(batch: PairBatch, features: Tensor) -> Tensor:
        count, (asked, width) = len(batch), features.shape[1:]
        score = ImageTextScore(model, features.reshape(-1, width))
        return GradECLIP.for_score(score).attribute_targets(batch.pixels, torch.arange(asked * count).view(count, asked))

    def word(thing: Thing, kind: int) -> str:
        return phrase(thing, kind).split()[kind]

    def phrase(thing: Thing, _: int) -> str:
        return Phrase(thing.colour, thing.shape).words()

    def pairs(**options: Foreign) -> Contender:
        return lambda batch: method.attribute(batch.pixels, batch.tokens, **options)[:, list(WORDS)]

    def random(batch: PairBatch) -> Tensor:
        return torch.rand(len(batch), 4, *adapters.image_tower(model).grid(batch.pixels.shape[-2:]), generator=generator)

    def oracle(batch: PairBatch) -> Tensor:
        masks = torch.stack([batch.masks(number) for number in range(4)], dim=1)
        return F.adaptive_avg_pool2d(masks.float(), adapters.image_tower(model).grid(batch.pixels.shape[-2:]))

    generator = torch.Generator().manual_seed(0)
    return {
        "the caption's map": lambda one: grad_eclip(one, encode_text(model, one.tokens)[:, None]).expand(-1, 4, -1, -1),
        "the word alone": lambda one: grad_eclip(one, prompts(one, word)),
        "its phrase alone": lambda one: grad_eclip(one, prompts(one, phrase)),
        "its phrase alone, both weights": lambda one: method.regions(one.pixels, prompts(one, phrase)),
        "WordRegionAttribution, neighbors=0": pairs(neighbors=0),
        "WordRegionAttribution": pairs(),
        "random map": random,
        "oracle": oracle,
    }


def growing(model: CLIP, coalitions: int = 0) -> list[Growing]:
    """The baselines with a budget: integrated Jacobians, and Banzhaf interactions where they are asked for.

    Args:
        model: the model.
        coalitions: largest number of coalitions of a scene; below 64 (default 0) there is no game.
    """
    tower, tokenizer = adapters.image_tower(model), scenes.tokenizer()

    def jacobians(steps: int) -> Contender:
        return lambda batch: integrated_jacobians(model, batch.pixels, batch.tokens, WORDS, steps)

    def game(budget: int) -> Contender:
        def explain(batch: PairBatch) -> Tensor:
            # Bit w of the place of a choice says whether word w stands in the caption.
            choices = [{word for word in range(4) if not choice >> word & 1} for choice in range(2**4)]
            texts = [one for without in choices for one in batch.captions(without)]
            features = encode_text(model, tokenizer(texts)).unflatten(0, (len(choices), len(batch))).transpose(0, 1)
            grid = tower.grid(batch.pixels.shape[-2:])
            with torch.no_grad():
                return banzhaf(
                    lambda images: F.normalize(tower.encode(images), dim=-1),
                    batch.pixels,
                    features,
                    grid,
                    budget,
                    seed=batch.first,
                )

        return explain

    return [
        Growing("integrated Jacobians, {} steps", jacobians, 4, 64),
        Growing("Banzhaf interactions, {} coalitions", game, 64, coalitions),
    ]
