"""What every data set provides: numbered samples, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import torch
from PIL import Image
from torch import Tensor

from ...quoting import QuotingError
from ...scenes.world import Split
from .region import Region
from .triple import Triple

IGNORE = -1
"""In segments: a pixel that no metric counts."""
NOTHING = -2
"""In segments: a pixel of none of the classes."""
PHOTO = ("a photo of a {}.",)
"""The default sentence around a class name."""

Known = Literal["label", "segments", "captions", "regions", "triple"]


class DataError(QuotingError):
    """A data set cannot be used: a file is missing or broken, or an argument does not fit; the message names it."""


class LeftOutError(DataError):
    """A sample shows nothing that a task could ask for; it is no fault of the data, so it is left out and counted."""


@dataclass(frozen=True)
class Sample:
    """One picture with what is known about it.

    Attributes:
        id: name of the picture, unique in its data set.
        index: number of the picture in its data set; it seeds everything that is drawn at random for this sample.
        image: the picture as RGB.
        label: index of its class; ``None`` where no class is known.
        segments: class index of each pixel ``(H, W)``, integer; :data:`NOTHING` (-2) where a pixel belongs to no class,
            :data:`IGNORE` (-1) where no metric counts it; ``None`` for data sets without masks.
        captions: sentences that are true of the picture; empty for data sets without captions.
        regions: words and phrases with the masks of what they are true of; empty for data sets without them.
        triple: a word, one that goes with it and one that does not; ``None`` for data sets without them.

    >>> sample = Sample("dog.jpg", 0, Image.new("RGB", (4, 2)), label=3, segments=torch.full((2, 4), 3))
    >>> sample.mask(3).float().mean().item(), sample.require(["label", "segments"])
    (1.0, None)
    >>> sample.require(["captions"])
    Traceback (most recent call last):
    captum_gradeclip.experiments.data.base.DataError: dog.jpg: it has no captions; this task needs one
    """

    id: str
    index: int
    image: Image.Image
    label: int | None = None
    segments: Tensor | None = None
    captions: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    triple: Triple | None = None

    def mask(self, label: int) -> Tensor:
        """The mask of one class ``(H, W)``: 1 on the class, 0 elsewhere, -1 where no metric counts the pixel.

        >>> sample = Sample("a", 0, Image.new("RGB", (3, 1)), segments=torch.tensor([[5, NOTHING, IGNORE]]))
        >>> sample.mask(5)
        tensor([[ 1,  0, -1]])
        """
        assert self.segments is not None
        return torch.where(self.segments == IGNORE, IGNORE, (self.segments == label).long())

    def require(self, known: Sequence[Known]) -> None:
        """Refuses a sample about which too little is known.

        Args:
            known: what has to be known, any of ``"label"``, ``"segments"``, ``"captions"``, ``"regions"`` and
                ``"triple"``.

        Raises:
            DataError: naming the sample and what it lacks.
        """
        present = {
            "label": self.label is not None,
            "segments": self.segments is not None,
            "captions": bool(self.captions),
            "regions": bool(self.regions),
            "triple": self.triple is not None,
        }
        for what in known:
            if not present[what]:
                raise DataError(f"{self.id}: it has no {what}; this task needs one")


class Dataset(Protocol):
    """Numbered samples, and what prompts about them are made of.

    >>> class Grays:
    ...     name, segmented, classes, templates, about = "grays", False, ("dark", "bright"), ("{}",), {"name": "grays"}
    ...     def __len__(self):
    ...         return 2
    ...     def __getitem__(self, index):
    ...         return Sample(f"gray {index}", index, Image.new("RGB", (8, 8), (255 * index,) * 3), label=index)
    >>> from captum_gradeclip.experiments import Subset
    >>> data = Subset(Grays(), 1)
    >>> len(data), data[0].id, data.classes[data[0].label]
    (1, 'gray 0', 'dark')
    """

    @property
    def name(self) -> str:
        """The name under which the data set is asked for; tables and folders of results carry it."""
        ...

    @property
    def segmented(self) -> bool:
        """Whether the samples have masks."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, of which prompts are made; empty where there are none."""
        ...

    @property
    def templates(self) -> Sequence[str]:
        """Sentences with ``{}`` in the place of a name, of which prompts are made."""
        ...

    @property
    def about(self) -> Mapping[str, object]:
        """Everything that distinguishes this data set from another one, as JSON can write it.

        It is kept beside the records of a run, and compared before they are used again.
        """
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class DataArguments:
    """What may be said about a data set, whichever it is; each data set declares in ``takes`` which of these it reads.

    The help text of an argument stands in its field's ``metadata["help"]``.

    Attributes:
        root: folder that holds the data set's files; needed by all but the scenes.
        annotations: JSON file of captions.
        class_names: text file with one class name per line, or a JSON list of names.
        mask_offset: the index in a mask that means the first class, at least 0 (default 0).
        templates: sentences with ``{}`` in the place of a class name; by default those of the data set.
        samples: use only the first so many samples, at least 1; by default all, of the scenes 500.
        split: part of the scenes to be drawn: ``"evaluation"`` (default), ``"validation"`` or ``"train"``.
        seed: seed of the scenes (default 0).
        counts: the numbers of things in a scene, drawn with equal chance (default 2, 3 or 4).

    >>> from captum_gradeclip.experiments import DATASETS, make_dataset
    >>> DATASETS["scenes"].takes
    ('samples', 'split', 'seed', 'counts')
    >>> data = make_dataset("scenes", DataArguments(samples=3, split="validation", counts=(1,)))
    >>> len(data), data[0].id
    (3, 'validation-0-000000')
    """

    root: Path | None = field(default=None, metadata={"help": "folder of the data set"})
    annotations: Path | None = field(default=None, metadata={"help": "Karpathy's dataset_coco.json"})
    class_names: Path | None = field(default=None, metadata={"help": "text file with a name per line, or a JSON list"})
    mask_offset: int = field(default=0, metadata={"help": "index that means the first class in a mask; 1 if 0 is no class"})
    templates: Sequence[str] | None = field(default=None, metadata={"help": "sentences around a class name"})
    samples: int | None = field(default=None, metadata={"help": "use only the first so many samples [all; 500 scenes]"})
    split: Split = field(default="evaluation", metadata={"help": "part of the scenes"})
    seed: int = field(default=0, metadata={"help": "seed of the scenes"})
    counts: tuple[int, ...] = field(default=(2, 3, 4), metadata={"help": "numbers of things in a scene"})


class DeclaredDataset(Protocol):
    """A data set that can be made by its name; its class declares what the command line reads.

    Attributes:
        name: key in :data:`~captum_gradeclip.experiments.DATASETS`.
        summary: one line of help text.
        layout: an example of the folder as a tree, with the options that name it; empty for data that are drawn.
        takes: names of the fields of :class:`DataArguments` that :meth:`from_arguments` reads, and ``"samples"``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    layout: ClassVar[str]
    takes: ClassVar[tuple[str, ...]]

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> Dataset:
        """The data set that these arguments describe.

        Raises:
            DataError: naming an argument that is missing or does not fit.
        """
        ...
