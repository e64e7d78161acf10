"""Texts as token ids and as features of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .. import adapters
from ..adapters import TextTower
from ..adapters.base import execution_device
from ..adapters.tokenizers import Tokenizer, token_count, token_ids
from ..adapters.training import steady
from ..arguments import check_strings, check_tensor
from ..quoting import check_utf8, quoted
from .base import unit_features
from .checks import check_ids

CHUNK = 256
"""Largest number of texts or images that one pass encodes."""


def empty_text(model: nn.Module) -> Tensor:
    """Token ids ``(1, L)`` of a text without words.

    Args:
        model: a model with a text encoder that an adapter knows.

    Returns:
        The ids, integers, on the device of the model.

    Raises:
        ValueError: if only the model's tokenizer knows the marks around a text, or the model has no text encoder.

    >>> from captum_gradeclip import scenes
    >>> model, _, tokenizer = scenes.load()
    >>> torch.equal(empty_text(model), tokenizer([""]))
    True
    """
    try:
        tower = adapters.text_tower(model)
    except adapters.NoTextTowerError as error:
        raise ValueError("text: this model has no text encoder, and so no empty text; pass features in its place") from error
    if tower.start is None or tower.end is None:
        raise ValueError(
            "text: the marks around a text of this model are only known to its tokenizer; pass the features of an empty text"
        )
    length = tower.context_length if tower.pad else 2
    return torch.tensor([[tower.start, tower.end] + [0] * (length - 2)], device=execution_device(model))


def encode_text(model: nn.Module, tokens: Tensor, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Unit features ``(T, D)`` of texts, without a graph.

    Args:
        model: a model with a text encoder that an adapter knows.
        tokens: token ids ``(T, L)``, on any device.
        encode: an encoder of token ids to use in place of the model's own (default ``None``).

    Returns:
        Features ``(T, D)`` of length 1, on the device of the model.

    Raises:
        TypeError: for anything but a tensor.
        ValueError: if ``tokens`` are not ``(T, L)`` or not of the model's vocabulary, or the features are not finite.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> encode_text(model, tokenizer(["a red circle", "two stars"])).norm(dim=1).round(decimals=3)
    tensor([1., 1.])
    """
    return unit_features(text_features(model, tokens, encode), "text")


def text_features(
    model: nn.Module, tokens: Tensor, encode: Callable[[Tensor], Tensor] | None = None, name: str = "tokens"
) -> Tensor:
    """Features ``(T, D)`` of texts, not normalized, without a graph; arguments as for :func:`encode_text`.

    The last argument is the name of the caller's parameter, for the error message.
    """
    tower = adapters.text_tower(model)
    check_ids(name, check_tensor(name, tokens, "(T, L)", kind="integers"), tower.vocabulary)
    tokens = tokens.to(execution_device(model))

    def features(part: Tensor) -> Tensor:
        read, own = (part, encode) if encode else adapters.front(tower, part)
        return own(read.clone())

    with torch.inference_mode(False), torch.no_grad(), steady([model], tokens.device):
        return torch.cat([features(part) for part in tokens.split(CHUNK)])


def tokenize(
    model: nn.Module,
    text: str | Sequence[str],
    tokenizer: Tokenizer | None,
    allow_empty: bool = False,
    tower: TextTower | None = None,
) -> Tensor:
    """Strings to token ids ``(T, L)``, refused where the tokenizer would silently cut them.

    Args:
        model: a model with a text encoder that an adapter knows.
        text: one string or T strings.
        tokenizer: the model's own tokenizer, of open_clip or transformers.
        allow_empty: whether a string may have no words (default False).
        tower: the facts of the model's texts, where it has no encoder of texts alone (default ``None``).

    Returns:
        Token ids ``(T, L)``, integer, with the marks and the padding that the model needs.

    Raises:
        TypeError: without a tokenizer, or for anything but strings.
        ValueError: for no text, an empty one (unless that is allowed), or one longer than the model's context.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> tokenize(model, ["a red circle", "two stars"], tokenizer).shape
    torch.Size([2, 24])
    """
    texts = check_strings("text", text)
    if tokenizer is None:
        raise TypeError("tokenizer: needed to turn strings into token ids; pass the model's own, or token ids as text")
    if not texts:
        raise ValueError("text: expected at least one prompt, got none")
    tower = tower or adapters.text_tower(model)
    for one in texts:
        check_utf8("text", one)
        if not one.strip() and not allow_empty:
            raise ValueError(f"text: expected words, got {quoted(one)}")
        length = token_count(tokenizer, one)
        if length is not None and length > tower.context_length:
            raise ValueError(
                f"text: {length} tokens with its marks, but the model reads {tower.context_length};"
                f"{_spelled(tokenizer, one)} shorten {quoted(one)}"
            )
    return token_ids(tokenizer, texts, tower).to(execution_device(model))


def _spelled(tokenizer: Tokenizer, text: str) -> str:
    """Which words a tokenizer does not know, so that it spells them in pieces of a letter or two."""
    marks = token_count(tokenizer, "") or 0
    counts = {word: (token_count(tokenizer, word) or 0) - marks for word in dict.fromkeys(text.split())}
    spelled = sorted((one for one in counts if counts[one] >= max(3, len(one) / 2)), key=lambda one: -counts[one])
    if not spelled:
        return ""
    told = ", ".join(f"{quoted(one)} in {counts[one]} pieces" for one in spelled[:3])
    return f" its tokenizer does not know each word and spells {told}; use other words, or"
