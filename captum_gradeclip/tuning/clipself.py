"""CLIPSelf, the rival: the dense feature of a box is to be what the model had for the picture that is cut out of the box."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..arguments import check_number, check_tensor
from .gather import gather


class CLIPSelfLoss(nn.Module):
    r"""One minus the cosine of the features of boxes with those of their crops, on average.

    .. math:: \frac1M \sum_a \big(1 - \cos(F_a, f_a)\big)

    with the dense feature :math:`F_a` of box a and the feature :math:`f_a` that the frozen model has for its crop.

    >>> CLIPSelfLoss()(torch.eye(2), torch.eye(2))
    tensor(0.)

    Source: Wu et al.: "CLIPSelf", ICLR 2024.
    """

    def forward(self, boxes: Tensor, crops: Tensor) -> Tensor:
        """The loss over the boxes of all processes, a scalar from 0 to 2; 0, with a graph, where there is none.

        Args:
            boxes: unit features of the boxes of this process ``(m, D)``.
            crops: unit features of their crops ``(m, D)``.

        Raises:
            ValueError: if there are not as many crops as boxes.
        """
        if boxes.shape != crops.shape:
            raise ValueError(f"crops: expected {tuple(boxes.shape)}, one for each box, got {tuple(crops.shape)}")
        boxes, crops = gather(boxes), gather(crops)  # of which each process may have another number
        return (1 - (boxes * crops).sum(dim=-1)).mean() if len(boxes) else boxes.sum()


def patch_boxes(count: int, generator: torch.Generator, most: int = 6) -> Tensor:
    """The cells of a grid over a picture, whose numbers of rows and columns are drawn from 1 to ``most``.

    Args:
        count: largest number of cells that are kept, drawn at random, at least 1.
        generator: the source of random numbers.
        most: largest number of rows and of columns, at least 1 (default 6).

    Returns:
        Boxes ``(R, 4)`` with R of at most ``count``: left, top, right and bottom as shares of the picture.

    >>> patch_boxes(100, torch.Generator().manual_seed(0), most=1)
    tensor([[0., 0., 1., 1.]])
    """
    check_number("count", count, whole=True, least=1)
    check_number("most", most, whole=True, least=1)
    rows, columns = (int(one) for one in torch.randint(1, most + 1, (2,), generator=generator))
    top, left = (one.flatten() for one in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    cells = torch.stack([left / columns, top / rows, (left + 1) / columns, (top + 1) / rows], dim=1)
    return cells[torch.randperm(len(cells), generator=generator)[:count]]


def crops(images: Tensor, boxes: list[Tensor]) -> Tensor:
    """What lies inside of boxes, each enlarged bilinearly to the size of the images.

    Args:
        images: ``(N, C, H, W)``.
        boxes: the boxes of each image ``(R, 4)``, as shares of its width and height.

    Returns:
        ``(sum of R, C, H, W)``, those of the first image first.

    >>> crops(torch.ones(1, 3, 4, 4), [torch.tensor([[0.0, 0.0, 0.5, 0.5]])]).shape
    torch.Size([1, 3, 4, 4])
    """
    check_tensor("images", images, "(N, C, H, W)", kind="floats")
    height, width = images.shape[-2:]
    found = []
    for image, own in zip(images, boxes):
        for box in (own * own.new_tensor([width, height, width, height])).tolist():
            left, top = int(box[0]), int(box[1])
            right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
            part = image[None, :, top:bottom, left:right]
            found.append(F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False))
    return torch.cat(found) if found else images[:0]
