"""The class of a classifier that somebody means by an index, a name, or a WordNet id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Integral

from ..adapters.wordnet import wordnet_ids
from ..quoting import line, quoted

_WORDNET = re.compile(r"[nN]\d{8}")


def find_class(target: int | str, count: int, labels: Sequence[str] | None) -> int:
    """The index of a class that is given by its index, by its name, or by its id in WordNet.

    Args:
        target: an index from 0 to ``count - 1``, also as a string of digits; or a name; or a part of one that no other
            class has; or, if the names are those of ImageNet, an id of WordNet such as ``"n02091134"``. Upper and lower
            case are the same, and of a name like ``"tabby, tabby cat"`` each half will do.
        count: the number of classes.
        labels: the names of the classes in order, or ``None`` if the model does not carry them.

    Returns:
        The index, from 0 to ``count - 1``.

    Raises:
        TypeError: for anything but an integer or a string.
        ValueError: if there is no such class, or if several are called so.

    >>> find_class("whippet", 3, ["tabby cat", "whippet", "Italian greyhound"]), find_class("2", 3, None)
    (1, 2)
    """
    if not isinstance(target, (str, Integral)) or isinstance(target, bool):
        raise TypeError(f"targets: expected the index or the name of a class, got {quoted(target)}")
    if not isinstance(target, str) or target.lstrip("-").isdecimal():
        # What has more digits than any class is not made a number, for which Python would take its time, or refuse.
        if len(str(target)) > 18 or not 0 <= int(target) < count:
            raise ValueError(f"targets: expected a class from 0 to {count - 1}, got {line(str(target))}")
        return int(target)
    if labels is None:
        raise ValueError(f"targets: this model does not name its classes; give an index from 0 to {count - 1}")
    wanted = target.strip().lower()
    exact = [n for n, label in enumerate(labels) if wanted in [part.strip().lower() for part in label.split(",")]]
    if not exact and _WORDNET.fullmatch(wanted):
        return _find_wordnet_id(wanted, labels)
    found = exact or [n for n, label in enumerate(labels) if wanted in label.lower()]
    if len(found) != 1:
        several = "; ".join(f"{n}: {line(labels[n])}" for n in found[:8])
        raise ValueError(f"targets: {len(found)} classes are called {quoted(target)}{': ' if found else ''}{several}")
    return found[0]


def _find_wordnet_id(wanted: str, labels: Sequence[str]) -> int:
    """The index of the class that has an id of WordNet."""
    ids = wordnet_ids(labels)
    if ids is None:
        raise ValueError(
            f"targets: {quoted(wanted)} is an id of WordNet, which only classes with the names of ImageNet have (timm lists"
            " them); give the index or the name of a class"
        )
    if wanted not in ids:
        raise ValueError(f"targets: none of the {len(ids)} classes of this model has the WordNet id {quoted(wanted)}")
    return ids.index(wanted)
