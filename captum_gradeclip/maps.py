"""From tokens to what people see: the patch grid, the pixels of the original file, the words, the scale for the eye."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_PREFIX_TOKENS = 16
MOST_PREFIX_OTHERWISE = 5  # where no patch size divides the sides, nearly any number of tokens would fit something


def infer_grid(tokens: int, size: Sequence[int]) -> tuple[int, tuple[int, int]]:
    """The patch grid behind a number of key tokens.

    The smallest prefix ``p`` (class and register tokens) for which some patch size ``P`` gives
    ``(H // P) * (W // P) == tokens - p``. A patch size that divides both sides is preferred, as long as the prefix stays
    below 17: small oblong images would otherwise fit a wrong patch size with a smaller prefix.

    Args:
        tokens: number of key tokens.
        size: height and width of the image in pixels.

    Returns:
        ``(prefix, (h, w))``.

    Raises:
        ValueError: if no patch size fits.

    >>> infer_grid(197, (224, 224)), infer_grid(261, (224, 224)), infer_grid(1201, (480, 640))
    ((1, (14, 14)), (5, (16, 16)), (1, (30, 40)))
    """
    height, width = size
    best: dict[bool, tuple[int, tuple[int, int]]] = {}
    for patch in range(min(height, width), 0, -1):
        grid = height // patch, width // patch
        prefix = tokens - grid[0] * grid[1]
        if prefix < 0:
            break
        exact = height % patch == 0 and width % patch == 0
        if exact not in best or prefix < best[exact][0]:
            best[exact] = prefix, grid
    if True in best and best[True][0] <= MOST_PREFIX_TOKENS:
        return best[True]
    if False in best and best[False][0] <= MOST_PREFIX_OTHERWISE:
        return best[False]
    raise ValueError(
        f"layer: {tokens} key tokens are not a patch grid of a {height} x {width} image with up to {MOST_PREFIX_TOKENS}"
        " prefix tokens; is patch dropout active (train mode), or is it a layer of another tower?"
    )


@dataclass(frozen=True)
class Frame:
    """Where the model's input lies in the picture file: a box in the file's pixels.

    The box is smaller than the picture after a centre crop, and reaches beyond it after letterboxing.

    >>> Frame.crop((640, 480)).box
    (80.0, 0.0, 560.0, 480.0)
    >>> Frame.letterbox((640, 480)).box
    (0.0, -80.0, 640.0, 560.0)
    """

    size: tuple[int, int]
    """Width and height of the picture file."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom edge of the model's input."""

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Frame:
        """The input is the whole picture, resized (with or without its aspect)."""
        return cls(size, (0.0, 0.0, float(size[0]), float(size[1])))

    @classmethod
    def crop(cls, size: tuple[int, int], aspect: float = 1.0) -> Frame:
        """The input is the largest centred box of a given width by height."""
        width = min(float(size[0]), size[1] * aspect)
        height = width / aspect
        left, top = (size[0] - width) / 2, (size[1] - height) / 2
        return cls(size, (left, top, left + width, top + height))

    @classmethod
    def letterbox(cls, size: tuple[int, int], aspect: float = 1.0) -> Frame:
        """The input is the whole picture, padded to a given width by height."""
        width = max(float(size[0]), size[1] * aspect)
        height = width / aspect
        left, top = (size[0] - width) / 2, (size[1] - height) / 2
        return cls(size, (left, top, left + width, top + height))

    def resized(self, size: tuple[int, int]) -> Frame:
        """The same place in the picture at another size.

        >>> Frame.crop((640, 480)).resized((320, 240)).box
        (40.0, 0.0, 280.0, 240.0)
        """
        x, y = size[0] / self.size[0], size[1] / self.size[1]
        left, top, right, bottom = self.box
        return Frame(size, (left * x, top * y, right * x, bottom * y))


def to_pixels(attributions: Tensor, frame: Frame) -> Tensor:
    """Maps of the model's input as maps of the picture file, bilinear, zero where the model saw nothing.

    Args:
        attributions: ``(..., h, w)``, on the patch grid or any resolution of the model's input.
        frame: where that input lies in the file.

    Returns:
        ``(..., height, width)`` of the file; for a frame that is the whole picture the same as
        ``F.interpolate(mode="bilinear", align_corners=False)``.

    >>> to_pixels(torch.ones(1, 2, 2), Frame.crop((6, 2)))[0, 0]
    tensor([0., 0., 1., 1., 0., 0.])
    """
    width, height = frame.size
    left, top, right, bottom = frame.box
    # Pixel centres of the file in the coordinates of grid_sample, where the input spans -1 to 1.
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - left) / (right - left) * 2 - 1
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - top) / (bottom - top) * 2 - 1
    seen = ((y.abs() <= 1)[:, None] & (x.abs() <= 1)[None, :]).to(attributions.device)
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(attributions.device, torch.float32)
    flat = attributions.reshape(1, -1, *attributions.shape[-2:]).float()
    sampled = F.grid_sample(flat, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return (sampled * seen).reshape(*attributions.shape[:-2], height, width)


def normalise(attributions: Tensor, dims: int = 2) -> Tensor:
    """Stretches maps to [0, 1] for the eye, each over its last ``dims`` dimensions; metrics that need it do it themselves.

    A constant map becomes all zeros, and values that are not finite count as zero, so that nothing that draws can fail.

    >>> normalise(torch.tensor([[0.0, 2.0], [1.0, 4.0]]))
    tensor([[0.0000, 0.5000],
            [0.2500, 1.0000]])
    >>> normalise(torch.full((2, 2), 3.0)).max()
    tensor(0.)
    """
    x = torch.nan_to_num(attributions.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    axes = tuple(range(-dims, 0))
    low, high = x.amin(axes, keepdim=True), x.amax(axes, keepdim=True)
    span = high - low
    return torch.where(span > 0, (x - low) / torch.where(span > 0, span, 1.0), 0.0)


def merge_words(attributions: Tensor, tokens: Tensor, tokenizer: Any) -> list[list[tuple[str, float]]]:
    """Token weights as word weights: sub-words summed; SOS, EOS and padding left out.

    Args:
        attributions: ``(N, L)``, or ``(L,)`` for one caption.
        tokens: the token ids ``(N, L)`` that were explained, or ``(L,)``.
        tokenizer: the one that made them, of open_clip or transformers.

    Returns:
        Per caption, ``[(word, weight), ...]`` in reading order; the weights of a caption add up to those of its tokens.

    Raises:
        ValueError: if the shapes differ.

    >>> from captum_gradeclip import scenes
    >>> _, _, tokenizer = scenes.load()
    >>> tokens = tokenizer(["a red octagon"])
    >>> words = merge_words(torch.ones(tokens.shape), tokens, tokenizer)[0]
    >>> [word for word, weight in words]
    ['a', 'red', 'octagon']
    """
    if attributions.shape != tokens.shape or tokens.dim() not in (1, 2):
        raise ValueError(
            f"attributions: expected one value per token id {tuple(tokens.shape)}, got shape {tuple(attributions.shape)}"
        )
    if tokens.dim() == 1:
        attributions, tokens = attributions[None], tokens[None]
    speller = _Speller(tokenizer)
    return [speller.words(ids, weights) for ids, weights in zip(tokens.tolist(), attributions.tolist())]


class _Speller:
    """What the tokenizers of open_clip and transformers have in common: special ids, pieces, and where words begin."""

    def __init__(self, tokenizer: Any) -> None:
        # open_clip wraps the tokenizers of transformers.
        inner = tokenizer if hasattr(tokenizer, "all_special_ids") else getattr(tokenizer, "tokenizer", tokenizer)
        if not hasattr(inner, "all_special_ids") or not hasattr(inner, "decode"):
            raise TypeError(
                f"tokenizer: expected one of open_clip or transformers, got {type(tokenizer).__name__}, which lacks"
                " all_special_ids or decode"
            )
        self.inner = inner
        self.special = set(inner.all_special_ids)
        vocabulary: dict[str, int] = inner.get_vocab() if hasattr(inner, "get_vocab") else inner.encoder
        self.pieces = {number: piece for piece, number in vocabulary.items()}
        # CLIP's pieces say where a word ends; sentence-piece and GPT say where one begins; BERT where it goes on.
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
        return [(self.inner.decode(numbers).strip(), weight) for numbers, weight in words]

    def _content(self, ids: list[int]) -> list[int]:
        """Positions between the start and the end mark; padding behind the end may have any id, even a letter's."""
        start = 0
        for name in ("sot_token_id", "bos_token_id", "cls_token_id"):
            if (mark := getattr(self.inner, name, None)) in ids and mark is not None:
                start = ids.index(mark) + 1
                break
        ends = {getattr(self.inner, name, None) for name in ("eot_token_id", "eos_token_id", "sep_token_id")}
        content: list[int] = []
        for position in range(start, len(ids)):
            if ids[position] in ends and (start or content):
                break
            if ids[position] not in self.special:
                content.append(position)
        return content


_BEGINS = ("\u0120", "\u2581")


def nearest_multiple(length: float, unit: int) -> int:
    """``length`` rounded to a multiple of ``unit``, at least one.

    >>> nearest_multiple(478, 16), nearest_multiple(3, 16)
    (480, 16)
    """
    return max(1, math.floor(length / unit + 0.5)) * unit
