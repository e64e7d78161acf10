"""The samples of a data set, so many at a time, with checksums of what they hold."""

from __future__ import annotations

from hashlib import sha256

from ..arguments import check_number
from .data import DataError, Dataset, Sample
from .records import Contents


class Chunks:
    """A data set in chunks; the one that was read last is kept, so that its samples are read once for all that is asked.

    Args:
        data: the data set.
        size: number of samples in a chunk, at least 1.

    Raises:
        ValueError: for a size below 1.

    >>> from captum_gradeclip.experiments.data import Scenes
    >>> chunks = Chunks(Scenes(5), 2)
    >>> len(chunks), [sample.id for sample in chunks.samples(2)], len(chunks.contents(2)[0][1])
    (3, ['evaluation-0-000004'], 64)
    """

    def __init__(self, data: Dataset, size: int) -> None:
        check_number("chunk", size, whole=True, least=1)
        self.data, self.size = data, size
        self._last: tuple[int, list[Sample | DataError]] | None = None

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def samples(self, chunk: int) -> list[Sample | DataError]:
        """The samples of a chunk, which is numbered from 0; in the place of a broken one the error that says why."""
        if self._last is None or self._last[0] != chunk:
            numbers = range(chunk * self.size, min((chunk + 1) * self.size, len(self.data)))
            self._last = chunk, [self._read(number) for number in numbers]
        return self._last[1]

    def contents(self, chunk: int) -> Contents:
        """The ids and checksums of the samples of a chunk; a broken one has its number and the checksum of its error."""
        first = chunk * self.size
        return [
            (str(first + place) if isinstance(one, DataError) else one.id, checksum(one))
            for place, one in enumerate(self.samples(chunk))
        ]

    def _read(self, number: int) -> Sample | DataError:
        try:
            return self.data[number]
        except DataError as error:
            return error


def checksum(sample: Sample | DataError) -> str:
    """SHA-256 of all that a sample holds: its picture, masks, label, texts, id and number; or of why it is broken.

    Returns:
        64 hexadecimal digits.
    """
    if isinstance(sample, DataError):
        return sha256(repr(str(sample)).encode()).hexdigest()
    image, segments = sample.image, sample.segments
    parts: list[object] = [sample.id, sample.index, sample.label, sample.captions, image.mode, image.size]
    if segments is not None:
        parts += [str(segments.dtype), tuple(segments.shape)]
    # What most data sets have not is named only where it is there, so that their checksums stay what they were.
    parts += [] if sample.triple is None else [sample.triple]
    masks = [mask for region in sample.regions for mask in (region.mask, region.others) if mask is not None]
    parts += [(one.text, one.kind, tuple(one.mask.shape), one.others is None) for one in sample.regions]
    digest = sha256(repr(parts).encode())  # its lengths say where the bytes that follow begin and end
    digest.update(image.tobytes())
    if segments is not None:
        digest.update(segments.cpu().contiguous().numpy().tobytes())
    for mask in masks:
        digest.update(mask.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
