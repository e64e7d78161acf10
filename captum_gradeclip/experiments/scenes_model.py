"""What the embedded model sees, and whether its maps point at what was asked for, on many scenes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from open_clip import CLIP
from rich.progress import track
from torch import Tensor

from .. import scenes
from ..attr import GradECLIP, RawAttention
from ..maps import merge_words
from ..metrics import Schedule, curves, pointing_game, target_score
from ..scenes import Caption, Phrase, SceneDataset, SceneItem
from ..scenes.world import Split
from ..scores import ImageTextScore, TextImageScore

BATCH = 64
FUNCTION_WORDS = frozenset({"a", "an", "the", "of"})
CONTENT_WORDS = frozenset({*scenes.COLOURS, *scenes.SHAPES})


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        what: what was measured.
        value: mean over all cases.
        cases: number of cases.
    """

    what: str
    value: float
    cases: int


def evaluate_scenes(model: CLIP, count: int = 500, split: Split = "evaluation", seed: int = 0) -> list[Finding]:
    """Measures everything that is claimed about the embedded model, on scenes that it has not been trained on.

    Args:
        model: the embedded model, or another one trained on scenes.
        count: number of scenes for each figure, at least 1 (default 500).
        split: ``"evaluation"`` (default) to report figures, ``"validation"`` to choose a recipe by them.
        seed: seed of the scenes (default 0).

    Returns:
        Zero-shot accuracy, recall, pointing game and deletion of several maps with their chance level, word importance.
    """
    single = SceneDataset(count, split, seed, counts=(1,))
    crowded = SceneDataset(count, split, seed, counts=(2, 3, 4))
    return [
        *zero_shot(model, single),
        *retrieval(model, crowded),
        *pointing(model, crowded),
        *words(model, single, "scenes of one thing"),
        *words(model, crowded, "scenes of 2 to 4 things"),
    ]


@torch.no_grad()
def zero_shot(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """How often the color and shape of the only thing are found, among all pairs of them."""
    pairs = list(itertools.product(scenes.COLOURS, scenes.SHAPES))
    score = ImageTextScore(model, [Phrase(*pair).words() for pair in pairs], scenes.tokenizer())
    hits = [
        pairs[int(best)] == (item.scene.things[0].colour, item.scene.things[0].shape)
        for items in _batches(data, "zero-shot")
        for item, best in zip(items, score(_pixels(items)).argmax(dim=1))
    ]
    yield Finding(f"zero-shot accuracy, {len(pairs)} colour and shape pairs", float(np.mean(hits)), len(hits))


@torch.no_grad()
def retrieval(model: CLIP, data: SceneDataset, among: int = 64) -> Iterator[Finding]:
    """How often a caption that names all things of a scene is true of the scene that it fits best, among 64 of them."""
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
        what = f"text-to-image recall@1 among {among} scenes (a scene it is true of)"
        yield Finding(what, float(np.mean(hits)), len(hits))


def pointing(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """The pointing game for prompts such as "red circle", and how far the cosine falls when pixels are deleted.

    For each of several maps: the share of prompts whose things hold the map's highest pixel, and the mean change of the
    cosine after the highest tenth of the pixels is painted in the mean color.
    """
    pairs = list(itertools.product(scenes.COLOURS, scenes.SHAPES))
    score = ImageTextScore(model, [Phrase(*pair).words() for pair in pairs], scenes.tokenizer())
    method = GradECLIP(score, score.layers[-1:])
    generator = torch.Generator().manual_seed(0)
    methods: dict[str, Callable[[Tensor, list[int]], Tensor]] = {
        "Grad-ECLIP": lambda x, t: method.attribute(x, target=t),
        "Grad-ECLIP, model's heads": lambda x, t: method.attribute(x, target=t, heads="model"),
        "Grad-ECLIP without spatial weight": lambda x, t: method.attribute(x, target=t, spatial_weight="none"),
        "raw attention": lambda x, t: RawAttention(score, score.layers[-1]).attribute(x),
        "random map": lambda x, t: torch.rand(len(x), 1, *score.grid(x), generator=generator),
    }
    hits: dict[str, list[bool]] = {name: [] for name in methods}
    changes: dict[str, list[float]] = {name: [] for name in methods}
    areas: list[float] = []
    for items in _batches(data, "pointing game"):
        images, targets, masks = _prompted(items, pairs)
        areas += masks.float().mean(dim=(1, 2)).tolist()
        pixels = masks[0].numel()
        for name, explain in methods.items():
            maps = explain(images, targets)
            hits[name] += pointing_game(maps, masks).tolist()
            cosines = curves(
                score,
                images,
                maps,
                {"cosine": target_score(torch.tensor(targets))},
                background=torch.zeros_like(images),
                schedule=Schedule(points=1, share=pixels // 10 / pixels),
            )["cosine"]
            changes[name] += (cosines[:, 1] - cosines[:, 0]).tolist()
    for name in methods:
        yield Finding(f"pointing game: {name}", float(np.mean(hits[name])), len(areas))
    yield Finding("pointing game: chance (mean area of the masks)", float(np.mean(areas)), len(areas))
    for name in methods:
        yield Finding(f"change of the cosine, top 10 % deleted: {name}", float(np.mean(changes[name])), len(areas))


def words(model: CLIP, data: SceneDataset, what: str, layers: int = 8) -> Iterator[Finding]:
    """How often the color and shape words of a caption outweigh "a", "an", "the" and "of", on average.

    In a caption without any positive word, they do not; the second figure is the share of such captions.

    Args:
        model: the embedded model.
        data: the scenes.
        what: what kind of scenes they are, for the table.
        layers: how many of the last layers of the text tower are explained, at least 1 (default 8).
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
    yield Finding(f'colour and shape words outweigh "a", "an", "the", "of": {what}', float(np.mean(outweigh)), len(outweigh))
    yield Finding(f"captions without any positive word: {what}", float(np.mean(silent)), len(silent))


def _prompted(items: Sequence[SceneItem], pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, list[int], Tensor]:
    """For each thing its picture, the index of its prompt, and the mask of all things that the prompt fits."""
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
