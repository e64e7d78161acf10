"""Recognition: does the model see what a picture shows, and does the pass that is explained see it as well?"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from open_clip import CLIP

from ... import scenes
from ...attr import GradECLIP
from ...metrics.scoring import known
from ...scenes import PAIRS, Caption, Phrase, SceneDataset
from ...scores import ImageTextScore
from .finding import Finding, HeldOut, batches, finding, pair_score


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """Zero-shot accuracy of the model and of the explained pass, and recall."""
    yield from zero_shot(model, held_out.of(1))
    yield from retrieval(model, held_out.of(2, 3, 4))


def zero_shot(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """How often the color and shape of the only thing are found, among all pairs of them.

    The second figure is that of the pass which Grad-ECLIP explains by default, where the last layer has one head over all
    channels in place of the model's own: a map tells about the model as far as that pass still recognizes what it shows.

    Args:
        model: the model.
        data: scenes of one thing.
    """
    score = pair_score(model)
    method = GradECLIP.for_score(score)
    own: list[bool] = []
    explained: list[bool] = []
    for items, pixels in batches(model, data, "zero-shot"):
        true = torch.tensor([item.scene.things[0].pair for item in items])
        with torch.no_grad():
            own += (known(score(pixels), "model").argmax(dim=1) == true).tolist()
        cosines = method.outcome(pixels).explained_scores
        assert cosines is not None, "a method with a gradient has explained scores"
        explained += (cosines.argmax(dim=1) == true).tolist()
    among = f"{len(PAIRS)} colour and shape pairs"
    yield from finding(f"zero-shot accuracy, {among}", own)
    yield from finding(f"zero-shot accuracy of the single-head pass that is explained, {among}", explained)


@torch.no_grad()
def retrieval(model: CLIP, data: SceneDataset, among: int = 64) -> Iterator[Finding]:
    """How often a caption that names all things of a scene is true of the scene that it fits best, among some of them.

    Args:
        model: the model.
        data: scenes of several things.
        among: number of scenes to choose from, at least 2 (default 64).
    """
    hits: list[bool] = []
    for items, pixels in batches(model, data, "recall", among):
        if len(items) < among:
            break  # fewer to choose from would be another task
        captions = [_full_caption(item.scene) for item in items]
        score = ImageTextScore(model, [caption.text for caption in captions], scenes.tokenizer())
        true = scenes.truth([item.scene for item in items], captions)
        best = known(score(pixels), "model").argmax(dim=0).tolist()
        hits += [bool(true[picture, number]) for number, picture in enumerate(best)]
    yield from finding(f"text-to-image recall@1 among {among} scenes (a scene it is true of)", hits)


def _full_caption(scene: scenes.Scene) -> Caption:
    phrases = tuple(dict.fromkeys(Phrase(thing.colour, thing.shape) for thing in scene.things))[:3]
    return Caption(" and ".join(scenes.with_article(phrase.words()) for phrase in phrases), phrases)
