"""The contrastive loss of pictures and captions: what ordinary fine-tuning minimizes."""

from __future__ import annotations

from torch import Tensor, nn

from .gather import gather


class GlobalContrastiveLoss(nn.Module):
    r"""CLIP's symmetric contrastive loss, over the pairs of all processes.

    .. math:: -\frac{1}{2B} \sum_i \left[ \log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ij} / \tau}} +
        \log \frac{e^{s_{ii} / \tau}}{\sum_j e^{s_{ji} / \tau}} \right]

    with the cosines :math:`s` of B pictures and B captions. It is open_clip's own loss, on gathered features.

    >>> import torch
    >>> loss = GlobalContrastiveLoss()
    >>> loss(torch.eye(2), torch.eye(2), torch.tensor(100.0)).round()
    tensor(0.)

    Source: Zhao et al., arXiv 2502.18816v1, equation 21; Radford et al., ICML 2021.
    """

    def __init__(self) -> None:
        super().__init__()
        from open_clip import ClipLoss

        self.loss: nn.Module = ClipLoss()

    def forward(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        r"""The loss, a scalar of 0 or more.

        Args:
            image: unit features of the pictures of this process ``(n, D)``.
            text: unit features of their captions ``(n, D)``.
            scale: the factor :math:`1 / \tau` of the cosines, a scalar above 0.

        Raises:
            ValueError: if there are not as many captions as pictures.
        """
        if image.shape != text.shape:
            raise ValueError(
                f"text: expected features {tuple(image.shape)}, a caption for each picture, got {tuple(text.shape)}"
            )
        loss: Tensor = self.loss(gather(image), gather(text), scale)
        return loss
