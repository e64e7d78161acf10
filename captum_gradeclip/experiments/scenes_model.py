"""Runs over many scenes that fill the tables: does the embedded model see, and do its maps point at what was asked?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip import CLIP
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from .. import scenes
from ..attr import GradECLIP, RawAttention
from ..maps import merge_words
from ..scenes import Caption, Phrase, SceneDataset, SceneItem
from ..scenes.world import Split
from ..scores import ImageTextScore, TextImageScore

BATCH = 64
FUNCTION_WORDS = frozenset({"a", "an", "the", "of"})
CONTENT_WORDS = frozenset({*scenes.COLOURS, *scenes.SHAPES})


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure with the number of cases that it is the mean of."""

    what: str
    value: float
    cases: int


def evaluate_scenes(model: CLIP, count: int = 500, split: Split = "evaluation", seed: int = 0) -> list[Row]:
    """Everything that is claimed of the embedded model, on scenes that it has not seen.

    Args:
        model: the embedded model, or another one trained on scenes.
        count: number of scenes for each figure.
        split: ``"validation"`` to choose a recipe, ``"evaluation"`` to report.
        seed: of the scenes.

    Returns:
        Zero-shot accuracy, recall, pointing game and deletion of several maps with their chance level, word importance.
    """
    single = SceneDataset(count, split, seed, counts=(1,))
    crowded = SceneDataset(count, split, seed, counts=(2, 3, 4))
    return [
        *zero_shot(model, single),
        *recall(model, crowded),
        *pointing(model, crowded),
        *words(model, single, "scenes of one thing"),
        *words(model, crowded, "scenes of 2 to 4 things"),
    ]


@torch.no_grad()
def zero_shot(model: CLIP, data: SceneDataset) -> Iterator[Row]:
    """Colour and shape of the only thing, among all pairs."""
    pairs = list(itertools.product(scenes.COLOURS, scenes.SHAPES))
    score = ImageTextScore(model, [Phrase(*pair).words() for pair in pairs], scenes.tokenizer())
    hits = [
        pairs[int(best)] == (item.scene.things[0].colour, item.scene.things[0].shape)
        for items in _batches(data, "zero-shot")
        for item, best in zip(items, score(_pixels(items)).argmax(dim=1))
    ]
    yield Row(f"zero-shot accuracy, {len(pairs)} colour and shape pairs", float(np.mean(hits)), len(hits))


@torch.no_grad()
def recall(model: CLIP, data: SceneDataset, among: int = 64) -> Iterator[Row]:
    """Whether the best of 64 scenes for a caption that names all its things is one of which the caption is true."""
    hits: list[bool] = []
    for items in _batches(data, "recall", among):
        captions = [_full_caption(item.scene) for item in items]
        if len(items) < among:
            break  # fewer to choose from would be another task
        score = ImageTextScore(model, [caption.text for caption in captions], scenes.tokenizer())
        true = scenes.truth([item.scene for item in items], captions)
        best = score(_pixels(items)).argmax(dim=0).tolist()
        hits += [bool(true[picture, number]) for number, picture in enumerate(best)]
    if hits:
        yield Row(f"text-to-image recall@1 among {among} scenes (a scene it is true of)", float(np.mean(hits)), len(hits))


