"""Captions: what a grammar can say of a scene, with the meaning that decides whether it is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .world import COLOURS, MATERIALS, PLACES, SHAPES, SIZES, Scene, Thing

RELATIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
_PLACES = {
    "left": ("on the left", "at the left"),
    "right": ("on the right", "at the right"),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}
_VALUES = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "material": MATERIALS,
    "size": tuple(SIZES),
}


@dataclass(frozen=True)
class Phrase:
    """A description of things by some of their attributes.

    Attributes:
        colour: a key of :data:`COLOURS`, or ``None`` (the default) for any; likewise for the others.
        shape: one of :data:`SHAPES`, or ``None``.
        material: one of :data:`MATERIALS`, or ``None``.
        size: a key of :data:`SIZES`, or ``None``.
        place: one of :data:`PLACES`, or ``None``.

    >>> Phrase(colour="red", shape="ring").words(), Phrase(material="striped", place="left").words()
    ('red ring', 'striped thing')
    """

    colour: str | None = None
    shape: str | None = None
    material: str | None = None
    size: str | None = None
    place: str | None = None

    def words(self, plural: bool = False) -> str:
        """The words of the description: the attributes in the order of the grammar, then the noun. The place is left out.

        Args:
            plural: whether the noun is plural (default ``False``).

        >>> Phrase(colour="red", shape="cross", size="small").words(plural=True)
        'small red crosses'
        """
        noun = self.shape or "thing"
        noun += ("es" if noun.endswith("s") else "s") if plural else ""
        return " ".join(word for word in (self.size, self.material, self.colour, noun) if word)


@dataclass(frozen=True)
class Caption:
    """A text together with its meaning. It is true of a scene if all that its attributes state holds.

    Attributes:
        text: the text.
        phrases: descriptions, each of which fits at least one thing of the scene.
        relation: a key of :data:`RELATIONS` that holds between some thing of the first phrase and some thing of the second,
            or ``None`` (the default).
        count: the exact number of things that the first phrase fits, or ``None`` (the default).

    >>> from captum_gradeclip.scenes import Caption, Phrase, Scene, Thing, holds
    >>> star = Thing("blue", "star", "plain", "small", x=0.8, y=0.5, radius=0.1, angle=0.0)
    >>> ring = Thing("red", "ring", "plain", "small", x=0.2, y=0.5, radius=0.1, angle=0.0)
    >>> scene = Scene((star, ring), texture=0)
    >>> holds(Caption("a ring left of a star", (Phrase(shape="ring"), Phrase(shape="star")), "left of"), scene)
    True
    >>> holds(Caption("two stars", (Phrase(shape="star"),), count=2), scene)
    False
    """

    text: str
    phrases: tuple[Phrase, ...]
    relation: str | None = None
    count: int | None = None


def holds(caption: Caption, scene: Scene) -> bool:
    """Tells whether a caption is true of a scene.

    Args:
        caption: a caption, of this or of another scene.
        scene: a scene.

    Returns:
        Whether each thing and relation that the caption names is there.

    >>> from captum_gradeclip import scenes
    >>> scene = scenes.sample_scene(seed=0, index=0, split="evaluation", counts=(1,))
    >>> holds(name(scene.things[0]), scene)
    True
    """
    return bool(truth([scene], [caption])[0, 0])


def truth(scenes: Sequence[Scene], captions: Sequence[Caption]) -> npt.NDArray[np.bool_]:
    """Tells which captions are true of which scenes, all at once, since training asks for a whole batch.

    Args:
        scenes: at least one scene.
        captions: captions, of these or of other scenes.

    Returns:
        ``(scenes, captions)``, boolean.

    >>> from captum_gradeclip.scenes import sample_scene
    >>> pictures = [sample_scene(seed=0, index=index, counts=(1,)) for index in range(3)]
    >>> captions = [name(scene.things[0]) for scene in pictures]
    >>> truth(pictures, captions).shape, truth(pictures, captions).diagonal().tolist()
    ((3, 3), [True, True, True])
    """
    most = max(len(scene.things) for scene in scenes)
    present = np.zeros((len(scenes), most), dtype=bool)
    where = np.zeros((len(scenes), most, 2), dtype=np.float32)
    attributes = np.zeros((len(scenes), most, len(_VALUES)), dtype=np.int8)
    places = np.zeros((len(scenes), most, len(PLACES)), dtype=bool)
    for row, scene in enumerate(scenes):
        for column, thing in enumerate(scene.things):
            present[row, column] = True
            where[row, column] = thing.x, thing.y
            attributes[row, column] = [values.index(getattr(thing, name)) for name, values in _VALUES.items()]
            places[row, column] = [place in thing.places for place in PLACES]

    def fitting(phrase: Phrase) -> npt.NDArray[np.bool_]:
        fits = present.copy()
        for axis, (name, values) in enumerate(_VALUES.items()):
            if (value := getattr(phrase, name)) is not None:
                fits &= attributes[..., axis] == values.index(value)
        if phrase.place is not None:
            fits &= places[..., PLACES.index(phrase.place)]
        return fits

    cache = {phrase: fitting(phrase) for phrase in {phrase for caption in captions for phrase in caption.phrases}}
    result = np.ones((len(scenes), len(captions)), dtype=bool)
    for column, caption in enumerate(captions):
        fits = [cache[phrase] for phrase in caption.phrases]
        for fit in fits:
            result[:, column] &= fit.any(axis=1)
        if caption.count is not None:
            result[:, column] &= fits[0].sum(axis=1) == caption.count
        if caption.relation is not None:
            pairs = fits[0][:, :, None] & fits[1][:, None, :] & _related(where, caption.relation)
            result[:, column] &= pairs.any(axis=(1, 2))
    return result


def _related(where: npt.NDArray[np.float32], relation: str) -> npt.NDArray[np.bool_]:
    """Whether thing ``i`` stands in ``relation`` to thing ``j``, ``(scenes, i, j)``; a difference of at most 0.1 is none."""
    axis, sign = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}[relation]
    ahead = where[:, None, :, axis] - where[:, :, None, axis]
    result: npt.NDArray[np.bool_] = sign * ahead > 0.1
    return result


def sample_caption(scene: Scene, rng: np.random.Generator, name_colour: float = 0.85) -> Caption:
    """Draws a random caption that is true of a scene.

    Args:
        scene: a scene of at least one thing.
        rng: source of the random choices.
        name_colour: share of the descriptions that name the color, 0 to 1 (default 0.85, as for the shape).

    Returns:
        The caption, with its meaning.

    >>> from captum_gradeclip.scenes import sample_scene
    >>> scene = sample_scene(seed=0, index=0)
    >>> captions = [sample_caption(scene, np.random.default_rng(seed)) for seed in range(50)]
    >>> all(holds(caption, scene) for caption in captions)
    True
    """
    things = [scene.things[i] for i in rng.permutation(len(scene.things))]
    makers = [_one, _one, _one, _something, _placed, _counted]
    if len(things) > 1:
        makers += [_several, _several, _related_pair, _related_pair]
    return makers[int(rng.integers(len(makers)))](things, rng, name_colour)


def name(thing: Thing) -> Caption:
    """The caption "COLOR SHAPE" of a thing, as zero-shot classification and the pointing game use it.

    Args:
        thing: a thing of a scene.

    Returns:
        The caption, without an article.

    >>> from captum_gradeclip import scenes
    >>> thing = scenes.sample_scene(seed=0, index=0, split="evaluation", counts=(1,)).things[0]
    >>> name(thing).text == f"{thing.colour} {thing.shape}"
    True
    """
    phrase = Phrase(colour=thing.colour, shape=thing.shape)
    return Caption(phrase.words(), (phrase,))


def _describe(thing: Thing, rng: np.random.Generator, name_colour: float) -> Phrase:
    """Describes a thing by some of its attributes; color and shape are named more often than the others."""
    return Phrase(
        colour=thing.colour if rng.random() < name_colour else None,
        shape=thing.shape if rng.random() < 0.85 else None,
        material=thing.material if rng.random() < 0.25 else None,
        size=thing.size if rng.random() < 0.25 else None,
    )


def with_article(words: str) -> str:
    """Puts "a" or "an" before words.

    Args:
        words: at least one word.

    Returns:
        The article and the words.

    >>> with_article("orange ring")
    'an orange ring'
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _article(phrase: Phrase, rng: np.random.Generator) -> str:
    words = phrase.words()
    # The article is drawn without regard to the scene, so that it tells nothing about it.
    return str(rng.choice((with_article(words), with_article(words), f"the {words}", words)))


