"""Region embeddings: what a model has for the part of a picture that a map marks, a box or a mask."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..arguments import check_finite, check_tensor


def region_embeddings(maps: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    r"""The dense features of a picture, weighted by maps of it.

    .. math:: R_k = \sum_p H_k(p) \, F(p)

    Args:
        maps: maps H of K phrases of each picture, ``(N, K, h, w)``, finite, 0 or more; their scale does not count.
        dense: dense features F of the same pictures on the same grid, ``(N, D, h, w)``, finite.

    Returns:
        Unit vectors ``(N, K, D)``, and which of them there are, ``(N, K)``, boolean: a map that is 0 everywhere marks no
        region, and its vector is 0.

    Raises:
        TypeError: for anything but floating-point tensors.
        ValueError: for shapes that do not fit, or values that are not finite or below 0.

    >>> maps, dense = torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]]), torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]])
    >>> region_embeddings(maps, dense)
    (tensor([[[1., 0.],
             [0., 0.]]]), tensor([[ True, False]]))

    Source: Zhao et al., arXiv 2502.18816v1, section 6.
    """
    check_finite("maps", check_tensor("maps", maps, "(N, K, h, w)", kind="floats"))
    check_finite("dense", check_tensor("dense", dense, "(N, D, h, w)", kind="floats"))
    if (len(maps), *maps.shape[2:]) != (len(dense), *dense.shape[2:]):
        raise ValueError(
            f"maps: expected ({len(dense)}, K, {dense.shape[2]}, {dense.shape[3]}), on the grid of the dense features, got"
            f" {tuple(maps.shape)}"
        )
    if bool((maps < 0).any()):
        raise ValueError("maps: expected weights of at least 0, got negative ones; take ReLU of signed maps first")
    return weighted(maps, dense)


def weighted(maps: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """The same without checks: what is not a number becomes an embedding that is none, and a loss that is none."""
    largest = maps.amax(dim=(2, 3), keepdim=True)
    found = largest[..., 0, 0] != 0
    # The scale does not count, but weights near the smallest number of a data type would lose their digits.
    weights = (maps / largest.where(largest != 0, 1)).to(dense.dtype)
    return F.normalize(torch.einsum("nkhw,ndhw->nkd", weights, dense), dim=-1), found


def box_features(dense: Tensor, boxes: list[Tensor]) -> Tensor:
    """The mean dense feature inside each box, by RoIAlign to one cell.

    Args:
        dense: dense features ``(N, D, h, w)``.
        boxes: the boxes of each of the N pictures, ``(R, 4)``: left, top, right and bottom as shares of the width and height
            that the grid covers, 0 to 1.

    Returns:
        Unit vectors ``(sum of R, D)``, those of the first picture first.

    Raises:
        ValueError: for another number of lists than of pictures, or boxes without an area or outside of the picture.

    >>> dense = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    >>> box_features(dense, [torch.tensor([[0.0, 0.0, 0.5, 1.0]])])
    tensor([[1., 0.]])

    Source: Wu et al.: "CLIPSelf", ICLR 2024 (scale 1 on grid coordinates, adaptive sampling, aligned).
    """
    from torchvision.ops import roi_align

    check_tensor("dense", dense, "(N, D, h, w)", kind="floats")
    if len(boxes) != len(dense):
        raise ValueError(f"boxes: expected one tensor (R, 4) for each of {len(dense)} pictures, got {len(boxes)}")
    rows, columns = dense.shape[-2:]
    scale = dense.new_tensor([columns, rows, columns, rows])
    for one in boxes:
        if one.dim() != 2 or one.shape[1] != 4:
            raise ValueError(f"boxes: expected (R, 4) for each picture, got shape {tuple(one.shape)}")
        if bool((one < 0).any() or (one > 1).any() or (one[:, 2:] <= one[:, :2]).any()):
            raise ValueError("boxes: expected left < right and top < bottom, as shares from 0 to 1 of the picture")
    found: Tensor = roi_align(dense, [one.to(dense) * scale for one in boxes], (1, 1), aligned=True)
    return F.normalize(found.flatten(1), dim=-1)


def mask_features(dense: Tensor, masks: list[Tensor]) -> Tensor:
    r"""The mean dense feature of the patches that each mask touches.

    .. math:: \frac{\sum_p m(p) \, F(p)}{\left| \sum_p m(p) \, F(p) \right|}

    where m is 1 where the mask, resized bicubically to the grid, lies above 0.

    Args:
        dense: dense features ``(N, D, h, w)``.
        masks: the masks of each of the N pictures, ``(R, H, W)``, boolean, of what the grid covers.

    Returns:
        Unit vectors ``(sum of R, D)``, those of the first picture first; 0 for a mask that touches no patch.

    Raises:
        ValueError: for another number of lists than of pictures, or masks of another shape.

    >>> dense = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    >>> mask_features(dense, [torch.tensor([[[True, False]]])])
    tensor([[1., 0.]])

    Source: Wu et al.: "CLIPSelf", ICLR 2024.
    """
    check_tensor("dense", dense, "(N, D, h, w)", kind="floats")
    if len(masks) != len(dense):
        raise ValueError(f"masks: expected one tensor (R, H, W) for each of {len(dense)} pictures, got {len(masks)}")
    found = []
    for features, own in zip(dense, masks):
        if own.dim() != 3:
            raise ValueError(f"masks: expected (R, H, W) for each picture, got shape {tuple(own.shape)}")
        if not len(own):
            continue
        resized = F.interpolate(own[:, None].to(features), size=features.shape[-2:], mode="bicubic", align_corners=False)
        touched = (resized[:, 0] > 0).to(features)
        found.append(F.normalize(torch.einsum("rhw,dhw->rd", touched, features), dim=-1))
    return torch.cat(found) if found else dense.new_zeros(0, dense.shape[1])
