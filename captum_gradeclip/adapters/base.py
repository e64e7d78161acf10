"""A tower as we see it: a handful of facts, stated by one short file per library."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Foreign: TypeAlias = Any
"""An object of a library that publishes no types for it. Only adapters look into such objects."""

Statistics: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel of normalized images."""

_Module = TypeVar("_Module", bound=nn.Module)


class UnsupportedModelError(TypeError):
    """No adapter knows this model, or its tower has no attention that could be explained."""


class NoTextTowerError(UnsupportedModelError):
    """The model has no text encoder, so that nothing but its image tower can be explained."""


@dataclass(frozen=True)
class Site:
    """An attention that can be explained.

    Attributes:
        module: the module that makes the attention call, or the block around it.
        kind: ``"self"`` where the tokens attend to each other, ``"pool"`` where learned queries attend to the tokens, and
            ``"cross"`` where tokens of one kind attend to tokens of another.

    >>> from captum_gradeclip.adapters import families, image_tower
    >>> model = families()["open_clip CoCa"].build()
    >>> [site.kind for site in image_tower(model).sites]
    ['self', 'self', 'self', 'self', 'pool']
    """

    module: nn.Module
    kind: Literal["self", "pool", "cross"] = "self"


@dataclass(frozen=True)
class Readout:
    """How the score leaves the tokens of the last site.

    Attributes:
        kind: ``"token"`` where one token is read and each token is treated on its own behind the last block, ``"pool"``
            where an attention pool is read, ``"several"`` where several tokens are read (an average, two class tokens),
            and ``"unknown"`` where nobody states it, so that only the gradient can show it.
        tokenwise_tail: whether everything behind the attention of the last block also runs on the token that is read
            alone. This fails where the block itself expects all tokens, as with rotary positions (default False).
        rows: maps inputs to the row of the token that is read, integers ``(N,)``; ``None`` where several tokens are read.

    >>> from captum_gradeclip.adapters import families, image_tower
    >>> readout = image_tower(families()["open_clip ViT"].build()).readout
    >>> readout.kind, readout.rows(torch.zeros(2, 3, 32, 32))  # the class token of both images
    ('token', tensor([0, 0]))
    """

    kind: Literal["token", "pool", "several", "unknown"]
    tokenwise_tail: bool = False
    rows: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class ImageTower:
    """The facts of an image encoder.

    Attributes:
        encode: runs the model's own forward pass on images ``(N, C, H, W)`` of the native size, of any size that is a
            multiple of ``patch``, or, where the tower ``pads``, of any size at all; returns features ``(N, D)`` that are
            not normalized, or the logits of a classifier.
        sites: the attention layers in the order in which they run; an attention pool comes last.
        readout: how the features leave the tokens.
        patch: side length of a patch, or the total stride of a convolutional tower, in pixels.
        size: native height and width in pixels.
        mean: mean of each of the C channels in the model's preprocessing.
        std: standard deviation of each of the C channels in the model's preprocessing.
        width: number D of features.
        dtype: data type of the images that the tower takes.
        classes: number of classes of a classifier, 0 (the default) where the features are no logits.
        labels: returns the class names of a classifier, or ``None`` if the model does not carry them.
        pads: whether the tower pads images on the right and below to whole patches; if not (default), what is left over
            there is not seen.
        pool_norm: the norm in front of an attention pool behind blocks, or behind it; ``None`` (default) where there is
            none, or it is not known.
        encode_bare: of a pool over convolutions, the forward pass without the pool's positions; ``None`` (default) for
            others.

    >>> from captum_gradeclip.adapters import families, image_tower
    >>> tower = image_tower(families()["open_clip ViT"].build())
    >>> tower.size, tower.patch, tower.grid((40, 24)), len(tower.layers)
    ((32, 32), 8, (5, 3), 4)
    >>> tower.encode(torch.zeros(2, 3, 40, 24)).shape == (2, tower.width)
    True
    """

    encode: Callable[[Tensor], Tensor]
    sites: Sequence[Site]
    readout: Readout
    patch: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: int
    dtype: torch.dtype
    classes: int = 0
    labels: Callable[[], tuple[str, ...] | None] = lambda: None
    pads: bool = False
    pool_norm: nn.Module | None = None
    encode_bare: Callable[[Tensor], Tensor] | None = None

    @property
    def channels(self) -> int:
        """Number C of channels of an image."""
        return len(self.mean)

    def statistics(self, processor: Statistics | None = None) -> Statistics:
        """Mean and standard deviation of each channel, those of the library's processor if there is one.

        A processor may have those of colors although the model takes gray images.
        """
        mean, std = processor or (self.mean, self.std)
        return per_channel(mean, self.channels), per_channel(std, self.channels)

    def grid(self, size: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the patches of images of some height and width in pixels."""
        return grid_of(size, self.patch, self.pads)

    @property
    def layers(self) -> list[nn.Module]:
        """The modules of the sites."""
        return [site.module for site in self.sites]


@dataclass(frozen=True)
class Front:
    """How a text encoder runs on the front of texts alone, where nothing that it returns depends on what stands behind.

    Attributes:
        length: maps token ids ``(N, L)`` to the number of positions, from the first on, that their features depend on. It
            refuses what ``encode`` refuses.
        encode: the model's own forward pass on that many positions; its features are those of the whole texts.
        parts: lists the modules that run in it. Where one is not the library's own, the whole texts have to run.
        causal: whether the tower is causal: no token attends to those behind it (default False).
    """

    length: Callable[[Tensor], int]
    encode: Callable[[Tensor], Tensor]
    parts: Callable[[], Sequence[nn.Module]]
    causal: bool = False


@dataclass(frozen=True)
class TextTower:
    """The facts of a text encoder.

    Attributes:
        encode: runs the model's own forward pass on token ids ``(N, L)`` and returns features ``(N, D)`` that are not
            normalized.
        sites: the attention layers in the order in which they run.
        readout: how the features leave the tokens.
        context_length: largest number of tokens of a text, its marks included.
        width: number D of features.
        pad: whether every text must be padded to ``context_length``.
        vocabulary: number of token ids.
        start: id of the mark in front of a text, or ``None`` if only the tokenizer knows it.
        end: id of the mark behind a text, or ``None`` if only the tokenizer knows it.
        project: applies the square matrix ``(D, D)`` with which the encoder ends to ``(N, D)``; ``None`` if there is none.
        front: how the encoder runs without the padding that it never sees; ``None`` (default) where it sees all of it.

    >>> from captum_gradeclip import adapters, scenes
    >>> model, _, tokenizer = scenes.load()
    >>> tower = adapters.text_tower(model)
    >>> tower.context_length, tower.vocabulary, tower.readout.rows(tokenizer(["a red circle"]))  # the end mark
    (24, 649, tensor([4]))
    """

    encode: Callable[[Tensor], Tensor]
    sites: Sequence[Site]
    readout: Readout
    context_length: int
    width: int
    pad: bool
    vocabulary: int
    start: int | None
    end: int | None
    project: Callable[[Tensor], Tensor] | None = None
    front: Front | None = None

    @property
    def layers(self) -> list[nn.Module]:
        """The modules of the sites."""
        return [site.module for site in self.sites]


CLASS_TOKEN, MEAN, POOL = "class token", "mean of the patches", "attention pool"
END_MARK, LAST, FIRST, MEAN_OF_WORDS = "end mark", "last token", "first token", "mean of the tokens"
TABLE, ROTATED, BIASED, SINES = "table", "rotary", "relative bias", "sines"


@dataclass(frozen=True)
class Family:
    """A row of the table of what is supported, with a tiny random model on which that can be checked offline.

    Attributes:
        name: name of the library and kind of model, for example ``"transformers CLIP"``.
        models: names of the library's classes that belong to the family.
        build: makes a tiny random model from a configuration. Its texts have up to :data:`CONTEXT` tokens with ids below
            :data:`VOCABULARY`, which is also the number of classes of a classifier.
        size: native height and width of the tiny model's images, in pixels (default 32 x 32).
        oblong: another height and width that the tiny model takes, or ``None`` if it takes one size only.
        text: whether there is a text encoder beside the image encoder (default True).
        note: what a user should know about the family (default empty).
        reads: what of an image the score reads (default its class token).
        text_reads: which token of a text the score reads (default the mark behind it); without meaning if there is no text.
        positions: how patches know their place (default from a table with a row for each).
        examples: models of this layout that are known by other names, as a checkpoint's name is no row (default none).
        missing: what the installed version of the library lacks, so that the family cannot be had (default nothing).

    >>> from captum_gradeclip.adapters import families, image_tower
    >>> family = families()["timm ViT"]
    >>> family.text, image_tower(family.build()).size == family.size
    (False, True)
    """

    name: str
    models: str
    build: Callable[[], nn.Module]
    size: tuple[int, int] = (32, 32)
    oblong: tuple[int, int] | None = (40, 24)
    text: bool = True
    note: str = ""
    reads: str = CLASS_TOKEN
    text_reads: str = END_MARK
    positions: str = TABLE
    examples: str = ""
    missing: str = ""

    @property
    def layout(self) -> tuple[str, str, str, str]:
        """What tells a family from others, class, read-out of images, read-out of texts, positions."""
        return self.models, self.reads, self.text_reads if self.text else "", self.positions


ROTARY = "rotary positions are applied in front of the attention, so queries and keys are the rotated ones"
SEVERAL = "no single read-out token: summed over the tokens that the score reads (our extension)"
PAIRS = "one size; a bias for each pair of positions arrives in the attention mask, and one head averages it over the heads"
CONTEXT, VOCABULARY = 12, 50
START, END = VOCABULARY - 2, VOCABULARY - 1


def blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of a transformer encoder, by the names that libraries give to their list.

    Raises:
        UnsupportedModelError: if there is none.
    """
    for name, part in module.named_modules():
        if isinstance(part, (nn.ModuleList, nn.Sequential)) and name.split(".")[-1] in _BLOCKS and len(part):
            return list(part)
    raise UnsupportedModelError(f"model: no list of transformer blocks in {type(module).__name__}")


_BLOCKS = ("resblocks", "blocks", "layers", "layer", "block", "h")


def unwrapped(module: nn.Module) -> Foreign:
    """The module inside wrappers that only say how it runs.

    These are :func:`torch.compile`, whose code makes no calls that could be intercepted, ``DataParallel`` and
    ``DistributedDataParallel``, which run copies of it or share its gradients, and the models of PEFT, whose adapters are
    layers of the module inside.
    """
    while True:
        if (original := getattr(module, "_orig_mod", None)) is not None:
            warnings.warn(
                f"{type(original).__name__} was compiled by torch.compile; it is explained as it was written, not compiled;"
                " compile its blocks one by one, block.compile(), and those in front of the explained layer stay compiled",
                stacklevel=4,
            )
            module = original
        elif isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif class_among(module, ["PeftModel"]):
            wrapper: Foreign = module
            module = wrapper.get_base_model()
        else:
            return module


def parts(module: nn.Module) -> list[nn.Module]:
    """A module and all modules inside it, each once, as ``module.modules()`` has them in another order.

    That function makes their names as well, for which every explanation would wait about as long as for two blocks on a GPU.

    >>> len(parts(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.GELU(), nn.Linear(2, 2)))))
    5
    """
    found: dict[nn.Module, None] = {}
    left: list[nn.Module | None] = [module]
    while left:
        part = left.pop()
        if part is not None and part not in found:
            found[part] = None
            left.extend(part._modules.values())
    return list(found)


def sites(blocks: Sequence[nn.Module], pool: nn.Module | None = None) -> list[Site]:
    """The sites of a tower of self-attention blocks, with an attention pool behind them if there is one."""
    return [*(Site(block) for block in blocks), *([] if pool is None else [Site(pool, "pool")])]


def first_row(inputs: Tensor) -> Tensor:
    """The row of the read-out token in a tower whose class token comes first."""
    return torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)


