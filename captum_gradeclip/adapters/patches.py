"""Patches: images cut into rows of numbers, as models of any size and aspect take them, and put together again."""

from __future__ import annotations

import torch
from torch import Tensor


def cut(images: Tensor, patch: int) -> Tensor:
    """Cuts images ``(N, C, H, W)`` into patches ``(N, h * w, patch * patch * C)`` in raster order, channels last.

    >>> cut(torch.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 1]
    tensor([2., 3., 6., 7.])
    """
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    apart: Tensor = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # (N, C, h, p, w, p)
    return apart.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def joined(patches: Tensor, places: Tensor, patch: int, channels: int) -> Tensor:
    """Puts the patches of one image together, each at its place.

    Args:
        patches: the patches ``(L, patch * patch * C)``, channels last, without padding.
        places: row and column of each patch ``(L, 2)``, integers from 0.
        patch: side length of a patch in pixels.
        channels: number C of channels of an image.

    Returns:
        The image ``(C, H, W)``.

    Raises:
        ValueError: if the patches have another number of values, or do not fill the grid, each place once.

    >>> image = torch.arange(24.0).reshape(1, 4, 6)
    >>> places = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    >>> torch.equal(joined(cut(image[None], 2)[0], places, 2, 1), image)
    True
    """
    if patches.shape[-1] != patch * patch * channels:
        raise ValueError(
            f"images: expected patches of {patch} x {patch} pixels in {channels} channels, {patch * patch * channels} values"
            f" each, got {patches.shape[-1]}; cut them with the model's own patch size"
        )
    rows, columns = (int(side) + 1 for side in places.amax(dim=0)) if len(places) else (0, 0)
    order = (places[:, 0] * columns + places[:, 1]).argsort()
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(places)
    if not len(places) or not torch.equal(places[order], grid):
        raise ValueError(
            f"images: expected a patch for each place of an image, got {len(places)} for {rows} x {columns} places; give"
            " whole images, none of whose patches were dropped"
        )
    apart: Tensor = patches[order].unflatten(1, (patch, patch, channels)).unflatten(0, (rows, columns))  # (h, w, p, p, C)
    return apart.permute(4, 0, 2, 1, 3).flatten(3).flatten(1, 2)
