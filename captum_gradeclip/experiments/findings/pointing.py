"""Pointing: does a map lie on the things that a prompt asks for?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from open_clip import CLIP
from torch import Tensor

from ... import scenes
from ...attr import GradECLIP, RawAttention
from ...metrics import Schedule, curves, energy_pointing_game, pointing_game, target_score
from ...scenes import PAIRS, Caption, Phrase, Scene, SceneDataset, SceneItem, Thing
from ...scores import ImageTextScore
from .finding import BATCH, Finding, HeldOut, batches, finding, pair_score


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """The pointing game of several maps and by kind of prompt, deletion, and the maps of captions of two things."""
    yield from pointing(model, held_out.of(2, 3, 4))
    yield from prompts(model, held_out.of(2, 3, 4))
    yield from pairs(model, held_out.of(2))


def pointing(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """The pointing game for prompts such as "red circle", and how far the cosine falls when pixels are deleted.

    For each of several maps: the share of prompts whose things hold the map's highest pixel, and the mean change of the
    cosine after the highest tenth of the pixels is painted in the mean color.

    Args:
        model: the model.
        data: scenes of several things.
    """
    score = pair_score(model)
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
    for items, pixels in batches(model, data, "pointing game"):
        numbers, targets, masks = named(items)
        images = pixels[numbers]
        areas += masks.float().mean(dim=(1, 2)).tolist()
        total = masks[0].numel()
        for name, explain in methods.items():
            maps = explain(images, targets)
            hits[name] += pointing_game(maps, masks).tolist()
            cosines = curves(
                score,
                images,
                maps,
                {"cosine": target_score(torch.tensor(targets))},
                background=torch.zeros_like(images),
                schedule=Schedule(points=1, share=total // 10 / total),
            )["cosine"]
            changes[name] += (cosines[:, 1] - cosines[:, 0]).tolist()
    for name in methods:
        yield from finding(f"pointing game: {name}", hits[name])
    yield from finding("pointing game: chance (mean area of the masks)", areas)
    for name in methods:
        yield from finding(f"change of the cosine, top 10 % deleted: {name}", changes[name])


def prompts(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """The pointing game of Grad-ECLIP for each kind of prompt, beside chance.

    The mask is that of all things of the scene which the prompt fits, and chance is its mean area.

    Args:
        model: the model.
        data: scenes of several things.
    """
    hits: dict[str, list[bool]] = {}
    areas: dict[str, list[float]] = {}
    # A scene has some fifteen prompts, so fewer scenes make a batch of pictures.
    for items, pixels in batches(model, data, "kinds of prompt", BATCH // 4):
        asked = [
            (number, kind, caption.text, fitting_mask(item, caption))
            for number, item in enumerate(items)
            for kind, caption in _prompts_of(item.scene)
        ]
        texts = list(dict.fromkeys(text for _, _, text, _ in asked))
        score = ImageTextScore(model, texts, scenes.tokenizer())
        images, targets = pixels[[number for number, *_ in asked]], [texts.index(text) for _, _, text, _ in asked]
        masks = torch.stack([mask for *_, mask in asked])
        found = pointing_game(GradECLIP.for_score(score).attribute(images, target=targets), masks).tolist()
        for (_, kind, _, mask), hit in zip(asked, found):
            hits.setdefault(kind, []).append(hit)
            areas.setdefault(kind, []).append(float(mask.float().mean()))
    for kind in hits:
        yield from finding(f"pointing game, prompts {kind}", hits[kind], (kind, "pointing game"))
        yield from finding(f"chance, prompts {kind}", areas[kind], (kind, "chance (mean area of the masks)"))


def prompts_of(thing: Thing) -> dict[str, Caption]:
    """What can be asked for so that a thing is an answer, by kind of prompt.

    >>> ring = Thing("red", "ring", "striped", "small", x=0.2, y=0.5, radius=0.1, angle=0.0)
    >>> [caption.text for caption in prompts_of(ring).values()]
    ['a ring', 'something red', 'a red ring', 'a striped red ring', 'a small red ring']
    """
    pair = Phrase(thing.colour, thing.shape)
    asked = {
        "a SHAPE": Phrase(shape=thing.shape),
        "something COLOUR": Phrase(thing.colour),
        "a COLOUR SHAPE": pair,
        "a MATERIAL COLOUR SHAPE": Phrase(thing.colour, thing.shape, material=thing.material),
        "a SIZE COLOUR SHAPE": Phrase(thing.colour, thing.shape, size=thing.size),
    }
    return {
        kind: Caption(scenes.with_article(phrase.words()) if phrase.shape else f"something {phrase.colour}", (phrase,))
        for kind, phrase in asked.items()
    }


def fitting_mask(item: SceneItem, caption: Caption) -> Tensor:
    """The pixels ``(H, W)``, boolean, of all things that a caption is true of by themselves."""
    fits = scenes.truth([Scene((thing,), item.scene.texture) for thing in item.scene.things], [caption])[:, 0]
    return item.masks[torch.from_numpy(fits)].any(dim=0)


def pairs(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """Whether a caption of two things, "a red circle and a blue star", has a map that lies on both of them.

    Args:
        model: the model.
        data: scenes of two things; those whose things have one color and shape are left out.
    """
    balances: list[float] = []
    gains: list[float] = []
    for items, pixels in batches(model, data, "captions of two things"):
        captions = [_named_pairs(item.scene) for item in items]
        kept = [number for number, (one, other) in enumerate(captions) if one != other]
        if not kept:
            continue
        texts = [" and ".join(map(scenes.with_article, captions[number])) for number in kept]
        score = ImageTextScore(model, texts, scenes.tokenizer())
        maps = GradECLIP.for_score(score).attribute(pixels[kept], target=list(range(len(kept))))
        balance, gain = two_things(maps, torch.stack([items[number].masks for number in kept]))
        balances += balance.tolist()
        gains += gain.tolist()
    third = [balance >= 1 / 3 for balance in balances]
    for what, values in (
        ("energy on the weaker thing / energy on the stronger one", balances),
        ("the weaker thing has at least a third of the stronger one's energy", third),
        ("energy on both things / their share of the area", gains),
    ):
        yield from finding(f'captions "a COLOUR SHAPE and a COLOUR SHAPE": {what}', values)


def two_things(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """How evenly a map lies on two things, and how closely.

    Args:
        maps: ``(N, h, w)`` or ``(N, 1, h, w)``.
        masks: ``(N, 2, H, W)``, boolean; no pixel belongs to both things.

    Returns:
        ``(N,)``: the energy on the weaker thing divided by that on the stronger one, 0 to 1; and ``(N,)``: the energy on
        both, divided by their share of the area. A thing's energy is the share of the map's sum that lies on it, see
        :func:`captum_gradeclip.metrics.energy_pointing_game`; both are 0 where no energy lies on either.

    >>> masks = torch.tensor([[[[1, 0, 0, 0]], [[0, 1, 0, 0]]]]).bool()
    >>> two_things(torch.tensor([[[1.0, 2.0, 1.0, 0.0]]]), masks)
    (tensor([0.5000]), tensor([1.5000]))
    """
    energy = torch.stack([energy_pointing_game(maps, masks[:, thing]) for thing in (0, 1)])
    weaker, stronger = energy.sort(dim=0).values
    balance = torch.where(stronger > 0, weaker / stronger.where(stronger > 0, 1.0), 0.0)
    return balance, energy.sum(dim=0) / masks.any(dim=1).float().mean(dim=(1, 2))


def named(items: Sequence[SceneItem]) -> tuple[list[int], list[int], Tensor]:
    """For each pair of color and shape of each scene, once: the number of the scene, the pair's, the mask of all it fits."""
    found = [(number, pair, item) for number, item in enumerate(items) for pair in pairs_of(item)]
    masks = [fitting_mask(item, Caption("", (Phrase(*PAIRS[pair]),))) for _, pair, item in found]
    return [number for number, _, _ in found], [pair for _, pair, _ in found], torch.stack(masks)


def pairs_of(item: SceneItem) -> list[int]:
    """The numbers of the pairs of color and shape that a scene shows, each once."""
    return list(dict.fromkeys(thing.pair for thing in item.scene.things))


def _prompts_of(scene: Scene) -> list[tuple[str, Caption]]:
    """The prompts of all things of a scene behind their kinds, each once."""
    return list(dict.fromkeys(one for thing in scene.things for one in prompts_of(thing).items()))


def _named_pairs(scene: Scene) -> Sequence[str]:
    return [Phrase(thing.colour, thing.shape).words() for thing in scene.things]
