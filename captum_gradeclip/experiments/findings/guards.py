"""Guards: how often each catches a planted fault, and how often one fires where an independent check finds none."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from open_clip import CLIP
from PIL import Image
from torch import Tensor, nn

from ... import adapters, scenes
from ...attr import GradECLIP
from ...guards import Guard
from ...inputs import Preprocess
from ...metrics import Schedule, baseline, curves, target_score
from ...progress import track
from ...scenes import Phrase, SceneDataset, SceneItem
from ...trust import trust
from .finding import Finding, HeldOut, finding, pair_score

NO_FAULT = "no fault"
"""The row of false alarms."""
OTHERWISE = "the explained pass ranks otherwise"
"""The row of scenes that only the model itself recognizes."""
ANY = "any guard"
UNKNOWN = (
    "a golden retriever",
    "the Eiffel tower",
    "my grandmother",
    "a jazz concert",
    "fried noodles",
    "an old bicycle",
    "a sailing boat",
    "snowy mountains",
)
"""Texts of words that the grammar of the scenes does not have."""
_STATISTICS = {
    "no normalization": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "mean and std of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std of CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


@dataclass(frozen=True)
class Case:
    """What trust is asked about.

    Attributes:
        model: the model.
        text: the text.
        preprocess: how the picture becomes an input (default ``None``, as the model's own library has it).
    """

    model: nn.Module
    text: str
    preprocess: Preprocess = None


def measure(model: CLIP, held_out: HeldOut) -> Iterator[Finding]:
    """The guards on scenes of one to three things, whose first thing is named."""
    yield from planted(model, held_out.of(1, 2, 3))


def planted(model: CLIP, data: SceneDataset) -> Iterator[Finding]:
    """For each planted fault, the share of reports in which each guard fires; likewise where there is no fault.

    Faults are weights of the image tower that are shuffled within each of its tensors, another mean and standard deviation
    than the model's, a text of words that the model has never seen, and features that have saturated. No fault is there if
    the model and the pass that is explained find the named thing among all pairs of color and shape, and the tenth of the
    pixels that the map marks takes more of the cosine with it than a random tenth. Where only the pass that is explained
    does not find it, it ranks the texts otherwise, a fault that need not be planted.

    Args:
        model: the model.
        data: the scenes.
    """
    fired: dict[tuple[str, str], list[bool]] = {}
    saturated = with_saturated_features(model)
    for number, item in enumerate(track([data[index] for index in range(len(data))], "guards")):
        thing = item.scene.things[0]
        text = scenes.with_article(Phrase(thing.colour, thing.shape).words())
        cases = {
            NO_FAULT: Case(model, text),
            "shuffled weights": Case(with_shuffled_weights(model, number), text),
            "unknown words": Case(model, UNKNOWN[number % len(UNKNOWN)]),
            "saturated features": Case(saturated, text),
            **{name: Case(model, text, normalized_by(model, *given)) for name, given in _STATISTICS.items()},
        }
        if not is_sound(model, item, number):
            del cases[NO_FAULT]
        elif not is_found_by_the_explained_pass(model, item):
            cases[OTHERWISE] = cases.pop(NO_FAULT)
        for name, case in cases.items():
            report = trust(case.model, item.image, case.text, scenes.tokenizer(), preprocess=case.preprocess, seed=number)
            found = {one.guard: one.fired for one in report.findings}
            for column in get_args(Guard):
                if column in found:
                    fired.setdefault((name, column), []).append(found[column])
            fired.setdefault((name, ANY), []).append(not report.trusted)
    columns = [ANY, *get_args(Guard)]
    for name, column in sorted(fired, key=lambda place: columns.index(place[1])):
        values = fired[name, column]
        yield from finding(f"{column} fires: {name}", values, (name, column))


def is_sound(model: CLIP, item: SceneItem, seed: int) -> bool:
    """Whether the model recognizes the first thing of a scene, and its map marks what the cosine needs.

    Args:
        model: the model.
        item: the scene.
        seed: seed of the random tenth that the marked one is held against.
    """
    score, columns = pair_score(model), [thing.pair for thing in item.scene.things]
    column = columns[0]
    pixels = adapters.preprocessing(model).pixels(item.image)[None]
    with torch.no_grad():
        best = score(pixels)[0].topk(len(set(columns))).indices.tolist()
    maps = GradECLIP.for_score(score).attribute(pixels, column)
    chance = torch.rand(maps.shape, generator=torch.Generator().manual_seed(seed))
    left = curves(
        score,
        pixels.expand(2, -1, -1, -1),
        torch.cat([maps, chance]),
        {"cosine": target_score(torch.tensor([column, column]))},
        background=baseline(pixels, "own-mean", (0.0,) * 3, (1.0,) * 3).expand(2, -1, -1, -1),
        schedule=Schedule(points=1, share=0.1),
    )["cosine"][:, -1]
    return column in best and bool(left[0] < left[1])


def is_found_by_the_explained_pass(model: CLIP, item: SceneItem) -> bool:
    """Whether the pass that is explained has the first thing of a scene among its best pairs of color and shape.

    Args:
        model: the model.
        item: the scene.
    """
    columns = [thing.pair for thing in item.scene.things]
    explained = GradECLIP.for_score(pair_score(model)).outcome(adapters.preprocessing(model).pixels(item.image)[None])
    assert explained.explained_scores is not None
    return columns[0] in explained.explained_scores[0].topk(len(set(columns))).indices.tolist()


def with_shuffled_weights(model: CLIP, seed: int) -> CLIP:
    """A copy of a model in which the numbers of each tensor of the image tower have other places.

    Args:
        model: the model, which stays as it is.
        seed: seed of the places.
    """
    changed: CLIP = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in changed.visual.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))
    return changed


def with_saturated_features(model: CLIP) -> CLIP:
    """A copy of a model whose image features are next to -1 or 1, so that hardly any gradient is left."""
    changed: CLIP = copy.deepcopy(model)
    changed.visual.register_forward_hook(lambda module, inputs, output: torch.tanh(1e5 * output))
    return changed


def normalized_by(model: CLIP, mean: Sequence[float], std: Sequence[float]) -> Callable[[Image.Image], Tensor]:
    """The model's own preprocessing with another mean and standard deviation.

    Args:
        model: the model.
        mean: mean of each channel, in a range of colors from 0 to 1.
        std: standard deviation of each channel.
    """
    own = adapters.preprocessing(model)
    offset, scale, other_offset, other_scale = (torch.tensor(one)[:, None, None] for one in (own.mean, own.std, mean, std))
    return lambda image: (own.pixels(image) * scale + offset - other_offset) / other_scale
