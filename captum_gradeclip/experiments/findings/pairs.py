"""Pairs: does each word of a caption point at its own thing, also where the word stands twice?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ... import adapters, scenes
from ...adapters.base import Foreign
from ...attention import CaptureInput
from ...attr import GradECLIP, WordRegionAttribution
from ...metrics import Schedule, curves, margin, pointing_game
from ...scenes import Phrase, SceneDataset, SceneItem, Thing
from ...scores import ImageTextScore, encode_text
from ...scores.targets import tangents
from .finding import Chosen, Finding, HeldOut, batches, finding

WORDS = (2, 3, 6, 7)
"""Places of the colors and shapes among the tokens of "a COLOR SHAPE and a COLOR SHAPE", behind the start mark."""
Contender = Callable[[Tensor, Sequence[SceneItem]], Tensor]
"""Inputs ``(N, 3, H, W)`` with their scenes to a map for each of the four words, ``(N, 4, h, w)``."""


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """Captions of two things that share neither color nor shape, and of two things that share one of them."""
    arguments = held_out.count, held_out.split, held_out.seed, held_out.size
    yield from pairs(model, Chosen(*arguments, lambda a, b: a.shape != b.shape and a.colour != b.colour))
    for shared in ("shape", "color"):
        yield from pairs(model, Chosen(*arguments, _sharing(shared)), shared)


def _sharing(shared: str) -> Callable[[Thing, Thing], bool]:
    return lambda a, b: (a.shape == b.shape, a.colour == b.colour) == (shared == "shape", shared == "color")


def pairs(model: CLIP, data: SceneDataset, shared: str = "") -> Iterator[Finding]:
    """How often the map of a word has its highest pixel on the word's thing, and how much of their common effect it finds.

    The common effect of a word and a region is what the region adds to the cosine with the whole caption, beyond what it
    adds to that without the word. Of each map the highest tenth of the pixels is painted in the mean color, and the fall of
    ``cosine(caption) - cosine(caption without the word)`` is measured: a second difference of the model's own score. For the
    map of the word alone, of the phrase and of the caption, Grad-ECLIP explains a prompt.

    Args:
        model: the model.
        data: scenes of two things.
        shared: ``"shape"`` or ``"color"`` if both things have the same one, so that its word stands twice in the caption,
            and only this word counts; empty (default) if all words differ.
    """
    chosen = {"": (0, 1, 2, 3), "color": (0, 2), "shape": (1, 3)}[shared]
    kinds = ("color", "shape", "color", "shape")
    hits: dict[tuple[str, str], list[bool]] = {}
    falls: dict[tuple[str, str], list[float]] = {}
    for items, pixels in batches(model, data, "pairs of words and regions"):
        captions = [caption(item.scene.things) for item in items]
        fewer = [caption(item.scene.things, without=number) for item in items for number in range(4)]
        score = ImageTextScore(model, [*captions, *fewer], scenes.tokenizer())
        for name, explain in contenders(model).items():
            maps = explain(pixels, items)
            for number in chosen:
                masks = torch.stack([item.masks[number // 2] for item in items])
                target = torch.arange(len(items))
                rivals = torch.zeros(len(items), 5 * len(items), dtype=torch.bool)
                rivals[target, len(items) + 4 * target + number] = True
                key = name, kinds[number] + (" that stands twice" if shared else "")
                hits.setdefault(key, []).extend(pointing_game(maps[:, number], masks).tolist())
                margins = curves(
                    score,
                    pixels,
                    maps[:, number],
                    {"margin": margin(target, rivals)},
                    background=torch.zeros_like(pixels),
                    schedule=Schedule(points=1, share=0.1),
                )["margin"]
                falls.setdefault(key, []).extend((margins[:, 0] - margins[:, 1]).tolist())
    for name, kind in hits:
        yield from finding(f"pair pointing, {kind}: {name}", hits[name, kind], (name, f"pointing, {kind}"))
        yield from finding(f"pair deletion, {kind}: {name}", falls[name, kind], (name, f"deletion, {kind}"))


def caption(things: Sequence[Thing], without: int | None = None) -> str:
    """The caption "a COLOR SHAPE and a COLOR SHAPE" of two things.

    Args:
        things: two things.
        without: which of the four colors and shapes is left out, 0 to 3; ``None`` (default) for none of them.

    >>> ring = Thing("red", "ring", "plain", "small", x=0.2, y=0.5, radius=0.1, angle=0.0)
    >>> star = Thing("orange", "star", "plain", "small", x=0.8, y=0.5, radius=0.1, angle=0.0)
    >>> caption([ring, star]), caption([ring, star], without=2)
    ('a red ring and an orange star', 'a red ring and an star')
    """
    phrases = [scenes.with_article(Phrase(thing.colour, thing.shape).words()).split() for thing in things]
    words = [*phrases[0], "and", *phrases[1]]
    return " ".join(word for place, word in enumerate(words, start=1) if without is None or place != WORDS[without])


def contenders(model: CLIP) -> dict[str, Contender]:
    """The maps that are compared, by name."""
    method, tokenizer = WordRegionAttribution(model), scenes.tokenizer()

    def tokens(items: Sequence[SceneItem]) -> Tensor:
        ids: Tensor = tokenizer([caption(item.scene.things) for item in items])
        return ids

    def prompts(items: Sequence[SceneItem], prompt: Callable[[Thing, int], str]) -> Tensor:
        """Unit features ``(N, 4, D)`` of a prompt for each word, made of its thing and of 0 for a color, 1 for a shape."""
        asked = [prompt(item.scene.things[number // 2], number % 2) for item in items for number in range(4)]
        features: Tensor = encode_text(model, tokenizer(asked)).unflatten(0, (len(items), 4))
        return features

    def grad_eclip(pixels: Tensor, features: Tensor) -> Tensor:
        count = len(pixels)
        score = ImageTextScore(model, features.flatten(0, 1))
        return GradECLIP.for_score(score).attribute_targets(pixels, torch.arange(4 * count).view(count, 4))

    def phrase(thing: Thing, _: int) -> str:
        return Phrase(thing.colour, thing.shape).words()

    def pairs_of(pixels: Tensor, items: Sequence[SceneItem], **options: Foreign) -> Tensor:
        return method.attribute(pixels, tokens(items), **options)[:, list(WORDS)]

    def whole(pixels: Tensor, items: Sequence[SceneItem]) -> Tensor:
        return grad_eclip(pixels, encode_text(model, tokens(items))[:, None].expand(-1, 4, -1))

    def random(pixels: Tensor, _: Sequence[SceneItem]) -> Tensor:
        return torch.rand(len(pixels), 4, *adapters.image_tower(model).grid(pixels.shape[-2:]), generator=generator)

    generator = torch.Generator().manual_seed(0)
    return {
        "the caption's map": whole,
        "the word alone": lambda x, items: grad_eclip(x, prompts(items, lambda thing, kind: phrase(thing, 0).split()[kind])),
        "its phrase alone": lambda x, items: grad_eclip(x, prompts(items, phrase)),
        "its phrase alone, both weights": lambda x, items: method.regions(x, prompts(items, phrase)),
        "integrated Jacobians": lambda x, items: integrated_jacobians(model, x, tokens(items), WORDS),
        "WordRegionAttribution, neighbors=0": lambda x, items: pairs_of(x, items, neighbors=0),
        "WordRegionAttribution": pairs_of,
        "random map": random,
    }


def integrated_jacobians(model: CLIP, images: Tensor, tokens: Tensor, words: Sequence[int], steps: int = 16) -> Tensor:
    r"""Second-order attributions: the Jacobians of both towers, each integrated on the way from a reference to the input.

    .. math:: M_{ip} = \Big\langle \int_0^1 J_g \, (y_i - y^0_i) \, d\alpha, \;
        \int_0^1 J_f \, (x_p - x^0_p) \, d\alpha \Big\rangle

    at the words' embeddings :math:`y` and at the patches :math:`x` in front of the last block of images, whose references
    are a text of padding between the marks and a picture of the mean color. The features are not normalized on the way, and
    the terms of the references are left out, which belong to no pair.

    Args:
        model: a CLIP model of open_clip with plain towers.
        images: ``(N, 3, H, W)``.
        tokens: their captions ``(N, L)``.
        words: places of W words among the tokens, the same in each caption.
        steps: number of points of the midpoint rule, at least 1 (default 16).

    Returns:
        ``(N, W, h, w)``, signed.

    Source: Moeller, Nikolaev, Padó: "Explaining Caption-Image Interactions in CLIP Models with Second-Order Attributions",
    TMLR 2025.
    """
    visual, end, every, chosen = model.visual, tokens.argmax(dim=-1), torch.arange(len(tokens)), list(words)
    places = torch.arange(tokens.shape[1])
    inside = (places > 0) & (places < end[:, None])

    def read(x: Tensor) -> Tensor:
        """Embeddings of texts to features."""
        states = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        features: Tensor = states[every, end] @ model.text_projection
        return features

    def look(x: Tensor) -> Tensor:
        """Tokens in front of the last block of images to features."""
        features: Tensor = visual.ln_post(visual.transformer.resblocks[-1](x))[:, 0] @ visual.proj
        return features

    with torch.no_grad():
        text, blank = (model.token_embedding(one) + model.positional_embedding for one in (tokens, tokens.where(~inside, 0)))
        picture, plain = (_before_the_last_block(model, x) for x in (images, torch.zeros_like(images)))
    change = text - blank
    apart = torch.stack([change * (places == place)[:, None] for place in chosen])  # (W, N, L, C)
    directions = text.new_zeros(len(chosen), len(tokens), model.text_projection.shape[1])
    found = picture.new_zeros(len(chosen), *picture.shape[:2])
    with sdpa_kernel(SDPBackend.MATH):
        for share in _midpoints(steps):
            x = (blank + share * change).requires_grad_()
            directions += tangents(read(x), [x], [apart]) / steps
        for share in _midpoints(steps):
            x = (plain + share * (picture - plain)).requires_grad_()
            (gradient,) = torch.autograd.grad(look(x), x, directions, is_grads_batched=True)
            found += (gradient * (picture - plain)).sum(dim=-1) / steps
    maps: Tensor = found.transpose(0, 1)[..., 1:].unflatten(-1, adapters.image_tower(model).grid(images.shape[-2:]))
    return maps


def _midpoints(steps: int) -> list[float]:
    return [(number + 0.5) / steps for number in range(steps)]


def _before_the_last_block(model: CLIP, images: Tensor) -> Tensor:
    """Tokens ``(N, tokens, C)`` that the last block of images is given."""
    entry = CaptureInput(model.visual.transformer.resblocks[-1])
    with entry:
        model.encode_image(images)
    return entry.tensor.detach()
