"""The regions of words: which part of the picture each word of a text goes with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..adapters import text_tower
from ..adapters.base import execution_device
from ..adapters.loading import Loaded
from ..attr import MatchRegionAttribution, WordRegionAttribution
from ..images import Picture
from ..maps import merge_regions
from ..scores import MatchScore, tokenize
from .query import Head


def word_regions(loaded: Loaded, picture: Picture, texts: Sequence[str], text: int, head: Head) -> list[tuple[str, Tensor]]:
    """The words of a text, each with its map.

    Args:
        loaded: the model, and its tokenizer.
        picture: the picture with its input.
        texts: all texts.
        text: the number of the one that is asked for.
        head: whether the features are explained (:class:`captum_gradeclip.WordRegionAttribution`) or the matching head
            (:class:`captum_gradeclip.attr.MatchRegionAttribution`).

    Returns:
        ``[(word, map), ...]`` in reading order, each map ``(h, w)``, float32, signed.

    Raises:
        NotDefinedError: if words and patches do not meet in the model.
        ValueError: if the words of the text cannot be read.
    """
    pixels = picture.pixels.to(execution_device(loaded.model))
    if head == "match":
        score = MatchScore(loaded.model, [texts[text]], loaded.tokenizer)
        tokens, maps = score.text_tokens[0], MatchRegionAttribution(score).attribute(pixels, 0)[0]
    else:
        tokens = tokenize(loaded.model, [texts[text]], loaded.tokenizer, tower=text_tower(loaded.model))[0]
        maps = WordRegionAttribution(loaded.model, loaded.tokenizer).attribute(pixels, tokens[None])[0]
    return merge_regions(maps.cpu(), tokens.cpu(), loaded.tokenizer)
