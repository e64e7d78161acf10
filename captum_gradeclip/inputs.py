"""What people hold - pictures, files, arrays, tensors, batches of a processor - made into inputs of a model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from . import adapters
from .adapters.base import Foreign
from .ahead import ahead, usual_workers
from .images import MAX_TOKENS, Picture, Resize, decoded, prepare, read, to_rgb
from .maps import Frame
from .notices import notice
from .placement import find_frame
from .quoting import check_utf8, line, quoted

Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
Source: TypeAlias = "Image.Image | str | os.PathLike[str] | Array | Tensor | Picture"
"""One picture: a PIL image, a path, an array ``(H, W, 3)`` of uint8, a prepared tensor ``(C, H, W)`` or :class:`Picture`."""
Images: TypeAlias = "Source | Mapping[str, object] | Iterable[Source]"
Transform: TypeAlias = "Callable[[Image.Image], Tensor | Picture]"
Preprocess: TypeAlias = "str | int | Transform | Foreign"
"""How a picture becomes the input of a model, see :func:`captum_gradeclip.explain`."""


@dataclass(frozen=True)
class Inputs:
    """Pictures with the inputs that are made of them.

    Attributes:
        names: the name of each: that of the file, or ``"image 0"`` and so on.
        pictures: gives the pictures and their inputs, once and in order, each when it is asked for or a little earlier.
        paths: the files of those that were given by their paths.
    """

    names: list[str]
    pictures: Iterator[Picture]
    paths: list[Path]


def read_inputs(
    images: Images,
    model: nn.Module,
    preprocess: Preprocess = None,
    processor: Foreign = None,
    max_tokens: int | None = None,
    workers: int | None = None,
) -> Inputs:
    """The pictures that somebody passed, as inputs of a model; arguments as for :func:`captum_gradeclip.explain`.

    Args:
        images: one picture or several.
        model: a model that an adapter knows.
        preprocess: how a picture becomes an input.
        processor: a processor of transformers that knows the model's own preprocessing (default ``None``).
        max_tokens: the most patches that ``"keep"`` and a number may give.
        workers: number of threads that decode and prepare pictures ahead; ``None`` (default) for as many as there are
            cores, 4 at most, and none for one picture or for a callable of the user, which may not bear it.

    Raises:
        FileNotFoundError, TypeError, ValueError: naming the argument. What is wrong with a picture itself is told when it is
            asked for.
    """
    _check_preprocess(preprocess)
    sources, names, paths = _listed(images, model), [], []
    for number, one in enumerate(sources):
        if isinstance(one, (str, os.PathLike)):
            check_utf8("images", os.fspath(one))
            paths.append(Path(one).absolute())
            names.append(paths[-1].name)
            if not paths[-1].exists():  # before the others are explained
                raise FileNotFoundError(f"images: there is no file {quoted(one)}")
        else:
            names.append(f"image {number}")
    if not names:
        raise ValueError("images: expected at least one, got none")
    # Tensors need no preparation, and the libraries of processors take a while to import.
    raw = any(not isinstance(one, (Picture, Tensor)) for one in sources)
    to_input = preparation(model, preprocess, processor, max_tokens=max_tokens) if raw else None
    if workers is None:
        workers = usual_workers(len(sources)) if raw and not callable(preprocess) else 0
    return Inputs(names, ahead(partial(_read, adapters.image_tower(model), to_input), sources, workers), paths)


def _read(tower: adapters.ImageTower, to_input: Callable[[Image.Image], Picture] | None, source: Source) -> Picture:
    if isinstance(source, Picture):
        found = source
    elif isinstance(source, Tensor):
        found = _prepared(source, tower)
    else:
        assert to_input is not None
        found = to_input(_picture(source))
    _check_tokens(found.pixels, tower)
    return found


def preparation(
    model: nn.Module,
    preprocess: Preprocess = None,
    processor: Foreign = None,
    scale: float = 1.0,
    max_tokens: int | None = None,
) -> Callable[[Image.Image], Picture]:
    """What makes a picture the input of a model.

    Args:
        model: a model that an adapter knows.
        preprocess: how, as for :func:`captum_gradeclip.explain`.
        processor: a processor of transformers that knows the model's own preprocessing; ``None`` (default) for the word of
            the model's library.
        scale: a factor on both sides, for ``"keep"`` and a number only; as ``max_tokens`` for :func:`.images.prepare`.
        max_tokens: the most patches that ``"keep"`` and a number may give.

    Raises:
        TypeError, ValueError: naming the argument.
    """
    _check_preprocess(preprocess)
    tower = adapters.image_tower(model)
    if adapters.is_processor(preprocess):
        preprocess, processor = None, preprocess
    if callable(preprocess):
        return partial(_transformed, preprocess, tower.patch, {})
    own = adapters.preprocessing(model, processor)
    if preprocess is None or preprocess == "model":
        return partial(_by_model, own, tower.patch, {})
    resize: Foreign = preprocess  # one of its words, or a number
    return partial(
        prepare,
        size=tower.size,
        patch=tower.patch,
        mean=own.mean,
        std=own.std,
        resize=resize,
        scale=scale,
        max_tokens=max_tokens,
        interpolation=own.interpolation,
    )


def _check_preprocess(given: Preprocess) -> None:
    size = isinstance(given, int) and not isinstance(given, bool)
    named = isinstance(given, str) and given in ("model", *get_args(Resize))
    if not (given is None or size or named or callable(given) or adapters.is_processor(given)):
        raise ValueError(
            f"preprocess: expected 'model', one of {get_args(Resize)}, the longer side in pixels, a processor or a callable,"
            f" got {quoted(given)}"
        )


def _listed(images: Images, model: nn.Module) -> list[Source]:
    if isinstance(images, Mapping):
        if not {"pixel_values", "patches"} & set(images):
            found = ", ".join(map(str, images)) or "nothing"
            raise ValueError(f"images: expected the pixel_values of a processor, got {line(found)}")
        return list(adapters.pixel_values(images, model))
    if isinstance(images, Tensor) and images.dim() == 4:
        return list(images)
    if isinstance(images, (Image.Image, str, os.PathLike, np.ndarray, Tensor, Picture)):
        return [images]
    if not isinstance(images, Iterable):
        raise TypeError(
            "images: expected a PIL image, a path, an array (H, W, 3) of uint8, a tensor (C, H, W) or (N, C, H, W), what a"
            f" processor of transformers returned, or a list of these, got {type(images).__name__}"
        )
    return [one for some in images for one in _listed(some, model)]


def _by_model(own: adapters.Preprocessing, patch: int, frames: dict[tuple[int, int], Frame], image: Image.Image) -> Picture:
    image = to_rgb(image)
    pixels, box = own.pixels(image).detach().cpu(), own.box(image.size)
    if image.size not in frames:
        aspect = pixels.shape[-1] / pixels.shape[-2]
        frames[image.size] = Frame(image.size, box) if box else _frame(own.pixels, image.size, aspect)
    return Picture(image, pixels[None], frames[image.size], patch, own.about)


def _picture(source: Image.Image | str | os.PathLike[str] | Array) -> Image.Image:
    if isinstance(source, Image.Image):
        return _within_bounds(source)
    if isinstance(source, (str, os.PathLike)):
        try:
            return read(source)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(str(error).replace("path:", "images:", 1)) from None
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
        raise ValueError(
            f"images: expected an array (H, W, 3) of uint8, got {source.dtype} of shape {source.shape}; several images are a"
            " list of arrays, and what is prepared for the model already is a tensor"
        )
    return _within_bounds(Image.fromarray(source))


def _within_bounds(image: Image.Image) -> Image.Image:
    try:
        return decoded(image)
    except ValueError as error:
        raise ValueError(str(error).replace("image:", "images:", 1)) from None


def _prepared(pixels: Tensor, tower: adapters.ImageTower) -> Picture:
    """A tensor that is an input already, beside the picture that it was made from, as far as its values show it."""
    channels = tower.channels
    if pixels.dim() != 3 or pixels.shape[0] != channels or not pixels.numel() or not pixels.is_floating_point():
        raise ValueError(
            f"images: expected a floating point tensor ({channels}, H, W) or (N, {channels}, H, W), got {pixels.dtype} of"
            f" shape {tuple(pixels.shape)}; raw pixels may be given as an array (H, W, 3) of uint8"
        )
    _check_tokens(pixels, tower)
    pixels = pixels.detach().cpu()
    mean, std = (torch.tensor(values)[:, None, None] for values in (tower.mean, tower.std))
    shown = (pixels.float() * std + mean).nan_to_num(0).clamp(0, 1)
    # Of more channels than colors the first are taken for red, green and blue.
    shown = shown[:3] if channels >= 3 else shown.mean(dim=0).expand(3, -1, -1)
    image = Image.fromarray((255 * shown).round().byte().permute(1, 2, 0).numpy())
    return Picture(image, pixels[None], Frame.whole(image.size), tower.patch)


def _check_tokens(pixels: Tensor, tower: adapters.ImageTower) -> None:
    height, width = pixels.shape[-2:]
    if math.prod(tower.grid((height, width))) > MAX_TOKENS:
        raise ValueError(
            f"images: an input of {height} x {width} pixels gives more than {MAX_TOKENS:,} patches of {tower.patch};"
            " prepare it smaller"
        )


def _transformed(
    transform: Callable[[Image.Image], Tensor | Picture],
    patch: int,
    frames: dict[tuple[int, int], Frame],
    image: Image.Image,
) -> Picture:
    made = transform(image)
    if isinstance(made, Picture):
        return replace(made, patch=patch)
    pixels = _output(made)
    if image.size not in frames:
        frames[image.size] = _frame(transform, image.size, pixels.shape[-1] / pixels.shape[-2])
    return Picture(to_rgb(image), pixels[None], frames[image.size], patch, {"resize": "a function of the user"})


def _output(made: object) -> Tensor:
    """What a transform returned, if it is an input of a model."""
    if not isinstance(made, Tensor) or made.dim() != 3 or not made.numel() or not made.is_floating_point():
        kind = f"{made.dtype} of shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise TypeError(
            f"preprocess: expected it to return a floating point tensor (C, H, W), got {kind}; end your"
            " transform with v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True) and v2.Normalize, or"
            " give 'model', 'squash' or 'keep' in its place"
        )
    return made.detach().cpu()


def _frame(transform: Transform, size: tuple[int, int], aspect: float) -> Frame:
    """Where the output of a transform lies in pictures of a size, as far as it can be found."""
    try:
        found = find_frame(lambda image: _output(transform(image)), size)
    except Exception:  # a transform may take nothing but pictures of a certain kind
        found = None
    if found is None:
        notice(
            "preprocess: which part of a picture it shows could not be found, so that maps lie on the largest centered box"
            " of its aspect; return a captum_gradeclip.images.Picture to say it"
        )
    return found or Frame.crop(size, aspect)
