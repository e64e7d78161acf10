"""Batches: which pair comes at which place, on which process, and as the input of a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..adapters.base import TextTower
from ..adapters.tokenizers import Tokenizer, token_ids
from .clipself import patch_boxes
from .pairs import Pairs
from .phrases import Tagger, TaggerName, noun_phrases
from .settings import TuneSettings


@dataclass(frozen=True)
class Broken:
    """A pair that could not be read.

    Attributes:
        index: its number.
        reason: why.
    """

    index: int
    reason: str


@dataclass(frozen=True)
class Prepared:
    """A pair as the input of a model.

    Attributes:
        image: ``(C, H, W)``, normalized.
        caption: the caption.
        phrases: the phrases of the caption, each once, in small letters.
        boxes: boxes ``(R, 4)`` of the rival's loss.
    """

    image: Tensor
    caption: str
    phrases: Sequence[str]
    boxes: Tensor


@dataclass(frozen=True)
class Batch:
    """Pairs as the input of a model.

    Attributes:
        images: ``(n, C, H, W)``.
        captions: token ids ``(n, L)``.
        phrases: token ids ``(U, L)`` of the different phrases.
        columns: which of them belong to each picture, ``(n, K)``; -1 where it has fewer than K.
        labels: a number for each of the phrases ``(U,)``, which is the same in all processes.
        boxes: boxes of each picture ``(R, 4)``.
    """

    images: Tensor
    captions: Tensor
    phrases: Tensor
    columns: Tensor
    labels: Tensor
    boxes: list[Tensor]

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        moved = {one.name: value.to(device) for one in fields(self) if isinstance(value := vars(self)[one.name], Tensor)}
        return replace(self, **moved, boxes=[box.to(device) for box in self.boxes])


@dataclass(frozen=True)
class Place:
    """A place in the order of the data.

    Attributes:
        position: number of the place, counted over all steps from 0.
        index: number of the pair that comes there.
    """

    position: int
    index: int


class Order:
    """The order in which pairs come: each pass over the data is a permutation of its own, which the seed decides.

    Which pair comes at a place does not depend on the number of processes, nor on where a run was resumed.

    Args:
        length: number of pairs.
        seed: seed of the permutations.

    >>> order = Order(3, 0)
    >>> sorted(order[position].index for position in (3, 4, 5))
    [0, 1, 2]
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.permutation = lru_cache(maxsize=2)(
            lambda number: torch.randperm(length, generator=torch.Generator().manual_seed(_seed(seed, number))).tolist()
        )

    def __getitem__(self, position: int) -> Place:
        number, place = divmod(position, self.length)
        return Place(position, self.permutation(number)[place])


class _Reader(Dataset["Prepared | Broken"]):
    """The pairs at places, prepared; at the top of the module, so that worker processes can unpickle it."""

    def __init__(
        self,
        pairs: Pairs,
        preprocess: Callable[[Image.Image], Tensor],
        settings: TuneSettings,
        tagger: TaggerName | Tagger,
    ) -> None:
        self.pairs, self.preprocess, self.settings, self.tagger = pairs, preprocess, settings, tagger

    def __getitem__(self, place: Place) -> Prepared | Broken:
        settings = self.settings
        own = _seed(settings.seed, place.position)
        try:
            pair = self.pairs[place.index]
            if not pair.caption.strip():
                return Broken(place.index, f"{pair.id}: its caption is empty")
            # A transform that draws at random draws the same after a resume, and in any worker.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(own)
                image = self.preprocess(pair.image)
        except (OSError, ValueError) as error:
            return Broken(place.index, str(error))
        wants_phrases = settings.local in ("GradECLIP", "TokenGradCam", "MaskCLIP")
        phrases = noun_phrases(pair.caption, self.tagger, settings.phrases) if wants_phrases else []
        boxes = torch.zeros(0, 4)
        if settings.local == "CLIPSelf":
            boxes = patch_boxes(settings.boxes, torch.Generator().manual_seed(own))
        return Prepared(image, pair.caption, phrases, boxes)


def micro_batches(
    pairs: Pairs,
    preprocess: Callable[[Image.Image], Tensor],
    settings: TuneSettings,
    tagger: TaggerName | Tagger,
    *,
    first: int,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> Iterator[list[Prepared | Broken]]:
    """What a process reads from a step on: its share of each micro-batch, one after the other.

    Args:
        pairs: the data.
        preprocess: makes a picture the input of the model, ``(C, H, W)``.
        settings: batch, accumulation, seed and the number of steps.
        tagger: what tags the words of captions.
        first: the step that comes first, counted from 0.
        process: number of this process.
        processes: number of processes.
        workers: number of further processes that read for this one, 0 or more.
    """
    order, size = Order(len(pairs), settings.seed), settings.batch // settings.accumulation
    share = size // processes
    starts = range(first * settings.batch, settings.steps * settings.batch, size)
    # A sampler that is made as it is read: the places of a long run would not fit into memory.
    places = _Places(order, starts, share, process)
    reader = _Reader(pairs, preprocess, settings, tagger)
    # With a generator of its own, the loader leaves the random numbers of whoever trains alone.
    own = torch.Generator()
    yield from DataLoader(reader, batch_sampler=places, num_workers=workers, collate_fn=list, generator=own)


class _Places:
    def __init__(self, order: Order, starts: range, share: int, process: int) -> None:
        self.order, self.starts, self.share, self.process = order, starts, share, process

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[list[Place]]:
        for start in self.starts:
            own = start + self.process * self.share
            yield [self.order[position] for position in range(own, own + self.share)]


def collate(items: Sequence[Prepared], tokenizer: Tokenizer | None, tower: TextTower) -> Batch:
    """Prepared pairs as a batch.

    Args:
        items: at least one pair.
        tokenizer: the model's tokenizer; ``None`` where no text is read.
        tower: the facts of the text encoder.
    """
    different = list(dict.fromkeys(phrase for item in items for phrase in item.phrases))
    rows = {phrase: row for row, phrase in enumerate(different)}
    most = max(len(item.phrases) for item in items)
    columns = torch.full((len(items), most), -1)
    for row, item in enumerate(items):
        columns[row, : len(item.phrases)] = torch.tensor([rows[phrase] for phrase in item.phrases], dtype=torch.long)

    def tokens(texts: list[str]) -> Tensor:
        if tokenizer is None or not texts:
            return torch.zeros(0, tower.context_length, dtype=torch.long)
        return token_ids(tokenizer, texts, tower, cut=True)

    return Batch(
        images=torch.stack([item.image for item in items]),
        captions=tokens([item.caption for item in items]),
        phrases=tokens(different),
        columns=columns,
        labels=torch.tensor([_number(phrase) for phrase in different], dtype=torch.long),
        boxes=[item.boxes for item in items],
    )


def _number(phrase: str) -> int:
    """A number for a phrase, which is the same in all processes."""
    return int.from_bytes(hashlib.blake2b(phrase.encode(), digest_size=7).digest(), "big")


def _seed(*numbers: int) -> int:
    """A seed for a generator from several numbers, so that neighbors do not share their random numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "big")
