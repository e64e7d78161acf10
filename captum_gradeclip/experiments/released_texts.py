"""What the published code of Grad-ECLIP tells each method about a class: its bare name, or prompts of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..attr import GAME, M2IB, CLIPSurgery, NotDefinedError
from ..attr.m2ib import encode_wrapped
from ..attr.registry import Kind
from ..scores import ImageTextScore, encode_text, tokenize
from ..scores.prompts import imagenet_templates, prompt_ensemble
from .prompt_score import PromptScore

NOUNS = (
    *("airplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle", "building", "bus"),
    *("cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain", "dog", "door", "fence"),
    *("floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike", "mountain", "mouse"),
    *("person", "plate", "platform", "potted plant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow"),
    *("sofa", "table", "track", "train", "tree", "truck", "tv monitor", "wall", "water", "window", "wood"),
)
"""The 59 classes of PASCAL-Context (Mottaghi et al., CVPR 2014), among which CLIP Surgery tells a class apart."""
SCENE_TEMPLATES = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)
"""The sentences that CLIP Surgery's ensemble has beside the eighty of OpenAI; ViLD has them as well."""


def told(kind: Kind, score: PromptScore) -> ImageTextScore:
    """The score of the same classes as a method is told about them; each is encoded once for a score.

    Args:
        kind: the method.
        score: the score of prompts.

    Returns:
        For GAME, that of the bare names; for M2IB, that of the bare names as its wrapper reads them, or, where the model has
        no such text tower, as the model reads them; for CLIP Surgery, that of its 85 sentences; for all others, the score.

    >>> from captum_gradeclip.adapters import loading
    >>> score = PromptScore(loading.load(), ["red circle", "star"], ["a photo of a {}."])
    >>> told(GAME, score) is told(GAME, score), told(GAME, score) is score
    (True, False)
    """
    model, tokenizer, names = score.model, score.tokenizer, list(score.classes)

    def bare() -> Tensor:
        return prompt_ensemble(model, tokenizer, names, ["{}"])

    def wrapped() -> Tensor:
        try:
            return wrapper_features(model, tokenize(model, names, tokenizer))
        except NotDefinedError:
            return bare()

    def ensemble() -> Tensor:
        return prompt_ensemble(model, tokenizer, names, [*imagenet_templates(), *SCENE_TEMPLATES])

    features: dict[Kind, Callable[[], Tensor]] = {GAME: bare, M2IB: wrapped, CLIPSurgery: ensemble}
    if kind not in features:
        return score
    return score.once(kind.__name__, lambda: ImageTextScore(model, features[kind](), tokenizer))


def among_nouns(score: PromptScore) -> Tensor:
    """Features ``(59, D)`` of :data:`NOUNS` by the sentences of CLIP Surgery, encoded once for a score."""
    templates = [*imagenet_templates(), *SCENE_TEMPLATES]
    return score.once(
        "nouns", lambda: ImageTextScore(score.model, prompt_ensemble(score.model, score.tokenizer, NOUNS, templates))
    ).text_features


def wrapper_features(model: nn.Module, tokens: Tensor) -> Tensor:
    """Features of texts as the wrapper around CLIP in M2IB's published code makes them; they are not CLIP's.

    That text tower has no causal mask, so that each token up to the end mark attends to all of these tokens, and it applies
    the projection twice. To map images under it, bind these features:
    ``ImageTextScore(model, wrapper_features(model, tokens))``.

    Args:
        model: a model with CLIP's own text tower, whose projection is square.
        tokens: token ids ``(T, L)``, integer.

    Returns:
        ``(T, D)``, unit vectors without a graph.

    Raises:
        NotDefinedError: for any other text tower.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> wrapper_features(model, tokenizer(["a red circle", "two stars"])).shape
    torch.Size([2, 128])
    """
    return encode_text(model, tokens, partial(encode_wrapped, model))