def up_to(rows: Tensor) -> int:
    """The number of positions up to the last of the rows that are read, as a causal tower sees them.

    >>> up_to(torch.tensor([3, 5]))
    6
    """
    return int(rows.max()) + 1


def without_padding(tokens: Tensor, pad: int) -> int:
    """The number of positions up to the last token in a batch ``(N, L)`` that is no padding.

    All where a text is nothing but padding: such a mask hides nothing, or everything.

    >>> without_padding(torch.tensor([[5, 7, 0, 0], [5, 0, 7, 0]]), 0)
    3
    """
    words = tokens.ne(pad)
    return up_to(words.any(dim=0).nonzero()) if words.any(dim=1).all() else tokens.shape[1]


def class_token(tokenwise_tail: bool = True) -> Readout:
    """The read-out of a tower that reads a class token in front of the others."""
    return Readout("token", tokenwise_tail, first_row)


def execution_device(model: nn.Module) -> torch.device:
    """The device on which the model computes.

    Weights that accelerate keeps elsewhere come to the device of its hooks for the time of a forward pass.
    """
    hooks = [getattr(part, "_hf_hook", None) for part in model.modules()]
    dispatched = [device for hook in hooks if (device := getattr(hook, "execution_device", None)) is not None]
    return torch.device(dispatched[0]) if dispatched else next(model.parameters()).device


