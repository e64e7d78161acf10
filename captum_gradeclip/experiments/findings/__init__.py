"""What a model of scenes sees, and whether its maps tell it, on many scenes that it has not been trained on.

:data:`FIGURES` lists the groups of figures; a group is a file and a name in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from open_clip import CLIP

from ...arguments import check_number, check_strings, one_of
from ...quoting import quoted
from ...scenes.world import Split
from . import contrast, guards, heads, pairs, pointing, reading, recognition, words
from .finding import Finding, HeldOut

FIGURES: dict[str, Callable[[CLIP, HeldOut], Iterator[Finding]]] = {
    "recognition": recognition.measure,
    "pointing": pointing.measure,
    "contrast": contrast.measure,
    "heads": heads.measure,
    "words": words.measure,
    "reading": reading.measure,
    "guards": guards.measure,
    "pairs": pairs.measure,
}
"""The groups of figures by name, in the order of the tables."""

__all__ = ["FIGURES", "Finding", "HeldOut", "evaluate_scenes"]


def evaluate_scenes(
    model: CLIP,
    count: int = 500,
    split: Split = "evaluation",
    seed: int = 0,
    figures: str | Sequence[str] = "all",
    *,
    coalitions: int = 0,
) -> list[Finding]:
    """Measures what is claimed about the embedded model, on scenes that it has not been trained on.

    The scenes are drawn at the size of the model's images.

    Args:
        model: the embedded model, or another one trained on scenes.
        count: number of scenes for each figure, at least 1 (default 500).
        split: ``"evaluation"`` (default) to report figures, ``"validation"`` to choose a recipe by them.
        seed: seed of the scenes, at least 0 (default 0).
        figures: the name of a group of figures, or several: ``"recognition"``, ``"pointing"``, ``"contrast"``, ``"words"``,
            ``"heads"``, ``"reading"``, ``"guards"``, ``"pairs"``; ``"all"`` (default) for all of them.
        coalitions: largest number of coalitions of words and regions that the Banzhaf baseline of ``"pairs"`` asks for, of
            each scene, at least 0. It is a forward pass for each of them and takes the extra ``interactions``; 0 (default)
            leaves this baseline out.

    Returns:
        The figures, group by group. They tell zero-shot accuracy of the model and of the pass that is explained, and recall;
        pointing game and deletion of several maps, by kind of prompt, and for captions of two things; the signs of maps of
        one of two lookalikes; what the unmodified model loses with the pixels that several readings mark; weights of words
        by kind; how well readings of the words agree with leaving words out; how often guards catch planted faults; and
        whether each word points at its own thing.

    Raises:
        TypeError, ValueError: if an argument is not as above.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> {one.group: one.cases for one in evaluate_scenes(model, 2, figures="recognition")}  # doctest: +NORMALIZE_WHITESPACE
    {'recognition': 2}
    """
    check_number("count", count, whole=True, least=1)
    check_number("seed", seed, whole=True, least=0)
    check_number("coalitions", coalitions, whole=True, least=0)
    one_of("split", split, Split)
    names = list(dict.fromkeys(check_strings("figures", figures)))
    names = list(FIGURES) if "all" in names else names
    for name in names or [""]:
        if name not in FIGURES:
            raise ValueError(f"figures: expected 'all' or some of {', '.join(FIGURES)}, got {quoted(name or names)}")
    held_out = HeldOut.for_model(model, count, split, seed, coalitions)
    return [replace(one, group=name) for name in names for one in FIGURES[name](model, held_out)]
