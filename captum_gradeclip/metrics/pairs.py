"""Pairs of words and regions: does the map of each word lie on its own thing, and does the model need the two together?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..arguments import check_tensor
from .localization import PointingGame
from .scoring import target_score
from .targeted import TargetedDeletion, TargetedInsertion


def maps_of_words(tensors: Tensor, words: Tensor) -> Tensor:
    """The map of one word of each caption.

    Args:
        tensors: a map for each token of each caption, ``(N, L, h, w)``.
        words: the place of the word among the tokens, ``(N,)``, integer, 0 to L - 1.

    Returns:
        ``(N, h, w)``.

    Raises:
        TypeError, ValueError: for another shape, or a place that is not there.

    >>> tensors = torch.arange(4.0).view(1, 4, 1, 1)
    >>> maps_of_words(tensors, torch.tensor([2]))
    tensor([[[2.]]])
    """
    check_tensor("tensors", tensors, "(N, L, h, w)", kind="floats")
    check_tensor("words", words, "(N)", kind="integers", examples=("tensors", len(tensors)))
    if len(words) and not (int(words.min()) >= 0 and int(words.max()) < tensors.shape[1]):
        raise ValueError(f"words: expected places 0 to {tensors.shape[1] - 1} among the tokens, got {words.tolist()[:8]}")
    return tensors[torch.arange(len(tensors), device=tensors.device), words.to(tensors.device)]


class PairPointing(PointingGame):
    """Share of the words whose map has its highest pixel on the word's own thing.

    Higher is better: 1 if every word points at its thing, 0 if none does. Words that stand twice in a caption, once for each
    of two things, tell whether a tensor says more than the word alone.

    Args:
        tolerance: as for :class:`~captum_gradeclip.metrics.PointingGame` (default 0).
        settings: keyword arguments of :class:`torchmetrics.Metric`.

    >>> metric = PairPointing()
    >>> tensors = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])  # two words, of which the first one points at the right
    >>> metric.update(tensors, torch.tensor([0]), torch.tensor([[[0, 1]]]))
    >>> metric.compute()
    tensor(1.)

    Source: this package; pointing is that of Zhang et al.: "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
    """

    def update(self, tensors: Tensor, words: Tensor, masks: Tensor) -> None:  # type: ignore[override]
        """Adds captions with the mask of what one of their words means.

        Args:
            tensors: ``(N, L, h, w)``, finite; a caption is given once for each word that counts.
            words: places of these words among the tokens, ``(N,)``, integer, 0 to L - 1.
            masks: ``(N, H, W)``: 1 on the thing of the word, 0 elsewhere, -1 where nothing counts.
        """
        super().update(maps_of_words(tensors, words), masks)


class PairDeletion(TargetedDeletion):
    r"""How much of what a word and a region do together is lost while the word's most important pixels are replaced.

    .. math:: m = S(x, t) - S(x, t \setminus i)

    is what word i adds to the score of caption t for the image x. Its mean fall while pixels are replaced is the second
    difference of the model's own score, in the word and in the region: a region that matters as much without the word loses
    nothing, which tells a pair from the product of two first-order maps.

    Arguments, bounds and errors are those of :class:`~captum_gradeclip.metrics.TargetedDeletion`; the outputs have a column
    for each caption, and one for each caption without a word. Higher is better.

    >>> from captum_gradeclip.metrics import Schedule
    >>> image = torch.zeros(1, 3, 4, 4)
    >>> image[0, 0, 0, 0], image[0, 1, 3, 3] = 1.0, 1.0  # a red thing and a green one
    >>> outputs = lambda x: torch.stack([x[:, :2].amax(dim=(2, 3)).sum(dim=1), x[:, 1].amax(dim=(1, 2))], dim=1)
    >>> metric = PairDeletion(outputs, schedule=Schedule(points=1, share=1 / 16))
    >>> tensors = image[:, :1].expand(-1, 2, -1, -1)  # the first word means the red thing, and column 1 lacks this word
    >>> metric.update(image, tensors, torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    >>> metric.compute()
    tensor(0.9375)

    Source: this package; the curves are those of Petsiuk, Das, Saenko: "RISE", BMVC 2018.
    """

    def update(  # type: ignore[override]
        self,
        images: Tensor,
        tensors: Tensor,
        words: Tensor,
        captions: Tensor,
        without: Tensor,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """Adds images with their captions, once for each word that counts.

        Args:
            images: ``(N, 3, H, W)``, normalized.
            tensors: ``(N, L, h, w)``, finite.
            words: places of the words, ``(N,)``.
            captions: the column of each whole caption, ``(N,)``.
            without: the column of the same caption without the word, ``(N,)``.
            seeds: one seed per image for a random baseline (default 0, 1, ...).
        """
        check_tensor("without", without, "(N)", kind="integers", examples=("captions", len(captions)))
        more, less = target_score(captions), target_score(without)
        maps = maps_of_words(tensors, words)
        found = self.follow(images, maps, captions, lambda _: lambda out, one: more(out, one) - less(out, one), seeds)
        self.kept.append(found.to(self.device))


class PairInsertion(TargetedInsertion):
    """How much of what a word and a region do together is won while the word's most important pixels are put in.

    As :class:`PairDeletion`, with the pixels put into an empty baseline. Higher is better.

    >>> from captum_gradeclip.metrics import Schedule
    >>> image = torch.zeros(1, 3, 4, 4)
    >>> image[0, 0, 0, 0], image[0, 1, 3, 3] = 1.0, 1.0
    >>> outputs = lambda x: torch.stack([x[:, :2].amax(dim=(2, 3)).sum(dim=1), x[:, 1].amax(dim=(1, 2))], dim=1)
    >>> metric = PairInsertion(outputs, schedule=Schedule(points=1, share=1 / 16))
    >>> metric.update(image, image[:, :1].clone(), torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    >>> metric.compute()
    tensor(0.9375)

    Source: as for :class:`PairDeletion`.
    """

    update = PairDeletion.update  # type: ignore[assignment]