def class_among(module: object, known: Sequence[str]) -> str | None:
    """The first of some class names that a module's class has or is derived from, as a parametrized or own class is.

    >>> class Mine(nn.Linear): ...
    >>> class_among(Mine(2, 2), ["Conv2d", "Linear"])
    'Linear'
    """
    # A list: an interrupt in a generator that is left halfway would be lost.
    found = [kind.__name__ for kind in type(module).__mro__ if kind.__name__ in known]
    return found[0] if found else None


def unsupported(kind: str, supported: str) -> UnsupportedModelError:
    """The error for a tower that no adapter explains, with what to do instead.

    >>> str(unsupported("ResNet", "ViT"))[:53]
    'model: ResNet is convolutional or hierarchical: no la'
    """
    for names, reason in _REFUSED:
        if any(name in kind.lower() for name in names):
            return UnsupportedModelError(f"model: {kind} {reason}")
    return UnsupportedModelError(
        f"model: {kind} has no adapter; supported are {supported}. Any model with plain attention can be explained through"
        " a callable, GradECLIP(lambda x: model(x), layer); for convolutional ones use captum.attr.LayerGradCam"
    )


_REFUSED = (
    (
        ["gemma4vit", "qwen3vit", "pixtral"],
        "takes the patches of several images as one packed sequence, so that it has no batch of images; explain an image"
        " tower that takes one, such as timm's NaFlexVit, which has any size and aspect",
    ),
    (
        [
            *("llava", "qwen", "paligemma", "gemma", "idefics", "kosmos", "florence", "internvl", "colpali"),
            *("colmodernvbert", "forconditionalgeneration", "forcausallm"),
        ],
        "generates, or embeds with a decoder: there is no token of an image that is compared with a text. For the words of"
        " an answer use captum.attr.LLMAttribution with ImageMaskInput, or vl-saliency; for a retriever with a vector for"
        " each token use the similarity maps of colpali-engine",
    ),
    (
        ["blip2", "xclip", "groupvit"],
        "compares a text with several vectors of an image (queries, frames or groups); explain its score through a"
        " callable, GradECLIP(lambda images: scores, layer)",
    ),
    (
        ["cait", "xcit"],
        "mixes its heads, or has channels attend to channels, so that no head weighs the tokens; use captum_gradeclip.RISE"
        " on the model itself, which looks at no layer",
    ),
    (
        [
            *("swin", "convnext", "resnet", "regnet", "efficientnet", "mobilenet", "mobilevit", "densenet", "vgg", "nfnet"),
            *("maxvit", "maxxvit", "coatnet", "hiera", "mvit", "multiscale", "pvt", "pyramid", "segformer", "davit"),
            *(
                "focal",
                "nest",
                "edgenext",
                "convformer",
                "metaformer",
                "poolformer",
                "fastvit",
                "efficientvit",
                "levit",
                "twins",
            ),
            *("visiontransformersam", "align", "byobnet"),
        ],
        "is convolutional or hierarchical: no layer attends from one read-out token to all patches of the image, so there"
        " are no queries, keys and values that Grad-ECLIP could explain; use captum.attr.LayerGradCam on its last stage",
    ),
)


