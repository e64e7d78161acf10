"""The explanation of a matching head: how much each patch speaks for "this image and this text match"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..adapters.base import Foreign, execution_device
from ..adapters.loading import Loaded
from ..attr import NotDefinedError, TokenAttribution
from ..attr.registry import Kind
from ..explain import Explanation
from ..images import Picture
from ..notices import kept_notices
from ..scores import MatchScore


def explain_match(
    loaded: Loaded, picture: Picture, texts: Sequence[str], kind: Kind, options: Mapping[str, Foreign]
) -> Explanation:
    """Explains the logits of "match" of a picture with some texts, see :class:`captum_gradeclip.MatchScore`.

    Args:
        loaded: a model with a matching head, and its tokenizer.
        picture: the picture with its input.
        texts: the texts, at least one.
        kind: a method.
        options: its options, and ``layers``, how many of the last layers of cross-attention.

    Returns:
        The explanation, without words.

    Raises:
        NotDefinedError: if the method does not explain attention whose queries are other tokens.
        ValueError: naming the option that does not fit.
    """
    score = MatchScore(loaded.model, list(texts), loaded.tokenizer)
    pixels = picture.pixels.to(execution_device(loaded.model))
    given = dict(options)
    layers = given.pop("layers", None)
    if not issubclass(kind, TokenAttribution) or not kind.info.cross_attention:
        raise NotDefinedError(
            f"methods: {kind.info.name} does not explain a matching head; choose GradECLIP or RawAttention"
        )
    if layers is not None and layers > len(score.layers):
        raise ValueError(f"layers: expected 1 to {len(score.layers)}, the layers of the matching head, got {layers}")
    explainer = kind.for_score(score) if layers is None else kind(score, score.layers[-layers:])
    with kept_notices() as noticed:
        outcome = explainer.outcome(pixels, None, carried=True, **given)
        with torch.no_grad():
            logits = score(pixels)
    assert outcome.maps is not None, "a method that refuses raises"

    def kept(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values.detach().float().cpu()

    maps = kept(outcome.maps)
    assert maps is not None
    return Explanation(
        maps=maps,
        words=None,
        scores=kept(logits),
        explained_scores=kept(outcome.explained_scores),
        explained_word_scores=None,
        carried=kept(outcome.carried),
        texts=list(texts),
        method=kind.__name__,
        options={"head": "match", "layers": len(score.layers) if layers is None else layers, **outcome.options},
        warnings=noticed,
        pictures=[picture],
        names=["image 0"],
    )
