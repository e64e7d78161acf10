"""Baseline images: what stands in the place of pixels that are hidden from a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import one_of
from .examples import channel_values, check_images, check_seeds

Baseline = Literal["random", "black", "blur", "mean", "own-mean"]
"""What stands in the place of hidden pixels, see :func:`baseline`."""


def baseline(
    images: Tensor, kind: Baseline, mean: Sequence[float], std: Sequence[float], seeds: Sequence[int] | None = None
) -> Tensor:
    """Makes the baseline of each image.

    Args:
        images: ``(N, C, H, W)``, normalized by ``mean`` and ``std``.
        kind: ``"random"``, an independent color of 8 bits per channel for every pixel; ``"black"``; ``"mean"``, the mean
            color of the normalization, which becomes zero; ``"own-mean"``, the mean color of the image itself; or
            ``"blur"``, the image under a Gaussian kernel of 11 x 11 pixels with a standard deviation of 5, cut off at its
            border. That of RISE's code is flatter, since its tails are mirrored at that border.
        mean: mean of the images' normalization, one number per channel, in a color range of 0 to 1.
        std: standard deviation of the images' normalization, one number above 0 per channel.
        seeds: one seed per image for its random colors, so that all methods are judged on the same ones (default 0, 1, ...).

    Returns:
        ``(N, C, H, W)``, normalized as the images are.

    Raises:
        TypeError, ValueError: if an argument is not as above.

    >>> baseline(torch.ones(1, 3, 2, 2), "black", (0.5,) * 3, (0.5,) * 3).unique()
    tensor([-1.])

    Source: random and black pixels as in the released code of arXiv 2502.18816, a blur after Petsiuk, Das, Saenko: "RISE",
    BMVC 2018; the means are ours.
    """
    one_of("kind", kind, Baseline)
    check_images(images)
    numbers = check_seeds(seeds, len(images))
    if kind == "mean":
        return torch.zeros_like(images)
    if kind == "own-mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    if kind == "blur":
        kernel = torch.exp(-torch.arange(-5, 6, device=images.device, dtype=torch.float32).square() / 50)
        kernel = (kernel / kernel.sum()).to(images.dtype)
        channels = images.shape[1]
        padded = F.pad(images, (5, 5, 5, 5), mode="reflect" if min(images.shape[-2:]) > 5 else "replicate")
        # The Gaussian is separable: two passes of 11 weights instead of one of 121.
        across = F.conv2d(padded, kernel.view(1, 1, 1, 11).expand(channels, -1, -1, -1), groups=channels)
        return F.conv2d(across, kernel.view(1, 1, 11, 1).expand(channels, -1, -1, -1), groups=channels)
    offset, scale = channel_values("mean", mean, images), channel_values("std", std, images)
    if kind == "black":
        return ((0 - offset) / scale).expand_as(images)
    sources = (torch.Generator().manual_seed(seed) for seed in numbers)
    noise = [torch.randint(0, 255, images.shape[1:], generator=source) for source in sources]
    return (torch.stack(noise).to(images.device, images.dtype) / 255 - offset) / scale