def pointing(model: CLIP, data: SceneDataset) -> Iterator[Row]:
    """Pointing game: is the map's highest pixel on a thing that the "colour shape" prompt names?

    Beside it deletion: how much of the cosine is left after the highest tenth of the pixels is painted grey.
    """
    pairs = list(itertools.product(scenes.COLOURS, scenes.SHAPES))
    score = ImageTextScore(model, [Phrase(*pair).words() for pair in pairs], scenes.tokenizer())
    method = GradECLIP(score, score.layers[-1:])

    generator = torch.Generator().manual_seed(0)

    def random(images: Tensor, target: list[int]) -> Tensor:
        return torch.rand(len(images), 1, 8, 8, generator=generator)

    methods: dict[str, Callable[[Tensor, list[int]], Tensor]] = {
        "Grad-ECLIP": lambda x, t: method.attribute(x, target=t),
        "Grad-ECLIP, model's heads": lambda x, t: method.attribute(x, target=t, heads="model"),
        "Grad-ECLIP without spatial weight": lambda x, t: method.attribute(x, target=t, spatial_weight="none"),
        "raw attention": lambda x, t: RawAttention(score, score.layers[-1]).attribute(x),
        "random map": random,
    }
    hits: dict[str, list[bool]] = {name: [] for name in methods}
    kept: dict[str, list[float]] = {name: [] for name in methods}
    areas: list[float] = []
    for items in _batches(data, "pointing game"):
        images, targets, masks = _questions(items, pairs)
        areas += masks.float().mean(dim=(1, 2)).tolist()
        with torch.no_grad():
            before = score(images).gather(1, torch.tensor(targets)[:, None])[:, 0]
        for name, explain in methods.items():
            maps = F.interpolate(explain(images, targets), size=images.shape[-2:], mode="bilinear", align_corners=False)
            flat = maps.flatten(1)
            hits[name] += masks.flatten(1).gather(1, flat.argmax(dim=1, keepdim=True))[:, 0].tolist()
            order = flat.argsort(dim=1, descending=True)[:, : flat.shape[1] // 10]
            erased = images.flatten(2).scatter(2, order[:, None].expand(-1, 3, -1), 0.0).view_as(images)
            with torch.no_grad():
                after = score(erased).gather(1, torch.tensor(targets)[:, None])[:, 0]
            kept[name] += (after - before).tolist()
    for name in methods:
        yield Row(f"pointing game: {name}", float(np.mean(hits[name])), len(areas))
    yield Row("pointing game: chance (mean area of the masks)", float(np.mean(areas)), len(areas))
    for name in methods:
        yield Row(f"change of the cosine, top 10 % deleted: {name}", float(np.mean(kept[name])), len(areas))


def words(model: CLIP, data: SceneDataset, what: str, layers: int = 8) -> Iterator[Row]:
    """Share of captions whose colour and shape words outweigh "a", "an", "the" and "of" (mean against mean).

    A caption none of whose words has positive evidence outweighs nothing; the share of these is told beside it.
    """
    rng = np.random.default_rng(0)
    tokenizer = scenes.tokenizer()
    outweigh: list[bool] = []
    silent: list[bool] = []
    for items in _batches(data, "words"):
        captions = [_mixed_caption(item, rng) for item in items]
        tokens = tokenizer(captions)
        score = TextImageScore(model, _pixels(items))
        method = GradECLIP(score, score.layers[-layers:])
        maps = method.attribute(tokens, target=list(range(len(items))))
        for caption in merge_words(maps, tokens, tokenizer):
            content = [weight for word, weight in caption if word in CONTENT_WORDS]
            function = [weight for word, weight in caption if word in FUNCTION_WORDS]
            outweigh.append(float(np.mean(content)) > float(np.mean(function)))
            silent.append(not any(weight for _, weight in caption))
    yield Row(f'colour and shape words outweigh "a", "an", "the", "of": {what}', float(np.mean(outweigh)), len(outweigh))
    yield Row(f"captions without any positive word: {what}", float(np.mean(silent)), len(silent))


def _questions(items: Sequence[SceneItem], pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, list[int], Tensor]:
    """One question per thing: its picture, the index of its prompt, and the mask of all things that fit the prompt."""
    pixels = _pixels(items)
    images, targets, masks = [], [], []
    for number, item in enumerate(items):
        kinds = [(thing.colour, thing.shape) for thing in item.scene.things]
        for kind in dict.fromkeys(kinds):
            images.append(pixels[number])
            targets.append(pairs.index(kind))
            masks.append(item.masks[[other == kind for other in kinds]].any(dim=0))
    return torch.stack(images), targets, torch.stack(masks)


def _full_caption(scene: scenes.Scene) -> Caption:
    phrases = tuple(dict.fromkeys(Phrase(thing.colour, thing.shape) for thing in scene.things))[:3]
    return Caption(" and ".join(scenes.with_article(phrase.words()) for phrase in phrases), phrases)


def _mixed_caption(item: SceneItem, rng: np.random.Generator) -> str:
    """A true caption that has colour or shape words as well as function words."""
    while True:
        text = scenes.sample_caption(item.scene, rng).text
        spoken = set(text.replace(",", "").split())
        if spoken & CONTENT_WORDS and spoken & FUNCTION_WORDS:
            return text


def _batches(data: SceneDataset, what: str, size: int = BATCH) -> Iterator[list[SceneItem]]:
    for start in track(range(0, len(data), size), what, transient=True):
        yield [data[index] for index in range(start, min(start + size, len(data)))]


def _pixels(items: Sequence[SceneItem]) -> Tensor:
    transform = scenes.preprocess()
    return torch.stack([transform(item.image) for item in items])
