"""Images against the names of classes, each an ensemble of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..adapters.loading import Loaded
from ..scores import ImageTextScore
from ..scores.prompts import prompt_ensemble
from .data import DataError, Dataset


class PromptScore(ImageTextScore):
    r"""Cosines of images with classes: zero-shot classification.

    Each class is the mean direction of its prompts, see :func:`~captum_gradeclip.scores.prompts.prompt_ensemble`. The
    columns of this score are a set of labels that exclude each other, which CLIP Surgery makes use of; those of an
    :class:`~captum_gradeclip.ImageTextScore` are any texts.

    Args:
        loaded: model and tokenizer.
        classes: names of the classes, at least one.
        templates: sentences with ``{}`` in the place of a name, at least one.

    Raises:
        ValueError: for no classes or templates, or a template without a place for the name.

    >>> import torch
    >>> from captum_gradeclip.adapters import loading
    >>> PromptScore(loading.load(), ["red circle", "star"], ["{}"])(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 2])
    """

    def __init__(self, loaded: Loaded, classes: Sequence[str], templates: Sequence[str]) -> None:
        features = prompt_ensemble(loaded.model, loaded.tokenizer, list(classes), list(templates))
        super().__init__(loaded.model, features, loaded.tokenizer)
        self.classes = tuple(classes)
        self._others: dict[str, ImageTextScore] = {}

    def once(self, name: str, make: Callable[[], ImageTextScore]) -> ImageTextScore:
        """Another score that belongs to this one, made when it is first asked for.

        Args:
            name: what it is called.
            make: makes it.
        """
        if name not in self._others:
            self._others[name] = make()
        return self._others[name]

    @classmethod
    def of_classes(cls, loaded: Loaded, data: Dataset) -> PromptScore:
        """The score of all classes of a data set.

        Args:
            loaded: model and tokenizer.
            data: the data set.

        Raises:
            DataError: if the data set has no classes.
        """
        if not data.classes:
            raise DataError(f"data: {data.name} has no classes; this task needs some")
        return cls(loaded, data.classes, data.templates)