def _one(things: Sequence[Thing], rng: np.random.Generator, name_colour: float) -> Caption:
    phrase = _describe(things[0], rng, name_colour)
    prefix = ("", "a photo of ", "a picture of ", "there is ")[int(rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))]
    text = phrase.words() if not prefix and rng.random() < 0.5 else prefix + _article(phrase, rng)
    return Caption(text, (phrase,))


def _something(things: Sequence[Thing], rng: np.random.Generator, name_colour: float) -> Caption:
    attribute = str(rng.choice(("colour", "colour", "material", "size")))
    value = getattr(things[0], attribute)
    return Caption(f"something {value}", (Phrase(**{attribute: value}),))


def _placed(things: Sequence[Thing], rng: np.random.Generator, name_colour: float) -> Caption:
    places = sorted(things[0].places)
    if not places:
        return _one(things, rng, name_colour)
    place = str(rng.choice(places))
    phrase = _describe(things[0], rng, name_colour)
    return Caption(f"{_article(phrase, rng)} {rng.choice(_PLACES[place])}", (replace(phrase, place=place),))


def _counted(things: Sequence[Thing], rng: np.random.Generator, name_colour: float) -> Caption:
    attribute = str(rng.choice(("colour", "shape", "shape", "none")))
    phrase = Phrase() if attribute == "none" else Phrase(**{attribute: getattr(things[0], attribute)})
    count = sum(attribute == "none" or getattr(thing, attribute) == getattr(phrase, attribute) for thing in things)
    return Caption(f"{NUMBERS[count]} {phrase.words(plural=count > 1)}", (phrase,), count=count)


def _several(things: Sequence[Thing], rng: np.random.Generator, name_colour: float) -> Caption:
    phrases = tuple(dict.fromkeys(_describe(thing, rng, name_colour) for thing in things[:3]))
    *most, last = [_article(phrase, rng) for phrase in phrases]
    return Caption(f"{', '.join(most)} and {last}" if most else last, phrases)


def _related_pair(things: Sequence[Thing], rng: np.random.Generator, name_colour: float) -> Caption:
    first, second = things[:2]
    across, down = second.x - first.x, second.y - first.y
    sideways = "left of" if across > 0 else "right of"
    upright = "above" if down > 0 else "below"
    relation = sideways if abs(across) >= abs(down) else upright
    phrases = _describe(first, rng, name_colour), _describe(second, rng, name_colour)
    words = str(rng.choice(RELATIONS[relation]))
    return Caption(f"{_article(phrases[0], rng)} {words} {_article(phrases[1], rng)}", phrases, relation)
