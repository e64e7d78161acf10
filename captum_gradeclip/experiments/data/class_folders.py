"""Pictures in a folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ...quoting import quoted
from ...scores.prompts import imagenet_templates
from .base import PHOTO, DataArguments, DataError, Sample
from .readers import fingerprint, needed, pictures, read_class_names, read_picture, subfolders


class ClassFolders:
    """Pictures in a folder per class, as torchvision's ``ImageFolder`` reads them: ImageNet's validation set, for example.

    Args:
        root: folder that holds the folders of the classes.
        class_names: text file with one name per line, or a JSON list, in the order of the sorted folders. By default the
            folders' own names, or those of OpenAI's classifier if the folders are the 1000 classes of ImageNet.
        templates: sentences with ``{}`` in the place of a class name (default ``"a photo of a {}."``).

    Raises:
        DataError: for a folder without classes, or another number of names than of folders.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as name:
    ...     for label in ("cat", "dog"):
    ...         (Path(name) / label).mkdir()
    ...         Image.new("RGB", (8, 8)).save(Path(name) / label / "1.png")
    ...     data = ClassFolders(Path(name))
    ...     data.classes, [(sample.id, sample.label) for sample in data]
    (['cat', 'dog'], [('cat/1.png', 0), ('dog/1.png', 1)])
    """

    name: ClassVar[str] = "folders"
    segmented: ClassVar[bool] = False
    summary: ClassVar[str] = "pictures in a folder per class (ImageNet)"
    layout: ClassVar[str] = """\
photos/              --data folders --root photos
  cat/               a folder for each class; its name is the class
    0001.jpg         pictures of any names: PNG, JPEG, WebP, BMP
    0002.jpg
  dog/
    0001.jpg
names.txt            with --class-names: other names, a line for each folder
"""
    takes: ClassVar[tuple[str, ...]] = ("root", "class_names", "templates", "samples")

    def __init__(self, root: Path, class_names: Path | None = None, templates: Sequence[str] = PHOTO) -> None:
        folders = subfolders(root)
        self.root, self.templates = root, templates
        self.classes: Sequence[str] = read_class_names(folders, class_names)
        self.files = [(file, label) for label, name in enumerate(folders) for file in pictures(root / name)]
        if not self.files:
            raise DataError(f"root: {quoted(root)} has no folders of classes with pictures")
        self.about = fingerprint(root, len(self.files), self.classes, templates)

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> ClassFolders:
        """By default with the eighty templates of OpenAI's classifier."""
        root = needed(arguments.root, "root", cls.name)
        return cls(root, arguments.class_names, arguments.templates or imagenet_templates())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        file, label = self.files[index]
        return Sample(f"{file.parent.name}/{file.name}", index, read_picture(file), label)
