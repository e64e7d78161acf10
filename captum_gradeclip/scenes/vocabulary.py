"""The vocabulary of the embedded model: open_clip's byte-pair tokenizer on merges learnt from the grammar's words."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_bytes
from ..quoting import quoted
from .captions import NUMBERS
from .world import COLOURS, MATERIALS, SHAPES, SIZES

if TYPE_CHECKING:  # open_clip takes seconds to import, so that happens where it is used
    from open_clip import SimpleTokenizer

CONTEXT_LENGTH = 24
MERGES = Path(__file__).with_name("merges.txt.gz")
_GLUE = (
    "a an the of and is there to left right above over below under on at top bottom photo picture something thing"
    " things crosses"
)


def tokenizer() -> SimpleTokenizer:
    """Makes the tokenizer. Every word of the grammar is one token; other words become several, down to single letters.

    Returns:
        A tokenizer of open_clip, which is called with a text or a list of T texts and gives token ids ``(T, 24)``.

    >>> tokenizer()("a red circle").shape
    torch.Size([1, 24])
    >>> [tokenizer().decoder[i] for i in tokenizer().encode("red rectangle")][:2]
    ['red</w>', 're']
    """
    from open_clip import SimpleTokenizer

    return SimpleTokenizer(bpe_path=str(MERGES), context_length=CONTEXT_LENGTH)


def grammar_words() -> list[str]:
    """Lists every word that a caption can contain, singular and plural."""
    nouns = [*SHAPES, *(f"{shape}s" for shape in SHAPES if not shape.endswith("s"))]
    return sorted({*_GLUE.split(), *COLOURS, *nouns, *MATERIALS, *SIZES, *NUMBERS.values()})


def unknown_words(texts: Iterable[str]) -> list[str]:
    """The words of some texts that no caption can contain, in small letters, each once.

    Args:
        texts: the texts.

    >>> unknown_words(["a red ring", "A dog and a red dog"])
    ['dog']
    """
    known = set(grammar_words())
    return list(dict.fromkeys(word for text in texts for word in re.findall(r"\w+", text.lower()) if word not in known))


def scope(unknown: Sequence[str]) -> str:
    """What the embedded model cannot know, photos and words that it never saw, as a sentence without its article.

    Args:
        unknown: the words, of which the first three are named.

    >>> scope(["dog"])
    "embedded model knows drawn scenes of colored shapes alone and never saw 'dog'"
    """
    never = f" and never saw {', '.join(map(quoted, unknown[:3]))}" if unknown else ""
    return f"embedded model knows drawn scenes of colored shapes alone{never}"


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Learns byte-pair merges: the most frequent neighbors are joined until every word is a single token.

    Args:
        words: the words, each of at least one letter.

    Returns:
        The pairs in the order in which they were joined.

    >>> learn_merges(["red", "ring"])[-1]
    ('r', 'ing</w>')
    """
    pieces = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in pieces):
        pairs = Counter(pair for word in pieces for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = [_join(word, best) for word in pieces]
    return merges


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in word:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def write_merges(path: Path = MERGES) -> None:
    """Learns the merges of :func:`grammar_words` and writes them in the format of open_clip, with one heading line.

    Args:
        path: the file, compressed by gzip; the default is the one in the package.
    """
    lines = ["#version: 0.2", *(" ".join(merge) for merge in learn_merges(grammar_words()))]
    write_bytes(path, gzip.compress("\n".join(lines).encode(), mtime=0))
