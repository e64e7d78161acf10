"""One report on whether the map of a picture and a text can be trusted: all guards at once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from . import adapters, guards
from .adapters.base import Foreign, execution_device
from .adapters.tokenizers import whole_words
from .attr import find_method
from .attr.account import account
from .attr.info import NotDefinedError
from .attr.registry import Kind
from .explain import is_classifier
from .guards import GuardFinding
from .images import Picture
from .inputs import Images, Preprocess, read_inputs
from .notices import kept_notices
from .quoting import quoted
from .scores import ImageTextScore, Tokenizer

OTHERS = 64
"""Number of random texts whose scores are looked at."""
MAPS = 16
"""Number of them whose maps are."""
ROUNDS = 4
"""Number of pictures with noise."""
NOISE = 0.02
"""Standard deviation of that noise, in a range of colors from 0 to 1: five of 255 steps."""


@dataclass(frozen=True)
class TrustReport:
    """What all guards found about the map of one picture and one text.

    Attributes:
        text: the text.
        method: the method, its class name.
        score: the score of the unmodified model.
        explained_score: that of the pass that was explained, if there is one.
        findings: what each guard found, those that fired and those that did not.

    >>> TrustReport("a red circle", "GradECLIP", 0.3, 0.25, [GuardFinding("fit", 2.5, 1.0, "it fits")]).trusted
    True
    """

    text: str
    method: str
    score: float
    explained_score: float | None
    findings: list[GuardFinding]

    @property
    def trusted(self) -> bool:
        """Whether no guard has fired."""
        return not any(one.fired for one in self.findings)

    @property
    def warnings(self) -> list[str]:
        """What the guards say that have fired."""
        return [one.message for one in self.findings if one.fired]

    def to_dict(self) -> dict[str, object]:
        """Everything in values that JSON has; a value that could not be measured is ``None``."""
        findings = [
            {**asdict(one), "value": one.value if one.value == one.value else None, "fired": one.fired}
            for one in self.findings
        ]
        return {**vars(self), "trusted": self.trusted, "findings": findings}

    def __repr__(self) -> str:
        lines = [f"TrustReport({quoted(self.text)}, method={quoted(self.method)}, trusted={self.trusted})"]
        lines += [f"  {'!' if one.fired else ' '} {one.guard}: {one.value:.3g}, {one.message}" for one in self.findings]
        return "\n".join(lines)


def trust(
    model: nn.Module,
    image: Images,
    text: str,
    tokenizer: Tokenizer | None = None,
    *,
    preprocess: Preprocess = None,
    method: str | Kind = "GradECLIP",
    randomize: bool = False,
    seed: int = 0,
    **options: Foreign,
) -> TrustReport:
    """Asks all guards about the map of one picture and one text.

    The map is held against those of random texts, drawn from the tokenizer's own words, of the empty text, and of the
    picture with a little noise; the score against that of the pass that is explained and against those of the random texts;
    the input against what the model's own library makes of the picture. :mod:`captum_gradeclip.guards` says what each guard
    measures, ``docs/guards.md`` how often each catches a planted fault and gives a false alarm.

    Args:
        model: a model of images and texts that an adapter knows; used as it is and never changed.
        image: one image, as for :func:`captum_gradeclip.explain`.
        text: the text.
        tokenizer: the model's tokenizer.
        preprocess: how the picture becomes an input, as for :func:`captum_gradeclip.explain`.
        method: the name of a method, or its class (default ``"GradECLIP"``).
        randomize: whether to compare with maps of copies of the model whose image tower has more and more random layers,
            from the last to the first (default false: it takes a copy of the model and a pass for each layer).
        seed: seed of the random texts, the noise and the random weights, at least 0 (default 0).
        options: options of the method.

    Returns:
        The report.

    Raises:
        TypeError, ValueError: as :func:`captum_gradeclip.explain`, for several images or texts, or for a classifier.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> report = trust(model, scenes.SceneDataset(3, "evaluation")[0].image, "a purple cross", tokenizer)
    >>> [one.guard for one in report.findings][:3], sorted(report.to_dict())[:3]
    (['surrogate', 'flat', 'saturated'], ['explained_score', 'findings', 'method'])
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected one text, got {quoted(text)}")
    if is_classifier(model):
        raise ValueError(f"model: {type(model).__name__} is a classifier; trust compares an image with a text")
    kind = find_method(method)
    if "relu_attributions" in kind.Options.__dataclass_fields__:
        options = {"relu_attributions": False, **options}  # evidence against a text is a part of what is compared
    processor = tokenizer if adapters.is_processor(tokenizer) else None
    with kept_notices():  # what they say is said by guards
        pictures = list(read_inputs(image, model, preprocess, processor).pictures)
        if len(pictures) != 1:
            raise ValueError(f"image: expected one image, got {len(pictures)}")
        return _report(model, pictures[0], text, tokenizer, kind, options, randomize, seed)


