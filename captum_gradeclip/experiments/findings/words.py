"""Words: do those that say something about a picture outweigh those that are true of every picture?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from open_clip import CLIP

from ... import scenes
from ...attr import GradECLIP
from ...maps import Words, merge_words
from ...scenes import Phrase, Scene, SceneDataset, SceneItem
from ...scenes.captions import NUMBERS, RELATIONS
from ...scenes.vocabulary import grammar_words
from ...scores import TextImageScore
from .finding import Finding, HeldOut, batches, finding

_WHERE = frozenset(" ".join([*scenes.PLACES, *itertools.chain(*RELATIONS.values())]).split())
KINDS = {
    "colour": frozenset(scenes.COLOURS),
    "shape": frozenset(Phrase(shape=shape).words(plural) for shape in scenes.SHAPES for plural in (False, True)),
    "size": frozenset(scenes.SIZES),
    "material": frozenset(scenes.MATERIALS),
    "relation": _WHERE - {"to", "the", "of"},
    "number": frozenset(NUMBERS.values()),
}
"""The words of the grammar that say something about a scene, by kind. Those of relations also say where a thing lies."""
FUNCTION_WORDS = frozenset(grammar_words()).difference(*KINDS.values())
"""All other words of the grammar, which are true of every picture: "a", "of", "there", "picture", "thing" and so on."""
_ARTICLES = frozenset({"a", "an", "the", "of"})
_COLOURS_AND_SHAPES = KINDS["colour"] | frozenset(scenes.SHAPES)


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """The weights of words in captions of one thing and of several."""
    for counts, what in (((1,), "scenes of one thing"), ((2, 3, 4), "scenes of 2 to 4 things")):
        yield from words(model, held_out.of(*counts), what)
        yield from kinds(model, held_out.of(*counts), what)


def words(model: CLIP, data: SceneDataset, what: str, layers: int = 8) -> Iterator[Finding]:
    """How often the color and shape words of a caption outweigh "a", "an", "the" and "of", on average.

    In a caption without any positive word, they do not; the second figure is the share of such captions.

    Args:
        model: the model.
        data: the scenes.
        what: what kind of scenes they are, for the table.
        layers: how many of the last layers of the text tower are explained, at least 1 (default 8).
    """
    rng = np.random.default_rng(0)
    outweigh: list[bool] = []
    silent: list[bool] = []
    for items, pixels in batches(model, data, "words"):
        score = TextImageScore(model, pixels)
        method = GradECLIP(score, score.layers[-layers:])
        for caption in _weigh(method, _draw(items, (_COLOURS_AND_SHAPES, _ARTICLES), rng)):
            content = [weight for word, weight in caption if word in _COLOURS_AND_SHAPES]
            function = [weight for word, weight in caption if word in _ARTICLES]
            outweigh.append(float(np.mean(content)) > float(np.mean(function)))
            silent.append(not any(weight for _, weight in caption))
    yield from finding(f'colour and shape words outweigh "a", "an", "the", "of": {what}', outweigh)
    yield from finding(f"captions without any positive word: {what}", silent)


def kinds(model: CLIP, data: SceneDataset, what: str) -> Iterator[Finding]:
    """How often each word of a kind outweighs every function word of its caption, and what share of the weight is theirs.

    For each kind, and for color and shape together, a caption of each scene is drawn that has words of that kind and
    function words; scenes of which the grammar has none are left out. The share of function words is that in all of these.

    Args:
        model: the model.
        data: the scenes.
        what: what kind of scenes they are, for the table.
    """
    rng = np.random.default_rng(1)
    wanted = {kind: (kind,) for kind in KINDS} | {"colour and shape": ("colour", "shape")}
    above: dict[str, list[bool]] = {row: [] for row in wanted}
    shares: dict[str, list[float]] = {row: [] for row in wanted}
    function: list[float] = []
    for items, pixels in batches(model, data, "kinds of words"):
        method = GradECLIP.for_score(TextImageScore(model, pixels))
        for row, needed in wanted.items():
            sets = [KINDS[kind] for kind in needed]
            content = frozenset(itertools.chain(*sets))
            for caption in _weigh(method, _draw(items, (*sets, FUNCTION_WORDS), rng)):
                above[row].append(outweighs(caption, content))
                shares[row].append(share(caption, content))
                function.append(share(caption, FUNCTION_WORDS))
    for row in wanted:
        place = f"{row}, {what}"
        yield from finding(f"each {row} word outweighs every function word: {what}", above[row], (place, _ABOVE))
        yield from finding(f"share of the weight on {row} words: {what}", shares[row], (place, _SHARE))
    yield from finding(f"share of the weight on function words: {what}", function, (f"function words, {what}", _SHARE))


_ABOVE, _SHARE = "each outweighs every function word", "share of the weight"


def outweighs(caption: Words, content: frozenset[str], function: frozenset[str] = FUNCTION_WORDS) -> bool:
    """Whether each of some words of a caption weighs more than every function word of it.

    Args:
        caption: the words with their weights; at least one of both sorts.
        content: the words that should weigh more.
        function: the words that should weigh less (default :data:`FUNCTION_WORDS`).

    >>> outweighs([("a", 0.1), ("red", 0.3), ("ring", 0.2)], frozenset({"red", "ring"}))
    True
    """
    least = min(weight for word, weight in caption if word in content)
    return least > max(weight for word, weight in caption if word in function)


def share(caption: Words, some: frozenset[str]) -> float:
    """The share of the total weight of a caption that some words have, 0 to 1 for weights that are not negative.

    A caption without any weight gives none to them.

    >>> share([("a", 0.25), ("red", 0.5), ("ring", 0.25)], frozenset({"red"}))
    0.5
    """
    total = sum(weight for _, weight in caption)
    return sum(weight for word, weight in caption if word in some) / total if total > 0 else 0.0


def caption_with(scene: Scene, wanted: Sequence[frozenset[str]], rng: np.random.Generator, tries: int = 200) -> str | None:
    """Draws a true caption that has a word of each of some sets.

    Args:
        scene: the scene.
        wanted: the sets.
        rng: source of the random choices.
        tries: how many captions are drawn before there is taken to be none, at least 1 (default 200: where one caption in
            twenty fits, one scene in 28,000 is missed).

    Returns:
        The caption, or ``None`` if there is none.

    >>> scene = scenes.sample_scene(seed=0, index=0)
    >>> caption_with(scene, [frozenset({"octagon"})], np.random.default_rng(0)) is None
    True
    """
    for _ in range(tries):
        text = scenes.sample_caption(scene, rng).text
        spoken = frozenset(text.replace(",", "").split())
        if all(spoken & some for some in wanted):
            return text
    return None


def _draw(items: Sequence[SceneItem], wanted: Sequence[frozenset[str]], rng: np.random.Generator) -> list[tuple[int, str]]:
    """A caption of each scene that has one with these words, behind the number of the scene."""
    drawn = ((number, caption_with(item.scene, wanted, rng)) for number, item in enumerate(items))
    return [(number, text) for number, text in drawn if text is not None]


def _weigh(method: GradECLIP, captions: Sequence[tuple[int, str]]) -> Iterator[Words]:
    """The words of captions with their weights, each explained for the picture of its number."""
    if captions:
        tokenizer = scenes.tokenizer()
        tokens = tokenizer([text for _, text in captions])
        maps = method.attribute(tokens, target=[number for number, _ in captions])
        yield from merge_words(maps, tokens, tokenizer)
