"""Does a model know what lies in a box or under a mask? Zero-shot classification of regions by dense features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from .. import adapters
from ..adapters.base import execution_device
from ..adapters.tokenizers import Tokenizer
from ..arguments import check_number, check_tensor
from ..attr.dense import dense_features
from ..progress import track
from ..scores.prompts import prompt_ensemble
from .region_data import RegionData, Regions
from .regions import box_features, mask_features

_KINDS = ("boxes", "thing masks", "stuff masks")


@dataclass
class _Seen:
    """The cosines of the regions of a kind with all classes, and what they are."""

    cosines: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)


def mean_class_accuracy(cosines: Tensor, labels: Tensor, k: int = 1) -> float:
    r"""The accuracy among the k best classes for each class that is there, on average over these classes.

    .. math:: \frac{1}{|C|} \sum_{c \in C} \frac{1}{|R_c|} \sum_{r \in R_c}
        [\, c \text{ is among the } k \text{ best classes of } r \,]

    Args:
        cosines: cosines of R regions with T classes, ``(R, T)``.
        labels: the class of each region ``(R,)``.
        k: among how many best classes the label may be, at least 1 (default 1).

    Returns:
        A number from 0 to 1; NaN without regions.

    >>> mean_class_accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), torch.tensor([0, 0, 1]))
    0.5

    Source: Wu et al.: "CLIPSelf", ICLR 2024, in double precision.
    """
    if not len(labels):
        return float("nan")
    check_tensor("cosines", cosines, "(R, T)", kind="floats")
    check_number("k", k, whole=True, least=1)
    own = cosines.gather(1, labels[:, None])
    right = ((cosines > own).sum(dim=1) < k).double()
    each = [right[labels == one].mean() for one in labels.unique()]
    return float(torch.stack(each).mean())


@torch.no_grad()
def classify_regions(
    model: nn.Module,
    data: RegionData,
    tokenizer: Tokenizer,
    *,
    templates: Sequence[str] = ("{}",),
    size: int | None = None,
    batch: int = 16,
    residual: bool = True,
    quiet: bool = False,
) -> dict[str, float]:
    """The share of regions whose own class is the nearest of all, or among the nearest five, by mean class accuracy.

    Args:
        model: a model whose image tower reads its class token.
        data: pictures with labeled regions.
        tokenizer: the model's own tokenizer.
        templates: sentences with ``{}`` in the place of a class name, whose features are averaged (default the name alone;
            CLIPSelf's protocol has 63).
        size: the longer side of pictures in pixels, a multiple of the patch (default the model's own size; CLIPSelf's
            protocol has 1024 for patches of 16 pixels, 896 for those of 14). Pictures are padded with black to squares.
        batch: number of pictures in each pass, at least 1 (default 16).
        residual: as for :func:`captum_gradeclip.attr.dense_features`.
        quiet: whether no progress is shown (default False).

    Returns:
        Mean class accuracies from 0 to 1 by name, ``"boxes top1"`` to ``"stuff masks top5"`` (boxes are those of things),
        NaN where there are none; and the number of regions of each kind.

    Raises:
        NotDefinedError: for a model without dense features.

    >>> from captum_gradeclip import scenes
    >>> from captum_gradeclip.tuning.region_data import SceneRegionData
    >>> model, preprocess, tokenizer = scenes.load()
    >>> found = classify_regions(model, SceneRegionData(4), tokenizer, quiet=True)
    >>> 0 <= found["boxes top1"] <= found["boxes top5"] <= 1
    True

    Source: Wu et al.: "CLIPSelf", ICLR 2024; Zhao et al., arXiv 2502.18816v1, section 6.
    """
    check_number("batch", batch, whole=True, least=1)
    tower, device = adapters.image_tower(model), execution_device(model)
    side = max(tower.size) if size is None else size
    names = prompt_ensemble(model, tokenizer, list(data.classes), list(templates))
    things = torch.tensor(list(data.things))
    seen = {kind: _Seen() for kind in _KINDS}
    for start in track(range(0, len(data), batch), "classifying regions", disable=quiet):
        some = [data[index] for index in range(start, min(start + batch, len(data)))]
        inputs = torch.stack([padded(one.image, side, tower.mean, tower.std) for one in some]).to(device)
        dense = dense_features(model, inputs, residual=residual)
        found = {
            "boxes": box_features(dense, [_in_square(one).to(device) for one in some]),
            "masks": mask_features(dense, [_square(one.masks).to(device) for one in some]),
        }
        labels = torch.cat([one.labels for one in some])
        is_thing = things[labels]
        for kind, chosen in (("boxes", is_thing), ("thing masks", is_thing), ("stuff masks", ~is_thing)):
            cosines = found[kind.rpartition(" ")[2]] @ names.to(dense).T
            seen[kind].cosines.append(cosines.cpu()[chosen])
            seen[kind].labels.append(labels[chosen])
    result = {}
    for kind, one in seen.items():
        cosines, labels = torch.cat(one.cosines), torch.cat(one.labels)
        for k in (1, 5):
            result[f"{kind} top{k}"] = mean_class_accuracy(cosines, labels, k)
        result[f"{kind} count"] = float(len(labels))
    return result


def padded(image: Image.Image, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A picture as a square input: its longer side resized bicubically, the rest on the right and below black.

    Args:
        image: the picture, RGB.
        size: side of the square in pixels.
        mean: mean of each of the three channels.
        std: standard deviation of each of them.

    >>> padded(Image.new("RGB", (8, 4), "white"), 16, (0.5,) * 3, (0.5,) * 3)[0, :, 0].tolist()[7:9]
    [1.0, -1.0]
    """
    longer = max(image.size)
    width, height = (max(1, round(side * size / longer)) for side in image.size)
    small = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255
    whole = F.pad(pixels, (0, size - width, 0, size - height))
    return (whole - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _in_square(one: Regions) -> Tensor:
    """Boxes as shares of the square around the picture."""
    width, height = one.image.size
    longer = max(width, height)
    return one.boxes * one.boxes.new_tensor([width / longer, height / longer] * 2)


def _square(masks: Tensor) -> Tensor:
    """Masks of the square around the picture."""
    height, width = masks.shape[-2:]
    longer = max(height, width)
    return F.pad(masks, (0, longer - width, 0, longer - height))
