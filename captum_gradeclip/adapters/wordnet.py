"""The ids that WordNet gives to the classes of ImageNet, for classifiers that carry the names of these classes."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Foreign

_LEAST = 0.95
"""The share of the names that have to be those of ImageNet: libraries tell a few classes apart by words of their own."""


def wordnet_ids(labels: Sequence[str]) -> tuple[str, ...] | None:
    """The WordNet id of each class of a classifier that was trained on ImageNet, or on one of its larger sets.

    The list of the ids comes with timm, and nothing is downloaded.

    Args:
        labels: the names of the classes in order.

    Returns:
        An id such as ``"n02091134"`` for each name; ``None`` if the names are not those of ImageNet in its usual order, or
        if timm is not installed.

    >>> wordnet_ids(["a tench", "a whippet"]) is None
    True
    """
    try:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
    except ImportError:
        return None
    subset = infer_imagenet_subset({"num_classes": len(labels)})
    if subset is None:
        return None
    info: Foreign = ImageNetInfo(subset)
    ids: list[str] = info.label_names()
    pairs = zip(labels, map(info.label_name_to_description, ids))
    same = sum(bool(set(_names(one)) & set(_names(other))) for one, other in pairs)
    return tuple(ids) if len(ids) == len(labels) and same >= _LEAST * len(labels) else None


def _names(label: str) -> list[str]:
    return [name.strip().lower() for name in label.split(",")]
