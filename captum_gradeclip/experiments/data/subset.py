"""The first samples of a data set."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Dataset, Sample


class Subset:
    """The first samples of another data set.

    Args:
        data: the data set.
        count: number of samples, at least 1; all samples where the data set has fewer.

    >>> from captum_gradeclip.experiments import Scenes
    >>> data = Subset(Scenes(5), 2)
    >>> len(data), data.name, data.about["first"]
    (2, 'scenes', 2)
    """

    def __init__(self, data: Dataset, count: int) -> None:
        self.data, self.count = data, min(count, len(data))
        self.name, self.classes, self.templates = data.name, data.classes, data.templates
        self.segmented = data.segmented

    @property
    def about(self) -> Mapping[str, object]:
        """What distinguishes the data set, and the number of samples."""
        return {**self.data.about, "first": self.count}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.data[index]
