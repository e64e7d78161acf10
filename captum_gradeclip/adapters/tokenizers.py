"""Texts to token ids, by the tokenizers of open_clip and of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from ..quoting import quoted
from .base import Foreign, TextTower

Tokenizer: TypeAlias = Callable[..., Foreign]
"""A tokenizer of open_clip, which returns token ids, or of transformers, which returns an object that holds them; or a
processor of transformers, which holds a tokenizer."""


def token_ids(tokenizer: Tokenizer, texts: list[str], tower: TextTower, cut: bool = False) -> Tensor:
    """Token ids ``(T, L)`` of T texts, padded as the model wants them.

    Args:
        tokenizer: the model's own tokenizer, or the processor of transformers that holds it.
        texts: T strings.
        tower: the facts of the text encoder.
        cut: whether a tokenizer of transformers may cut what the model cannot read (default False: what it returns is
            refused by the model then); open_clip's always do.

    Raises:
        TypeError: if the tokenizer is none, or gives no token ids.
    """
    if hasattr(tokenizer, "image_processor"):  # called with one argument, a processor takes it for images
        inner: Foreign = getattr(tokenizer, "tokenizer", None)
        tokenizer = inner
    if not callable(tokenizer) or isinstance(tokenizer, type):
        raise TypeError(f"tokenizer: expected the model's own, of open_clip or transformers, got {quoted(tokenizer)}")
    settings: dict[str, Foreign] = {}
    if is_transformers(tokenizer):
        padding = "max_length" if tower.pad else "longest"
        settings = {"padding": padding, "max_length": tower.context_length, "return_tensors": "pt", "truncation": cut}
    encoding: Foreign = tokenizer  # a callable of either library
    found = encoding(texts, **settings)
    ids: Tensor = found["input_ids"] if settings else found
    if not isinstance(ids, Tensor) or ids.shape[:1] != (len(texts),) or ids.dim() != 2 or ids.is_floating_point():
        got = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(
            f"tokenizer: expected token ids ({len(texts)}, L) as a tensor for {len(texts)} texts, got {got}; use the"
            " model's own, of open_clip or transformers"
        )
    return ids


def token_count(tokenizer: Foreign, text: str) -> int | None:
    """Number of tokens of a text before anything is cut off, marks included; ``None`` if the tokenizer cannot tell."""
    if isinstance(tokenizer, str):
        return None  # its "encode" is none of ours
    inner: Foreign = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps those of transformers
    if is_transformers(inner):
        return len(inner(text)["input_ids"])
    return len(tokenizer.encode(text)) + 2 if hasattr(tokenizer, "encode") else None


def is_transformers(tokenizer: object) -> bool:
    """Whether a tokenizer has the interface of transformers."""
    return hasattr(tokenizer, "all_special_ids") and callable(getattr(tokenizer, "pad", None))
