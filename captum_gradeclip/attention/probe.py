"""What the tokens of a layer stand for, shown by what moves when one patch of the picture changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from .calls import AttentionMode
from .layout import examples_axis
from .record import LayerError, Record
from .tap import Arguments, Function, Keywords, Tap

Grid = tuple[int, int]
_Run = Callable[[Tensor, Tap], object]


class _Stop(Exception):
    """Leaves a forward pass of which enough has been seen."""


class Entry(Tap):
    """Context in which a forward pass ends in front of a layer.

    Args:
        layer: the layer.
        look: given the module that runs (the layer, or a view of it in another size) and its arguments.
    """

    def __init__(self, layer: nn.Module, look: Callable[[nn.Module, Arguments, Keywords], None]) -> None:
        self._layer, self._look = layer, look

    def _taps(self) -> Iterator[tuple[nn.Module, Function]]:
        yield self._layer, self._stop

    def _stop(self, module: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        if self._here:
            self._look(module, args, kwargs)
            raise _Stop


def shown_patches(
    run: _Run,
    layers: tuple[nn.Module, nn.Module],
    image: Tensor,
    rows: int,
    grids: Sequence[Grid],
) -> tuple[int, Grid] | None:
    """The place and the grid of the patches among the keys of a layer, or ``None`` if they are none, or in another order.

    At the entry of the first block, the token that moves most when a patch of the picture changes is the token of this
    patch. The corners and some patches between must follow each other in raster order. At the entry of the chosen layer
    there must be as many tokens, and each must move its own key most, which no channel or reduced token does.

    Args:
        run: runs the model on images ``(n, C, H, W)`` inside a context.
        layers: the first block, and the layer whose keys are meant.
        image: one image ``(1, C, H, W)``.
        rows: number of keys.
        grids: rows and columns of the patches that are possible, the most probable first.

    Returns:
        The number of keys in front of the patches, and their grid.

    >>> patches = nn.Unfold(8, stride=8)  # (n, 3 * 64, 4) of an image of 16 x 16
    >>> attention = nn.MultiheadAttention(192, 2, batch_first=True).eval()
    >>> def run(images, context):
    ...     tokens = patches(images).mT
    ...     with torch.no_grad(), context:
    ...         attention(tokens, tokens, tokens)
    >>> shown_patches(run, (attention, attention), torch.rand(1, 3, 16, 16), 4, [(2, 2)])
    (0, (2, 2))
    """
    first, layer = layers
    front = _keys_follow_tokens(run, layer, image, rows)
    if front is None:
        return None
    for grid in grids:
        start = _raster_start(run, first, image, rows - front, grid)
        if start is not None:
            return start + front, grid
    return None


def _raster_start(
    run: Callable[[Tensor, Tap], object], first: nn.Module, image: Tensor, count: int, grid: Grid
) -> int | None:
    """The token of the first patch, if the others follow it in raster order."""
    h, w = grid
    places = sorted(
        {(0, 0), (0, w - 1), (h - 1, 0), (h - 1, w - 1), (0, min(1, w - 1)), (min(1, h - 1), 0), (h // 2, w // 2)}
    )
    height, width = image.shape[-2] // h, image.shape[-1] // w
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
    images = image.repeat(len(places) + 1, 1, 1, 1)
    for changed, (i, j) in zip(images[1:], places):
        box = (..., slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width))
        changed[box] = changed[box] + (1 + image.abs().amax()) * noise[0][box]
    seen: list[Tensor | None] = []

    def look(_: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        given = _tokens(args, kwargs, len(images), count)
        seen.append(None if given is None else given[1])

    _run(run, images, Entry(first, look))
    if not seen or seen[0] is None:
        return None
    moved = (seen[0][1:] - seen[0][:1]).double().norm(dim=-1).argmax(dim=-1).tolist()
    start = int(moved[0])
    in_order = all(row == start + i * w + j for row, (i, j) in zip(moved, places))
    return start if in_order and start + h * w <= count else None


def _keys_follow_tokens(run: _Run, layer: nn.Module, image: Tensor, rows: int) -> int | None:
    """The number of keys in front of those that stand for the layer's own tokens; ``None`` if the keys are no tokens."""
    found: list[int | None] = []

    def look(module: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        given = _tokens(args, kwargs, len(image), rows)
        if given is None:
            return
        tensor, tokens = given
        keys = _keys(module, args, kwargs)
        front = keys.shape[-2] - tokens.shape[1]
        fits = front >= 0
        for token in sorted({0, tokens.shape[1] // 2, tokens.shape[1] - 1}):
            other = tokens.clone()
            noise = torch.randn(other.shape[-1], generator=torch.Generator().manual_seed(0)).to(other)
            other[:, token] = other[:, token] + (1 + other.abs().amax()) * noise
            moved = _keys(module, *_exchanged(args, kwargs, tensor, _back(other, tensor)))
            row = int((moved - keys).double().norm(dim=-1).sum(dim=1)[0].argmax()) if moved.shape == keys.shape else -1
            fits = fits and row == token + front
        found.append(rows - tokens.shape[1] if fits else None)

    _run(run, image, Entry(layer, look))
    return found[0] if found else None


def _run(run: _Run, images: Tensor, entry: Entry) -> None:
    with suppress(_Stop):
        run(images, entry)


def _keys(layer: nn.Module, args: Arguments, kwargs: Keywords) -> Tensor:
    seen: list[Tensor] = []

    def see(record: Record) -> Tensor:
        seen.append(record.key)
        raise _Stop

    try:
        with AttentionMode(see, None):
            layer.forward(*args, **kwargs)
    except _Stop:
        return seen[0]
    raise LayerError(f"layer: {type(layer).__name__} made no attention call")


def _tokens(args: Arguments, kwargs: Keywords, batch: int, rows: int) -> tuple[Tensor, Tensor] | None:
    """The layer's tokens as it is given them, and as ``(batch, tokens, width)``; up to one key stands for none of them."""
    for x in (*args, *kwargs.values()):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            continue
        if x.dim() == 3:
            tokens = x if x.shape[0] == batch and x.shape[1] in (rows, rows - 1) else x.transpose(0, examples_axis(x, batch))
        elif x.dim() == 4 and x.shape[2] * x.shape[3] in (rows, rows - 1):
            tokens = x.flatten(2).mT
        elif x.dim() == 4 and x.shape[1] * x.shape[2] in (rows, rows - 1):
            tokens = x.flatten(1, 2)
        else:
            continue
        if tokens.shape[0] == batch and tokens.shape[1] in (rows, rows - 1):
            return x, tokens
    return None


def _back(tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens ``(batch, tokens, width)`` in the layout in which the layer was given them."""
    if like.dim() == 3:
        return tokens if tokens.shape == like.shape else tokens.transpose(0, 1)
    if like.shape[2] * like.shape[3] == tokens.shape[1]:
        return tokens.mT.reshape(like.shape)
    return tokens.reshape(like.shape)


def _exchanged(args: Arguments, kwargs: Keywords, old: Tensor, new: Tensor) -> tuple[Arguments, Keywords]:
    def each(x: object) -> object:
        return new if x is old else x

    return tuple(map(each, args)), {name: each(x) for name, x in kwargs.items()}
