"""Parts: one map of a long caption, made of those of its words or phrases."""

from __future__ import annotations

import torch
from torch import Tensor

from ..arguments import check_finite, check_tensor


def by_parts(maps: Tensor) -> Tensor:
    r"""The maximum over several maps, each with its highest value at 1: what any of the parts of a caption is about.

    .. math:: m_p = \max_i \frac{\max(M_{ip}, 0)}{\max_q M_{iq}}

    The map of a whole caption often lights but one of the things that it names, since it shows what changes the score most.
    Here each part has the same say.

    Args:
        maps: ``(N, K, h, w)``, of K words or phrases of each caption, finite. Leave out words that mean nothing visible,
            since each part is stretched.

    Returns:
        ``(N, 1, h, w)``, 0 to 1. A part without any positive value adds nothing.

    Raises:
        TypeError, ValueError: for another shape, or values that are not finite.

    >>> by_parts(torch.tensor([[[[4.0, 0.0, 1.0]], [[-1.0, 0.5, 0.0]]]]))
    tensor([[[[1.0000, 1.0000, 0.2500]]]])
    """
    check_finite("maps", check_tensor("maps", maps, "(N, K, h, w)", kind="floats"))
    positive = maps.clamp(min=0)
    highest = positive.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
    return (positive / highest).amax(dim=1, keepdim=True)
