"""Texts to token ids, by the tokenizers of open_clip and of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from .base import Foreign, TextTower

Tokenizer: TypeAlias = Callable[..., Foreign]
"""A tokenizer of open_clip, which returns token ids, or of transformers, which returns an object that holds them."""


def token_ids(tokenizer: Tokenizer, texts: list[str], tower: TextTower) -> Tensor:
    """Token ids ``(T, L)`` of T texts, padded as the model wants them.

    Args:
        tokenizer: the model's own tokenizer.
        texts: T strings.
        tower: the facts of the text encoder.
    """
    settings: dict[str, Foreign] = {}
    if is_transformers(tokenizer):
        padding = "max_length" if tower.pad else "longest"
        settings = {"padding": padding, "max_length": tower.context_length, "return_tensors": "pt"}
    encoding: Foreign = tokenizer  # a callable of either library
    found = encoding(texts, **settings)
    ids: Tensor = found["input_ids"] if settings else found
    return ids


def token_count(tokenizer: Foreign, text: str) -> int | None:
    """Number of tokens of a text before anything is cut off, marks included; ``None`` if the tokenizer cannot tell."""
    inner: Foreign = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps those of transformers
    if is_transformers(inner):
        return len(inner(text)["input_ids"])
    return len(tokenizer.encode(text)) + 2 if hasattr(tokenizer, "encode") else None


def is_transformers(tokenizer: object) -> bool:
    """Whether a tokenizer has the interface of transformers."""
    return hasattr(tokenizer, "all_special_ids") and callable(getattr(tokenizer, "pad", None))