def _report(
    model: nn.Module,
    picture: Picture,
    text: str,
    tokenizer: Tokenizer | None,
    kind: Kind,
    options: Mapping[str, Foreign],
    randomize: bool,
    seed: int,
) -> TrustReport:
    device, tower = execution_device(model), adapters.image_tower(model)
    pixels = picture.pixels.to(device)
    generator = torch.Generator().manual_seed(seed)
    texts = [text, *_random_texts(tokenizer, OTHERS, max(2, len(text.split())), generator)]
    words = ImageTextScore(model, texts, tokenizer)
    score = ImageTextScore(model, torch.cat([words.text_features, words.empty_features]), tokenizer)

    def maps_of(inputs: Tensor, columns: Sequence[int], of: ImageTextScore = score) -> tuple[Tensor, Tensor | None]:
        outcome = kind.for_score(of).outcome(inputs, columns, **options)
        assert outcome.maps is not None  # a method that refuses raises
        explained = None if outcome.explained_scores is None else outcome.explained_scores.detach().double().cpu()
        return outcome.maps.detach().double().cpu(), explained

    with torch.no_grad():
        scores = score(pixels).double().cpu()[0]
    columns = [*range(MAPS + 1), len(texts)]
    maps, explained = maps_of(pixels, columns)
    if explained is not None:  # its pass ranks all texts, also those whose maps are not compared
        explained = maps_of(pixels, range(len(texts)))[1]
    std = torch.tensor(tower.std)[None, :, None, None]
    noisy = pixels.cpu() + NOISE / std * torch.randn(ROUNDS, *pixels.shape[1:], generator=generator).to(pixels.dtype)
    findings = [
        *([] if explained is None else [guards.traded(scores[:-1], explained[0])]),
        guards.flat(maps[:, :1].unbind()),
        *([guards.saturated(maps[:, :1].unbind(), scores[None, :1])] if kind.info.unit is None else []),
        guards.normalization(picture.pixels[0], tower.mean, tower.std),
        *_preprocessed(model, picture.image, picture.pixels[0], tower.std),
        guards.fit(scores[:-1]),
        guards.prompt(maps[0, 0], maps[0, 1:]),
        guards.noise(maps[0, 0], maps_of(noisy.to(device), [0])[0][:, 0]),
        *_carried(score, pixels),
    ]
    if randomize:
        randomized = [
            maps_of(pixels, [0], ImageTextScore(one, score.text_features))[0][0, 0] for one in _cascade(model, generator)
        ]
        findings.append(guards.weights(maps[0, 0], torch.stack(randomized)))
    own = None if explained is None else float(explained[0, 0])
    return TrustReport(text, kind.__name__, float(scores[0]), own, findings)


def _random_texts(tokenizer: Tokenizer | None, count: int, length: int, generator: torch.Generator) -> list[str]:
    """Texts of random words of a tokenizer.

    Args:
        tokenizer: the tokenizer.
        count: number of texts, at least 1.
        length: number of words of each, at least 1.
        generator: source of the random choices.
    """
    words = whole_words(tokenizer)
    picks = torch.randint(0, len(words), (count, length), generator=generator).tolist()
    return [" ".join(words[pick] for pick in some) for some in picks]


def _cascade(model: nn.Module, generator: torch.Generator) -> Iterator[nn.Module]:
    """A copy of a model in which the weights of more and more image layers are shuffled, from the last to the first.

    It is one copy that changes from step to step, so that it is to be used before the next one is asked for.

    Args:
        model: the model, which stays as it is.
        generator: source of the random choices.
    """
    changed = copy.deepcopy(model)
    for site in reversed(adapters.image_tower(changed).sites):
        with torch.no_grad():
            for weight in site.module.parameters():
                shuffled = weight.flatten()[torch.randperm(weight.numel(), generator=generator).to(weight.device)]
                weight.copy_(shuffled.view_as(weight))
        yield changed


def _preprocessed(model: nn.Module, image: object, pixels: Tensor, std: Sequence[float]) -> Iterator[GuardFinding]:
    """The input beside that of the model's own library, which not every model states."""
    try:
        own = adapters.preprocessing(model).pixels(image)  # type: ignore[arg-type]
    except ValueError:
        return
    yield guards.preprocessing(pixels.float().cpu(), own.float().cpu(), std)


def _carried(score: ImageTextScore, pixels: Tensor) -> Iterator[GuardFinding]:
    """The share of the patches, where attention can be followed."""
    try:
        found = account(score, pixels, [0])
    except NotDefinedError:
        return
    yield guards.carried(found.maps, found.others)
