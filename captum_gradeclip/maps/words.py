"""The words of a text: the weights of sub-word tokens, added up to one weight per word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol, TypeGuard

import torch
from torch import Tensor

from ..arguments import check_tensor

Words = Sequence[tuple[str, float]]
"""The words of one text with their weights, in reading order."""

_BEGINS = ("\u0120", "\u2581")  # how byte-level BPE (GPT) and sentence-piece mark a piece that begins a word


class _Tokenizer(Protocol):
    """What the tokenizers of open_clip and transformers have in common."""

    all_special_ids: list[int]

    def decode(self, ids: list[int], /) -> str: ...


def _is_tokenizer(given: object) -> TypeGuard[_Tokenizer]:
    return hasattr(given, "all_special_ids") and hasattr(given, "decode")


def merge_words(attributions: Tensor, tokens: Tensor, tokenizer: object) -> list[list[tuple[str, float]]]:
    """Turns token weights into word weights: sub-words are added up; start mark, end mark and padding are left out.

    Args:
        attributions: ``(N, L)``, or ``(L,)`` for one text.
        tokens: the token ids ``(N, L)`` that were explained, or ``(L,)``.
        tokenizer: the tokenizer of open_clip or transformers, or the processor of transformers, that made the tokens.

    Returns:
        For each text, ``[(word, weight), ...]`` in reading order. The weights of a text add up to those of its content
        tokens.

    Raises:
        ValueError: if attributions and tokens differ in shape, or tokens are no integers.
        TypeError: for anything but tensors, or if the tokenizer is of neither library.

    >>> import torch
    >>> from captum_gradeclip import scenes
    >>> _, _, tokenizer = scenes.load()
    >>> tokens = tokenizer(["a red octagon"])
    >>> words = merge_words(torch.ones(tokens.shape), tokens, tokenizer)[0]
    >>> [word for word, weight in words]
    ['a', 'red', 'octagon']
    """
    check_tensor("attributions", attributions)
    check_tensor("tokens", tokens, "(N, L)", "(L)", kind="integers")
    if attributions.shape != tokens.shape:
        raise ValueError(
            f"attributions: expected one value for each of tokens {tuple(tokens.shape)}, got {tuple(attributions.shape)}"
        )
    if tokens.dim() == 1:
        attributions, tokens = attributions[None], tokens[None]
    speller = _Speller(tokenizer)
    return [speller.words(ids, weights) for ids, weights in zip(tokens.tolist(), attributions.tolist())]


def merge_regions(maps: Tensor, tokens: Tensor, tokenizer: object) -> list[tuple[str, Tensor]]:
    """The maps of tokens as maps of words: those of sub-words are added up; marks and padding are left out.

    Args:
        maps: the maps of the tokens of one text, ``(L, h, w)``, such as an item of
            :class:`~captum_gradeclip.WordRegionAttribution` has them.
        tokens: its token ids ``(L,)``.
        tokenizer: as for :func:`merge_words`.

    Returns:
        ``[(word, map), ...]`` in reading order, each map ``(h, w)``.

    Raises:
        TypeError, ValueError: as :func:`merge_words`.

    >>> from captum_gradeclip import scenes
    >>> _, _, tokenizer = scenes.load()
    >>> tokens = tokenizer(["a red octagon"])[0]
    >>> [(word, region.shape) for word, region in merge_regions(torch.ones(len(tokens), 2, 3), tokens, tokenizer)][1:]
    [('red', torch.Size([2, 3])), ('octagon', torch.Size([2, 3]))]
    """
    check_tensor("maps", maps, "(L, h, w)", kind="floats")
    check_tensor("tokens", tokens, "(L)", kind="integers", examples=("maps", len(maps)))
    each = merge_words(torch.eye(len(tokens)), tokens.expand(len(tokens), -1), tokenizer)
    belongs = torch.tensor([[weight for _, weight in words] for words in each]).to(maps)  # (L, words)
    return [(word, region) for (word, _), region in zip(each[0], torch.einsum("lk,lhw->khw", belongs, maps))]


def _joined(words: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The words, with signs that stand on a letter (vowels of Devanagari) at that letter: CLIP takes them for words."""
    found: list[tuple[str, float]] = []
    for word, weight in words:
        if found and word and unicodedata.category(word[0])[0] == "M":
            before, so_far = found[-1]
            found[-1] = before + word, so_far + weight
        else:
            found.append((word, weight))
    return found


class _Speller:
    """Reads the words behind token ids, for every way in which a vocabulary marks the borders of words."""

    def __init__(self, tokenizer: object) -> None:
        # Processors of transformers, and open_clip's wrapper, keep the tokenizer of transformers in an attribute.
        inner = tokenizer if _is_tokenizer(tokenizer) else getattr(tokenizer, "tokenizer", tokenizer)
        if not _is_tokenizer(inner):
            raise TypeError(
                f"tokenizer: expected one of open_clip or transformers, got {type(tokenizer).__name__}, which lacks"
                " all_special_ids or decode"
            )
        self.inner = inner
        self.special = set(inner.all_special_ids)
        vocabulary: dict[str, int] = inner.get_vocab() if hasattr(inner, "get_vocab") else getattr(inner, "encoder", {})
        self.pieces = {number: piece for piece, number in vocabulary.items()}
        # CLIP's pieces mark where a word ends; those of sentence-piece and GPT mark where one begins; BERT's pieces mark
        # where a word goes on.
        self.mark_end = any(piece.endswith("</w>") for piece in vocabulary)
        begins = sum(piece.startswith(_BEGINS) for piece in vocabulary)
        self.mark_begin = not self.mark_end and begins > sum(piece.startswith("##") for piece in vocabulary)

    def words(self, ids: list[int], weights: list[float]) -> list[tuple[str, float]]:
        words: list[tuple[list[int], float]] = []
        complete = True
        for position in self._content(ids):
            piece = self.pieces.get(ids[position], "")
            if self.mark_end:
                begins = complete
                complete = piece.endswith("</w>")
            else:
                begins = piece.startswith(_BEGINS) if self.mark_begin else not piece.startswith("##")
            if begins or not words:
                words.append(([], 0.0))
            words[-1] = [*words[-1][0], ids[position]], words[-1][1] + weights[position]
        return _joined([(self.inner.decode(numbers).strip(), weight) for numbers, weight in words])

    def _content(self, ids: list[int]) -> list[int]:
        """The positions between the start and the end mark.

        The end mark decides, since the padding behind it may have any id, even that of a letter.
        """
        start = 0
        for name in ("sot_token_id", "bos_token_id", "cls_token_id"):
            if (mark := getattr(self.inner, name, None)) in ids and mark is not None:
                start = ids.index(mark) + 1
                break
        ends = {getattr(self.inner, name, None) for name in ("eot_token_id", "eos_token_id", "sep_token_id")}
        content: list[int] = []
        for position in range(start, len(ids)):
            if ids[position] in ends and (start or content):
                # Between the marks nothing is padding, even if padding has the id of a piece, as of "!".
                own = self.special - {getattr(self.inner, "pad_token_id", None)} if start else self.special
                return [place for place in range(start, position) if ids[place] not in own]
            if ids[position] not in self.special:
                content.append(position)
        return content
