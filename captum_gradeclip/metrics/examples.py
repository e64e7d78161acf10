"""What a metric is given: images, one map for each, and the model that is run on changed images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..arguments import check_finite, check_numbers, check_tensor
from .scoring import known

MAPS = "(N, h, w)", "(N, 1, h, w)"


def check_images(images: object) -> Tensor:
    """The images ``(N, C, H, W)`` themselves.

    Raises:
        TypeError, ValueError: if they are no finite floating-point images.
    """
    found = check_tensor("images", images, "(N, C, H, W)", kind="floats")
    check_finite("images", found)
    return found


def check_maps(maps: object) -> Tensor:
    """Maps ``(N, h, w)`` of maps ``(N, h, w)`` or ``(N, 1, h, w)``.

    Raises:
        TypeError, ValueError: for anything else, or values that are not finite.
    """
    found = check_tensor("maps", maps, *MAPS)
    check_finite("maps", found)
    return found[:, 0] if found.dim() == 4 else found


def check_seeds(seeds: Sequence[int] | None, examples: int) -> Sequence[int]:
    """One seed for each example: those that are given, or 0, 1, ...

    Raises:
        TypeError: for anything but integers.
        ValueError: for another number of them, or negative ones.
    """
    if seeds is None:
        return range(examples)
    found = [int(seed) for seed in check_numbers("seeds", seeds, whole=True, least=0, below=2**63)]
    if len(found) != examples:
        raise ValueError(f"seeds: expected one for each of the images, {examples}, got {len(found)}")
    return found


def channel_values(name: str, numbers: Sequence[float], images: Tensor) -> Tensor:
    """The numbers of a normalization, ``(1, C, 1, 1)`` or ``(1, 1, 1, 1)``, as the images have them.

    Raises:
        TypeError: for anything but numbers.
        ValueError: for another count than one for each channel, unless all are equal.
    """
    given = check_colors(name, numbers)
    if len(set(given)) == 1:
        given = given[:1]
    if len(given) not in (1, images.shape[1]):
        raise ValueError(f"{name}: expected one number for each of {images.shape[1]} channels, got {len(given)}")
    return torch.tensor(given, device=images.device, dtype=images.dtype).view(1, -1, 1, 1)


def check_colors(name: str, given: Sequence[float]) -> tuple[float, ...]:
    """The numbers of a normalization as a tuple.

    Raises:
        TypeError: for anything but numbers.
        ValueError: for none, or a standard deviation (``name`` is ``"std"``) that is not above 0.
    """
    numbers = tuple(check_numbers(name, given, above=0 if name == "std" else None))
    if not numbers:
        raise ValueError(f"{name}: expected a number for each channel, got none")
    return numbers


def answers(forward_func: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a model answers for images, ``(B, T)``, without a graph.

    Args:
        forward_func: a function from images ``(B, C, H, W)`` to outputs ``(B, T)``.
        images: ``(B, C, H, W)``.

    Raises:
        TypeError: if the answer is no tensor.
        ValueError: if it has another shape, or NaN among it, which is neither right nor wrong.
    """
    with torch.no_grad():
        output = forward_func(images)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"forward_func: expected a tensor (N, T), got {type(output).__name__}; wrap the model in a function that returns"
            " its logits or similarities"
        )
    if output.dim() != 2 or len(output) != len(images) or not output.shape[1]:
        raise ValueError(f"forward_func: expected ({len(images)}, T) for {len(images)} images, got {tuple(output.shape)}")
    return known(output)