def replaced(module: _Module, name: str, value: object) -> _Module:
    """A shallow view of a module in which one parameter, part or attribute is another; the module is not touched.

    Everything else is shared, hooks included. :func:`torch.func.functional_call` would swap the parameter inside the
    user's own module for a moment, and two threads that explain images of different sizes would see each other's.

    Args:
        module: the module to be viewed. It may have parametrizations, such as weight normalization.
        name: dotted path of the parameter, part or attribute.
        value: what the view has in its place.

    >>> linear = nn.Linear(2, 1, bias=False)
    >>> replaced(linear, "weight", torch.ones(1, 3))(torch.ones(3))
    tensor([3.])
    >>> linear.weight.shape
    torch.Size([1, 2])
    """
    head, _, rest = name.partition(".")
    kind = type(module)
    if isinstance(inspect.getattr_static(kind, head, None), property):
        # A parametrized tensor is a property of the module's class, which only a class below it can hide.
        kind = type(kind.__name__, (kind,), {"__module__": kind.__module__, head: value})
    # Not by copy.copy, which pickles, and modules with parametrizations refuse to be pickled.
    view = kind.__new__(kind)
    view.__dict__.update({key: _rebound(one, module, view) for key, one in module.__dict__.items()})
    if rest:
        view._modules = {**module._modules, head: replaced(module.get_submodule(head), rest, value)}
    elif head in module._parameters:
        view._parameters = {**module._parameters, head: value}  # type: ignore[dict-item]  # a plain tensor will do
    elif head in module._modules:
        view._modules = {**module._modules, head: value}  # type: ignore[dict-item]  # the caller gives a module for a module
    else:
        view.__dict__[head] = value
    return view


