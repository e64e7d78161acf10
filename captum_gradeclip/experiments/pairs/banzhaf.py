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
    jobs: int = 1,
) -> Tensor:
    r"""Pairs of the faithful Banzhaf interaction index, in a game of regions and words.

    .. math:: \min_{\beta} \sum_{S} \Big( v(S) - \beta_0 - \sum_{i \in S} \beta_i
        - \sum_{\{i, j\} \subseteq S} M_{ij} \Big)^2

    where v(S) is the cosine of the picture, of which only the regions in S are shown, with the caption, in which only the
    words in S stand; all other regions have the mean color. Coalitions S are drawn uniformly. Players are blocks of patches
    rather than patches, since the number of unknowns grows with the square of that of the players.

    Args:
        encode: images ``(B, 3, H, W)`` to unit features ``(B, D)``.
        images: ``(N, 3, H, W)``, normalized so that 0 is the mean color.
        texts: unit features of each caption with every choice of its W words, ``(N, 2**W, D)``; bit w of the place says
            whether word w stands in it.
        grid: rows and columns of the patches.
        budget: number of coalitions that the model is asked for, of each image; there have to be more than unknowns,
            ``1 + n + n * (n - 1) / 2`` for n players.
        side: side of the blocks in patches, at least 1 (default 2).
        seed: seed of the coalitions, which all images share (default 0).
        jobs: number of processes that solve for the interactions, at least 1 (default 1).

    Returns:
        ``(N, W, *grid)``, float32, signed; the patches of a block have its value.

    Raises:
        ImportError: without the package ``shapiq``, which the extra ``interactions`` installs.
        ValueError: for a grid that does not consist of whole blocks, or a budget too small.

    >>> import pytest
    >>> _ = pytest.importorskip("shapiq")
    >>> shown = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)  # a picture of two pixels, left and right
    >>> image, word = torch.ones(1, 1, 1, 2), torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])  # a word that needs the left one
    >>> banzhaf(shown, image, word, (1, 2), budget=8, side=1).round(decimals=3).abs()
    tensor([[[[1., 0.]]]])

    Source: Tsai, Yeh, Ravikumar: "Faith-Shap", JMLR 2023, for the index; Baniecki et al.: "Explaining Similarity in
    Vision-Language Encoders with Weighted Banzhaf Interactions", NeurIPS 2025, for the game.
    """
    try:
        import joblib
        import numpy as np
        from shapiq.approximator import RegressionFBII
    except ImportError as error:
        raise ImportError("banzhaf: expected the package shapiq; pip install 'captum_gradeclip[interactions]'") from error
    rows, columns = grid[0] // side, grid[1] // side
    if (rows * side, columns * side) != tuple(grid):
        raise ValueError(f"side: expected a divisor of the {grid[0]} x {grid[1]} patches, got {side}")
    regions, words = rows * columns, (texts.shape[1] - 1).bit_length()
    players = regions + words
    unknowns = 1 + players + players * (players - 1) // 2
    if budget < min(unknowns, 2**players):
        raise ValueError(f"budget: expected at least {unknowns} coalitions for {players} players, got {budget}")

    asked: list[npt.NDArray[np.bool_]] = []

    def listen(coalitions: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        asked.append(coalitions.copy())
        return np.zeros(len(coalitions))

    RegressionFBII(players, max_order=2, random_state=seed).approximate(budget, listen)
    (coalitions,) = asked
    shown = torch.as_tensor(coalitions, device=images.device).bool()
    masks = shown[:, :regions].view(-1, 1, rows, columns).float()
    standing = (shown[:, regions:].long() * 2 ** torch.arange(words, device=images.device)).sum(dim=1)
    values = torch.stack([_values(encode, one, masks, text[standing]) for one, text in zip(images, texts)]).double().cpu()
    found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(interactions)(one, players, budget, seed) for one in values.numpy())
    pairs = torch.as_tensor(np.stack(found)[:, regions:, :regions], dtype=torch.float32, device=images.device)
    blocks: Tensor = pairs.unflatten(-1, (rows, columns))
    maps: Tensor = blocks.repeat_interleave(side, dim=-2).repeat_interleave(side, dim=-1)
    return maps


def interactions(values: npt.NDArray[np.float64], players: int, budget: int, seed: int) -> npt.NDArray[np.float64]:
    """The interactions of all pairs of players ``(n, n)``, symmetric.

    Args:
        values: the game's values of the coalitions that are drawn, in their order.
        players: number n of players.
        budget: number of coalitions.
        seed: seed of the coalitions.
    """
    from shapiq.approximator import RegressionFBII

    found = RegressionFBII(players, max_order=2, random_state=seed).approximate(budget, lambda _: values)
    pairs: npt.NDArray[np.float64] = found.get_n_order_values(2)
    return pairs


def _values(encode: Callable[[Tensor], Tensor], image: Tensor, masks: Tensor, texts: Tensor) -> Tensor:
    """Cosines ``(B,)`` of an image behind masks ``(B, 1, rows, columns)`` with a text for each of them ``(B, D)``."""
    size, found = image.shape[-2:], []
    for some, text in zip(masks.split(_AT_ONCE), texts.split(_AT_ONCE)):
        with torch.no_grad():
            found.append((encode(image * F.interpolate(some, size=size)) * text).sum(dim=-1))
    return torch.cat(found)
