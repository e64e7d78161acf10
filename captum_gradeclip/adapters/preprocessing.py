"""How the library of a model makes a picture into its input, and where that input then lies in the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

Size = tuple[int, int]
"""Width and height in pixels, as pictures have them; those of inputs are called height and width."""


@dataclass(frozen=True)
class Preprocessing:
    """A model's own preprocessing: the library's transform, and the geometry that this transform has.

    A picture is resized as a whole, then a box is cut out of its center; where it is smaller than the box, colors are put
    around it.

    Attributes:
        transform: makes a picture, RGB and upright, into an input ``(C, H, W)``, normalized.
        resized: the width and height to which a picture of some width and height is resized; ``None`` if nobody states it.
        crop: width and height of the box; ``None`` if nothing is cut off.
        resize: what ``resized`` does, in words, ``"shorter side to 224"`` for instance.
        interpolation: ``"bicubic"`` for instance, by the names of Pillow in small letters.
        mean: mean of each of the C channels, in a range of colors from 0 to 1.
        std: standard deviation of each channel, likewise.
        floors: whether a box that cannot be centered lies half a pixel to the left and above; if not (default), its place is
            rounded to even numbers, as torchvision does it.

    >>> from captum_gradeclip import adapters, scenes
    >>> own = adapters.preprocessing(scenes.load()[0])
    >>> own.pixels(Image.new("RGB", (640, 480), "white")).shape, own.mean, own.interpolation
    (torch.Size([3, 96, 96]), (0.5, 0.5, 0.5), 'bicubic')
    """

    transform: Callable[[Image.Image], Tensor]
    resized: Callable[[Size], Size] | None
    crop: Size | None
    resize: str
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    floors: bool = False

    def pixels(self, image: Image.Image) -> Tensor:
        """The input ``(C, H, W)`` that the library makes of a picture, RGB and upright; of gray values for one channel.

        Raises:
            ValueError: for a model of other channels than one or three.
        """
        channels = len(self.mean)
        if channels not in (1, 3):
            raise ValueError(
                f"images: a picture becomes an input of one channel or of three, but this model takes {channels}; prepare a"
                f" tensor ({channels}, H, W) for it"
            )
        return self.transform(image if channels == 3 else image.convert("L"))[:channels]

    def box(self, size: Size) -> tuple[float, float, float, float] | None:
        """Where the input lies in a picture: its left, top, right and bottom edge in pixels of the picture.

        Args:
            size: width and height of the picture.

        Returns:
            The edges; ``None`` if nobody states how pictures are resized.

        >>> Preprocessing(lambda image: ..., shorter_side((48, 48)), (48, 48), "", "", (0,), (1,)).box((640, 480))
        (80.0, 0.0, 560.0, 480.0)
        """
        if self.resized is None:
            return None
        resized = self.resized(size)
        edges = []
        for side, now, cut in zip(size, resized, self.crop or resized):
            rest = now - cut
            # Where colors are put around, the smaller half of them lies on the left and above.
            start = -(-rest // 2) if rest < 0 else rest // 2 if self.floors else round(rest / 2)
            edges.append((start * side / now, (start + cut) * side / now))
        (left, right), (top, bottom) = edges
        return left, top, right, bottom

    @property
    def about(self) -> dict[str, object]:
        """All of it that can be told in words and numbers, to be written beside results."""
        return {
            "resize": self.resize,
            "crop": None if self.crop is None else {"width": self.crop[0], "height": self.crop[1]},
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def shorter_side(box: Size) -> Callable[[Size], Size]:
    """Resizing that keeps the aspect, to the smallest size that covers a box, as torchvision, open_clip and timm round it.

    Args:
        box: width and height.

    >>> shorter_side((224, 224))((4032, 3023)), shorter_side((100, 50))((400, 300))
    ((298, 224), (100, 75))
    """

    def resized(size: Size) -> Size:
        if box[0] == box[1]:
            short, long = min(size), max(size)
            other = int(box[0] * long / short)
            return (other, box[0]) if size[0] > size[1] else (box[0], other)
        return _divided(size, min(size[0] / box[0], size[1] / box[1]))

    return resized


def longer_side(box: Size) -> Callable[[Size], Size]:
    """Resizing that keeps the aspect, to the largest size that fits into a box, as open_clip and timm round it.

    >>> longer_side((224, 224))((4032, 3024))
    (224, 168)
    """
    return lambda size: _divided(size, max(size[0] / box[0], size[1] / box[1]))


def to_size(box: Size) -> Callable[[Size], Size]:
    """Resizing to a width and height, whatever the aspect.

    >>> to_size((224, 224))((4032, 3024))
    (224, 224)
    """
    return lambda size: box


def _divided(size: Size, ratio: float) -> Size:
    return round(size[0] / ratio), round(size[1] / ratio)