def _rebound(value: object, module: nn.Module, view: nn.Module) -> object:
    """An attribute of a module as one of its view: accelerate gives modules a ``forward`` that is bound to themselves."""
    if isinstance(value, MethodType) and value.__self__ is module:
        return MethodType(value.__func__, view)
    if isinstance(value, partial) and value.args and value.args[0] is module:
        return partial(value.func, view, *value.args[1:], **value.keywords)
    return value


def resize_positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A position table for another patch grid, interpolated bicubically with ``align_corners=False``.

    The rows of prefix tokens are kept as they are.

    Args:
        table: positions ``(prefix + h * w, C)`` for the native grid.
        native: rows and columns ``(h, w)`` of the grid that the table was made for.
        grid: rows and columns of the grid that is wanted.

    >>> resize_positions(torch.zeros(1 + 4, 8), (2, 2), (3, 5)).shape
    torch.Size([16, 8])
    """
    prefix = len(table) - native[0] * native[1]
    patches = table[prefix:].T.reshape(1, -1, *native)
    wide = torch.promote_types(table.dtype, torch.float32)
    patches = F.interpolate(patches.to(wide), size=grid, mode="bicubic", align_corners=False).to(table.dtype)
    return torch.cat([table[:prefix], patches[0].flatten(1).T])


def square(projection: Tensor | nn.Module | None) -> Callable[[Tensor], Tensor] | None:
    """A matrix or linear layer as a function of features, or ``None`` unless it is square and has no bias.

    Of a module of somebody else, such as an adapter around the layer, nobody knows that it is linear.
    """
    if isinstance(projection, nn.Module):
        linear = type(projection) is nn.Linear and projection.bias is None
        return projection if linear and projection.in_features == projection.out_features else None
    if projection is None or projection.shape[0] != projection.shape[1]:
        return None
    return lambda features: features @ projection


def grid_of(size: Sequence[int], patch: int, pads: bool = False) -> tuple[int, int]:
    """Rows and columns of the patches of an image.

    Args:
        size: height and width in pixels.
        patch: side length of a patch in pixels.
        pads: whether the image is padded to whole patches; if not (default), what is left over is dropped, as by any
            convolution without padding.

    >>> grid_of((384, 384), 14), grid_of((70, 50), 16, pads=True)
    ((27, 27), (5, 4))
    """
    extra = patch - 1 if pads else 0
    return (size[0] + extra) // patch, (size[1] + extra) // patch


def check_size(
    images: Tensor, patch: int, native: Sequence[int] | None, channels: int = 3, pads: bool = False
) -> tuple[int, int]:
    """Height and width of a batch of images, in pixels.

    Args:
        images: the batch.
        patch: side length of a patch in pixels.
        native: height and width that the model was made for, which need not be multiples of the patch; ``None`` if it takes
            no others than multiples.
        channels: number of channels that the model takes (default 3).
        pads: whether the model pads images of any size to whole patches (default False).

    Raises:
        ValueError: if the batch is not ``(N, channels, H, W)``, or a side is no multiple of the patch.
    """
    if images.dim() != 4 or images.shape[1] != channels:
        raise ValueError(f"inputs: images, expected (N, {channels}, H, W), got shape {tuple(images.shape)}")
    height, width = images.shape[-2:]
    if pads or (native is not None and (height, width) == tuple(native)):
        return height, width
    if height < patch or width < patch or height % patch or width % patch:
        near = tuple(max(1, round(side / patch)) * patch for side in (height, width))
        own = "" if native is None or grid_of(near, patch) != grid_of(native, patch) else " or the native size"
        raise ValueError(
            f"inputs: images, height and width must be multiples of the patch size {patch}, got {height} x {width};"
            f" resize to {near[0]} x {near[1]}{own}"
        )
    return height, width


def pair(sides: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, of which libraries give one number for both if they are equal.

    >>> pair(224), pair([224, 112])
    ((224, 224), (224, 112))
    """
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return int(height), int(width)


def square_patch(sides: int | Sequence[int]) -> int:
    """The side length of a patch.

    Raises:
        UnsupportedModelError: if patches are not square.
    """
    rows, columns = pair(sides)
    if rows != columns:
        raise UnsupportedModelError(f"model: patches must be square, got {rows} x {columns}")
    return rows


def channels_of(embedding: nn.Module, patch: int) -> int:
    """The number of channels that the layer takes which meets the pixels first.

    Args:
        embedding: what makes tokens of images; the convolutions of a stem are in the order in which they run.
        patch: side length of a patch in pixels, which a linear layer takes whole.

    >>> channels_of(nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3)), 3), channels_of(nn.Linear(64, 8), 8)
    (4, 1)
    """
    layers = [part for part in embedding.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    first = layers[0] if layers else None
    return first.in_channels if isinstance(first, nn.Conv2d) else first.in_features // patch**2 if first is not None else 3


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """The means or deviations of a model's channels; those of colors, averaged, where it takes no colors.

    >>> per_channel((0.0, 0.5, 1.0), 3), per_channel((0.0, 0.5, 1.0), 1)
    ((0.0, 0.5, 1.0), (0.5,))
    """
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels
