"""The loss of regions and phrases: which phrase each region is of."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..arguments import check_number, one_of
from .gather import gather

Comparison = Literal["softmax", "sigmoid"]


class RegionPhraseLoss(nn.Module):
    r"""A focal loss that pulls each region embedding to its own phrase and pushes it away from the others of the batch.

    With ``"sigmoid"``, each pair is decided by itself:

    .. math:: -\frac1M \sum_{ab} \alpha_{ab} \, (1 - p_{ab})^\gamma \log p_{ab}, \quad
        p_{ab} = \sigma\big(\pm (c_{ab} / \tau + b)\big)

    with the cosine :math:`c_{ab}` of region a and phrase b, the sign + and the weight :math:`\alpha` for a pair that belongs
    together, and - and :math:`1 - \alpha` for all others. With ``"softmax"``, the phrases compete for each region, and the
    regions for each phrase:

    .. math:: -\frac{1}{2M} \sum_a \left[ (1 - p_a)^\gamma \log p_a + (1 - q_a)^\gamma \log q_a \right], \quad
        p_a = \frac{\sum_{b \in P_a} e^{c_{ab} / \tau}}{\sum_b e^{c_{ab} / \tau}}, \quad
        q_a = \frac{\sum_{b \in P_a} e^{c_{ba} / \tau}}{\sum_b e^{c_{ba} / \tau}}

    where :math:`P_a` are the phrases that are positive for a: its own, and with ``same_phrase`` all that are the same words,
    since the region of one "dog" is no negative for another "dog". The paper states neither this nor the form, the exponent
    and the weight of its focal loss; the values here are RetinaNet's and a choice of ours.

    Args:
        comparison: ``"softmax"`` (default) or ``"sigmoid"``.
        gamma: exponent that takes weight from pairs that are right already, 0 or at least 1 (default 2).
        alpha: weight of the positive pairs, above 0 and below 1, with ``"sigmoid"`` only (default 0.25).
        bias: what is added to the logits, with ``"sigmoid"`` only, at the beginning; it is trained (default -10).
        same_phrase: whether equal phrases of a batch are positives for each other (default True).

    >>> loss = RegionPhraseLoss()
    >>> loss(torch.eye(2), torch.eye(2), torch.tensor(100.0), torch.tensor([0, 1])).round()
    tensor(0.)

    Source: Zhao et al., arXiv 2502.18816v1, equation 22; Lin et al.: "Focal Loss", ICCV 2017.
    """

    def __init__(
        self,
        comparison: Comparison = "softmax",
        gamma: float = 2.0,
        alpha: float = 0.25,
        bias: float = -10.0,
        same_phrase: bool = True,
    ) -> None:
        super().__init__()
        self.comparison = one_of("comparison", comparison, Comparison)
        check_number("gamma", gamma, least=0)
        if 0 < gamma < 1:  # whose derivative is infinite where a pair is right already
            raise ValueError(f"gamma: expected 0 or at least 1, got {gamma:g}")
        check_number("alpha", alpha, above=0, below=1)
        check_number("bias", bias)
        self.gamma, self.alpha, self.same_phrase = gamma, alpha, same_phrase
        self.bias = nn.Parameter(torch.tensor(float(bias))) if comparison == "sigmoid" else None

    def forward(self, regions: Tensor, phrases: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
        r"""The loss, a scalar of 0 or more; 0, with a graph, where no process has a region.

        Args:
            regions: unit region embeddings of this process ``(m, D)``, any number of them.
            phrases: unit features of their phrases ``(m, D)``.
            scale: the factor :math:`1 / \tau` of the cosines, a scalar above 0.
            labels: what phrase each is, ``(m,)``, integer, the same number for the same words.

        Raises:
            ValueError: if there are not as many phrases and labels as regions.
        """
        if regions.shape != phrases.shape or labels.shape != regions.shape[:1]:
            raise ValueError(
                f"phrases, labels: expected {tuple(regions.shape)} and ({len(regions)},), one for each region, got"
                f" {tuple(phrases.shape)} and {tuple(labels.shape)}"
            )
        regions, phrases, labels = gather(regions), gather(phrases), gather(labels)
        logits = scale * regions @ phrases.T
        if not len(labels):
            return logits.sum() + (0 if self.bias is None else 0 * self.bias)
        own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = labels[:, None] == labels if self.same_phrase else own
        if self.bias is not None:
            from torchvision.ops import sigmoid_focal_loss

            pairs: Tensor = sigmoid_focal_loss(logits + self.bias, positive.to(logits), self.alpha, self.gamma)
            return pairs.sum() / len(labels)
        return (self._focal(logits, positive) + self._focal(logits.T, positive)) / 2

    def _focal(self, logits: Tensor, positive: Tensor) -> Tensor:
        hidden = logits.masked_fill(~positive, -torch.inf)
        surprise = logits.logsumexp(dim=1) - hidden.logsumexp(dim=1)  # -log p
        # Rounding may leave a probability just above 1, and a power of what is below 0 need not be a number.
        return ((1 - (-surprise).exp()).clamp(min=0) ** self.gamma * surprise).mean()
