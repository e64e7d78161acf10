"""Banzhaf interactions of words and regions: what a word and a region do together, beyond what each of them does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_AT_ONCE = 512  # changed images in a forward pass


def banzhaf(
    encode: Callable[[Tensor], Tensor],
    images: Tensor,
    texts: Tensor,
    grid: tuple[int, int],
    budget: int,
    *,
    side: int = 2,
    seed: int = 0,
) -> Tensor:
    r"""Banzhaf interactions of pairs of a word and a region, in a game whose players are both.

    .. math:: M_{wp} = \mathbb{E}_{S, T} \big[ v(S \cup p, T \cup w) - v(S \cup p, T) - v(S, T \cup w) + v(S, T) \big]

    where v(S, T) is the cosine of the picture, of which only the regions in S are shown, with the caption, in which only the
    words in T stand; all other regions have the mean color. S and T are drawn uniformly. The few choices of words are
    averaged exactly, which leaves for each word a game of regions alone: what the word adds to the cosine. Its Banzhaf
    values, the best linear fit of it, are estimated by shapiq from a number of coalitions. Players are blocks of patches
    rather than patches, since one patch of many changes little.

    Args:
        encode: images ``(B, 3, H, W)`` to unit features ``(B, D)``.
        images: ``(N, 3, H, W)``, normalized so that 0 is the mean color.
        texts: unit features of each caption with every choice of its W words, ``(N, 2**W, D)``; bit w of the place says
            whether word w stands in it.
        grid: rows and columns of the patches.
        budget: number of coalitions of regions, each of which is a forward pass of each image; more than there are regions,
            or all ``2**regions``.
        side: side of the blocks in patches, at least 1 (default 2).
        seed: seed of the coalitions, which all images share (default 0).

    Returns:
        ``(N, W, *grid)``, float32, signed; the patches of a block have its value.

    Raises:
        ImportError: without the package ``shapiq``, which the extra ``interactions`` installs.
        ValueError: for a grid that does not consist of whole blocks, or a budget too small.

    >>> import pytest
    >>> _ = pytest.importorskip("shapiq")
    >>> shown = lambda x: x[:, 0, 0]  # a picture of two pixels, left and right
    >>> image, word = torch.ones(1, 1, 1, 2), torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])  # a word that needs the left one
    >>> banzhaf(shown, image, word, (1, 2), budget=4, side=1).round(decimals=3).abs()
    tensor([[[[1., 0.]]]])

    Source: Tsai, Yeh, Ravikumar: "Faith-Shap", JMLR 2023, for the fit; Baniecki et al.: "Explaining Similarity in
    Vision-Language Encoders with Weighted Banzhaf Interactions", NeurIPS 2025, for the game.
    """
    try:
        import shapiq  # noqa: F401
    except ImportError as error:
        raise ImportError("banzhaf: expected the package shapiq; pip install 'captum_gradeclip[interactions]'") from error
    rows, columns = grid[0] // side, grid[1] // side
    if (rows * side, columns * side) != tuple(grid):
        raise ValueError(f"side: expected a divisor of the {grid[0]} x {grid[1]} patches, got {side}")
    if budget < min(rows * columns + 2, 2 ** (rows * columns)):
        raise ValueError(f"budget: expected more than {rows * columns + 1} coalitions of so many regions, got {budget}")

    masks = torch.as_tensor(_coalitions(rows * columns, budget, seed), dtype=images.dtype, device=images.device)
    added = _added(texts).transpose(1, 2)
    found = []
    for image, words in zip(images, added):
        features = [encode(image * F.interpolate(some, size=image.shape[-2:])) for some in _blocks(masks, rows, columns)]
        games = (torch.cat(features) @ words).double().T.cpu().numpy()
        found.append([torch.as_tensor(values_of(game, rows * columns, budget, seed)) for game in games])
    values = torch.stack([torch.stack(one) for one in found]).to(images.device, torch.float32)
    blocks: Tensor = values.unflatten(-1, (rows, columns))
    maps: Tensor = blocks.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)
    return maps


def values_of(game: npt.NDArray[np.float64], players: int, budget: int, seed: int) -> npt.NDArray[np.float64]:
    """The Banzhaf values ``(n,)`` of a game, by the fit of its values of the coalitions that are drawn.

    Args:
        game: its values, in the order of the coalitions.
        players: number n of players.
        budget: number of coalitions.
        seed: seed of the coalitions.
    """
    from shapiq.approximator import RegressionFBII

    found = RegressionFBII(players, max_order=1, random_state=seed).approximate(budget, lambda _: game)
    values: npt.NDArray[np.float64] = found.get_n_order_values(1)
    return values


def _coalitions(players: int, budget: int, seed: int) -> npt.NDArray[np.bool_]:
    """The coalitions that are drawn, ``(number, players)``, the same for all games."""
    import numpy as np
    from shapiq.approximator import RegressionFBII

    asked: list[npt.NDArray[np.bool_]] = []

    def listen(coalitions: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        asked.append(coalitions.copy())
        return np.zeros(len(coalitions))

    RegressionFBII(players, max_order=1, random_state=seed).approximate(budget, listen)
    return asked[0]


def _blocks(masks: Tensor, rows: int, columns: int) -> tuple[Tensor, ...]:
    """Coalitions as masks ``(B, 1, rows, columns)``, as many as go through the model at once."""
    blocks: tuple[Tensor, ...] = masks.view(-1, 1, rows, columns).split(_AT_ONCE)
    return blocks


def _added(texts: Tensor) -> Tensor:
    """What each word adds to the features of a caption, the mean over all choices of the others, ``(N, W, D)``."""
    choices = torch.arange(texts.shape[1], device=texts.device)
    words = (texts.shape[1] - 1).bit_length()
    standing = [(choices >> word & 1).bool() for word in range(words)]
    return torch.stack([texts[:, one].mean(dim=1) - texts[:, ~one].mean(dim=1) for one in standing], dim=1)
