"""The answer: what each method of a query found in a picture, or why it found nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from time import perf_counter

import torch
from PIL import Image
from torch import Tensor

from ..adapters.base import execution_device
from ..adapters.loading import Loaded
from ..attr.registry import Kind
from ..estimate import expect
from ..explain import Explanation, explain
from ..images import Picture
from ..inputs import preparation
from ..maps import Words, merge_words
from ..notices import kept_notices
from ..progress import duration
from ..quoting import quoted
from ..scenes.vocabulary import scope, unknown_words
from ..scores import ClassScore, ImageTextScore, tokenize
from .limits import Limits
from .match import explain_match
from .query import Query
from .regions import word_regions


@dataclass(frozen=True)
class Found:
    """What one method found.

    Attributes:
        method: its id.
        name: its name as papers print it.
        explanation: what it found; ``None`` if it was refused.
        seconds: the time that it took.
        refused: why it found nothing; empty (default) if it did not.
    """

    method: str
    name: str
    explanation: Explanation | None = None
    seconds: float = 0.0
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known of a query so far.

    Attributes:
        query: what was asked for.
        loaded: the model that answers.
        name: what the picture is called.
        picture: the picture with the input that was made of it.
        found: what each method found, in the order of the query; fewer while the others are at work.
        notes: what is to be said of the query as a whole.
    """

    query: Query
    loaded: Loaded
    name: str
    picture: Picture
    found: tuple[Found, ...] = ()
    notes: tuple[str, ...] = ()
    _regions: dict[int, list[tuple[str, Tensor]]] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def explanations(self) -> list[Explanation]:
        """What was found by those methods that were not refused."""
        return [one.explanation for one in self.found if one.explanation is not None]

    @property
    def texts(self) -> list[str]:
        """The texts, or the names of the classes, that were explained; none if every method was refused."""
        return next((one.texts for one in self.explanations), [])

    @property
    def words(self) -> list[Words]:
        """The words of each text with the weights of the first method that weighs words; 0 if no method does."""
        weighed = next(([*one.words[0]] for one in self.explanations if one.words is not None), None)
        if weighed is not None or self.query.head == "classes" or not self.texts:
            return weighed or []
        tokens = tokenize(self.loaded.model, self.texts, self.loaded.tokenizer).cpu()
        return [*merge_words(torch.zeros(tokens.shape), tokens, self.loaded.tokenizer)]

    @property
    def unit(self) -> str:
        """What the scores are."""
        return "cosine" if self.query.head == "features" else "logit"

    def regions(self, text: int) -> list[tuple[str, Tensor]]:
        """The words of a text, each with the regions that it goes with; computed once, when it is first asked for.

        Args:
            text: the number of the text, from 0.

        Returns:
            ``[(word, map), ...]`` in reading order, each map ``(h, w)``, signed.

        Raises:
            ValueError: if there is no such text, or words cannot be told apart here.
        """
        if self.query.head == "classes":
            raise ValueError("text: a classifier reads no texts")
        if not 0 <= text < len(self.texts):
            raise ValueError(f"text: expected 0 to {len(self.texts) - 1}, got {quoted(text)}")
        with self._lock:
            if text not in self._regions:
                self._regions[text] = word_regions(self.loaded, self.picture, self.texts, text, self.query.head)
            return self._regions[text]


def answer(query: Query, loaded: Loaded, image: Image.Image, name: str, limits: Limits | None = None) -> Iterator[Answer]:
    """Answers a query, method by method, so that the first maps are seen while the others are at work.

    Args:
        query: what is asked for; :meth:`Query.check` is called first.
        loaded: the model of the query.
        image: the picture.
        name: what it is called.
        limits: how much may be asked for; ``None`` (default) for the usual limits.

    Yields:
        The answer so far, after each method.

    Raises:
        ValueError: naming what cannot be answered, if it holds for all methods.

    >>> from captum_gradeclip.adapters.loading import load
    >>> from captum_gradeclip.app.picture import scene_picture
    >>> query = Query(("a red circle",), scene=3, methods=("GradECLIP", "MaskCLIP"))
    >>> [len(one.found) for one in answer(query, load("scenes"), scene_picture(3), "scene 3")]
    [1, 2]
    """
    limits = limits or Limits()
    query.check(limits)
    if query.texts and query.head != "classes" and loaded.tokenizer is None:
        raise ValueError(
            "model: there is no tokenizer of this model here, and no text can be read without one; choose another model"
        )
    with kept_notices() as noticed:
        picture = preparation(loaded.model, loaded.processor)(image)
    so_far = Answer(query, loaded, name, picture, notes=(*noticed, *_scope(query)))
    for kind in query.kinds():
        so_far = replace(so_far, found=(*so_far.found, _found(kind, so_far, limits)))
        yield so_far


def _found(kind: Kind, so_far: Answer, limits: Limits) -> Found:
    """What a method finds; what stands against it is told beside the maps of the others."""
    query, method, name = so_far.query, kind.__name__, kind.info.name
    started = perf_counter()
    try:
        _check_duration(kind, so_far, limits)
        explanation = _ROADS[query.head](kind, so_far)
    except (TypeError, ValueError) as error:
        return Found(method, name, refused=str(error))
    return Found(method, name, replace(explanation, names=[so_far.name]), perf_counter() - started)


def _by_features(kind: Kind, so_far: Answer) -> Explanation:
    query, loaded = so_far.query, so_far.loaded
    options = query.options(kind)
    return explain(
        loaded.model,
        so_far.picture,
        list(query.texts),
        loaded.tokenizer,
        method=kind,
        against=query.against,
        **options,
    )


def _by_classes(kind: Kind, so_far: Answer) -> Explanation:
    query = so_far.query
    targets = [int(one) if one.isascii() and one.isdecimal() else one for one in query.texts] or None
    return explain(
        so_far.loaded.model, so_far.picture, method=kind, targets=targets, against=query.against, **query.options(kind)
    )


def _by_match(kind: Kind, so_far: Answer) -> Explanation:
    return explain_match(so_far.loaded, so_far.picture, so_far.query.texts, kind, so_far.query.options(kind))


_ROADS: Mapping[str, Callable[[Kind, Answer], Explanation]] = {
    "features": _by_features,
    "classes": _by_classes,
    "match": _by_match,
}


def _check_duration(kind: Kind, so_far: Answer, limits: Limits) -> None:
    """Refuses a method that would hold up all others."""
    if "passes" not in kind.__dict__ or so_far.query.head == "match":  # it takes a few passes
        return
    query, loaded = so_far.query, so_far.loaded
    pixels = so_far.picture.pixels.to(execution_device(loaded.model))
    score = (
        ClassScore(loaded.model)
        if query.head == "classes"
        else ImageTextScore(loaded.model, list(query.texts), loaded.tokenizer)
    )
    expected = sum(expect(score, pixels, kind, max(1, len(query.texts))).values())
    if expected > limits.seconds:
        raise ValueError(
            f"methods: {kind.info.name} would take about {duration(expected)} here, more than the"
            f" {duration(limits.seconds)} that this page allows; run it by gradeclip explain"
        )


def _scope(query: Query) -> list[str]:
    """What the embedded model cannot know: photos, and words that it never saw."""
    if query.model != "scenes":
        return []
    unknown = unknown_words(query.texts)
    if query.scene is not None and not unknown:
        return []
    return [
        f"The {scope(unknown)}; for photos, start the page with another one, for instance gradeclip app --model ViT-B-16"
        " --pretrained openai"
    ]
