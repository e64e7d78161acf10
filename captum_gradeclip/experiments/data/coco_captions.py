"""COCO's pictures with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypedDict, cast

from ...quoting import quoted
from .base import DataArguments, DataError, Sample
from .readers import fingerprint, folder, needed, read_json, read_picture


class _Sentence(TypedDict):
    raw: str


class _Image(TypedDict, total=False):
    filepath: str
    filename: str
    split: str
    sentences: list[_Sentence]


class _Karpathy(TypedDict):
    images: list[_Image]


class CocoCaptions:
    """COCO with the captions and splits of Karpathy's ``dataset_coco.json``.

    Args:
        root: folder that holds ``train2014`` and ``val2014``.
        annotations: the JSON file.
        split: ``"val"`` (default, as in the paper), ``"test"``, ``"train"`` or ``"restval"``.
        captions: largest number of captions of a picture, at least 1 (default 5).

    Raises:
        DataError: for a file of another format, or without a picture of the split.

    >>> import json, tempfile
    >>> from PIL import Image
    >>> entry = {"filename": "1.png", "split": "val", "sentences": [{"raw": "A dog on a sofa."}]}
    >>> with tempfile.TemporaryDirectory() as name:
    ...     Image.new("RGB", (8, 8)).save(Path(name) / "1.png")
    ...     _ = (Path(name) / "captions.json").write_text(json.dumps({"images": [entry]}))
    ...     CocoCaptions(Path(name), Path(name) / "captions.json")[0].captions
    ('A dog on a sofa.',)
    """

    name: ClassVar[str] = "coco"
    segmented: ClassVar[bool] = False
    classes: Sequence[str] = ()
    templates: Sequence[str] = ()
    summary: ClassVar[str] = "COCO's pictures with their captions"
    layout: ClassVar[str] = """\
coco/                --data coco --root coco --annotations captions.json
  val2014/           folders and names as the JSON file says them
    0001.jpg
captions.json        {"images": [{"filepath": "val2014",
                      "filename": "0001.jpg", "split": "val",
                      "sentences": [{"raw": "A dog on a sofa."}]}]}
"""
    takes: ClassVar[tuple[str, ...]] = ("root", "annotations", "samples")

    def __init__(self, root: Path, annotations: Path, split: str = "val", captions: int = 5) -> None:
        self.root, self.captions = folder(root), captions
        content = cast(_Karpathy, read_json(annotations))  # what has another format is refused below
        try:
            chosen = [one for one in content["images"] if one["split"] == split]
            entries = [
                (f"{one.get('filepath', '')}/{one['filename']}".lstrip("/"), tuple(said["raw"] for said in one["sentences"]))
                for one in chosen
            ]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{quoted(annotations)}: expected Karpathy's format, images with filename, split and sentences;"
                f" {quoted(error)} is missing"
            ) from None
        if not entries:
            raise DataError(f"{annotations}: no picture of the split {quoted(split)}")
        self.entries = entries
        self.about = fingerprint(root, len(entries), split, captions, entries)

    @classmethod
    def from_arguments(cls, arguments: DataArguments) -> CocoCaptions:
        """The split and the number of captions of the paper."""
        root = needed(arguments.root, "root", cls.name)
        annotations = needed(arguments.annotations, "annotations", cls.name)
        return cls(root, annotations)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        file, sentences = self.entries[index]
        chosen = tuple(sentence.strip() for sentence in sentences[: self.captions] if sentence.strip())
        if not chosen:
            raise DataError(f"{file}: it has no captions")
        return Sample(file, index, read_picture(self.root / file), captions=chosen)
