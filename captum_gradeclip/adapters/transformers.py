"""transformers' dual encoders (CLIP, SigLIP, BLIP, OWL-ViT and more), image classifiers and image encoders (ViT, DINO)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature

import torch
from PIL import Image
from torch import Tensor, nn
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from . import patches
from .base import (
    Foreign,
    Front,
    ImageTower,
    NoTextTowerError,
    Readout,
    TextTower,
    UnsupportedModelError,
    blocks,
    channels_of,
    check_size,
    class_among,
    class_token,
    first_row,
    pair,
    parts,
    per_channel,
    replaced,
    sites,
    square,
    square_patch,
    unsupported,
    up_to,
    without_padding,
)
from .preprocessing import Preprocessing, Size, shorter_side, to_size
from .transformers_families import FAMILIES as FAMILIES

_POOLED = ("SiglipModel", "Siglip2Model", "Aimv2Model")
"""Dual encoders whose image side ends with an attention pool."""

# The end mark of a text is found by its id; or it is the highest id; or old configurations state a wrong id, 2, in place of
# which the library takes the highest.
_BY_ID, _HIGHEST = ("MetaClip2Model", "Aimv2Model"), ("OwlViTModel", "Owlv2Model")
_BY_ID_OR_HIGHEST = ("CLIPModel", "CLIPSegModel")
_CAUSAL = (*_BY_ID_OR_HIGHEST, *_BY_ID, *_HIGHEST)
_PATCHES = ("Siglip2Model", "Siglip2ForImageClassification")
"""Classes that take images as patches."""

_DUAL = (
    *_CAUSAL,
    *("SiglipModel", "Siglip2Model", "ChineseCLIPModel", "AltCLIPModel", "BlipModel", "BlipForImageTextRetrieval"),
    *("FlavaModel", "Tipsv2Model", "VisionTextDualEncoderModel"),
)
_CLASS_AND_MEAN = ("Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification")  # class token beside a mean
_MEAN = (
    *("CLIPForImageClassification", "MetaClip2ForImageClassification"),
    *("SiglipForImageClassification", "Siglip2ForImageClassification", "IJepaForImageClassification"),
)
_BIASED = ("BeitForImageClassification", "Data2VecVisionForImageClassification")  # by a configuration, mean or class token
_DEIT = ("DeiTForImageClassification", "DeiTForImageClassificationWithTeacher")
_CLASSIFIERS = (
    *("ViTForImageClassification", "ViTMSNForImageClassification"),
    *(*_DEIT, *_CLASS_AND_MEAN, *_MEAN, *_BIASED),
)
_ENCODERS = ("Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel")
"""Image encoders without classes and texts, which return the normalized class token."""

_ANY_GRID = (*_CLASS_AND_MEAN, *_ENCODERS, *_PATCHES, "Tipsv2Model")
"""Classes that make positions for any grid by themselves."""

_JOINED = ("CLIPVisionModel", "ViTModel", "DeiTModel", "Dinov2Model", "Dinov2WithRegistersModel")
_JOINED_TEXTS = ("BertModel", "RobertaModel", "XLMRobertaModel")
"""Encoders that a ``VisionTextDualEncoderModel`` may join; all of them pool their first token."""

_KINDS = (*_DUAL, *_CLASSIFIERS, *_ENCODERS, "TimmWrapperForImageClassification")


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a dual encoder's image side, of an image classifier, or of an image encoder."""
    kind = _kind(model)
    owner: Foreign = model
    if kind == "TimmWrapperForImageClassification":
        return _wrapped_timm(owner)
    config, trunk = _image_side(owner, kind)
    patch = square_patch(config.patch_size)
    # Siglip2 has no image size, only a square table of positions.
    native = pair(patch * round(config.num_patches**0.5) if kind in _PATCHES else config.image_size)
    channels = channels_of(trunk.embeddings if hasattr(trunk, "embeddings") else trunk, patch)
    interpolates = kind not in _ANY_GRID and kind != "Aimv2Model" and class_among(trunk, ["Dinov2PreTrainedModel"]) is None
    one_size = kind in _BIASED or (kind == "Aimv2Model" and not config.is_native)
    one_size |= kind in _CLASSIFIERS and interpolates and not _takes(owner.forward, "interpolate_pos_encoding")

    def encode(images: Tensor) -> Tensor:
        size = check_size(images, patch, native, channels)
        if one_size and size != native:
            only = f"{native[0]} x {native[1]}"
            raise ValueError(f"inputs: images, this {type(owner).__name__} takes {only} only, got {size[0]} x {size[1]}")
        other: dict[str, Foreign] = {"interpolate_pos_encoding": True} if interpolates and size != native else {}
        given = _patches(images, patch) if kind in _PATCHES else {"pixel_values": images, **other}
        if kind in ("BlipForImageTextRetrieval", "VisionTextDualEncoderModel"):
            output = trunk(**given)
            joined = kind == "VisionTextDualEncoderModel"
            return owner.visual_projection(output[1]) if joined else owner.vision_proj(output[0][:, 0])  # type: ignore[no-any-return]
        if kind in _DUAL:
            features = _tensor(owner.get_image_features(**given))
            return features[:, 0] if kind == "FlavaModel" else features  # which projects all tokens
        output = owner(**given)
        return output[1 if kind in _ENCODERS else 0]  # type: ignore[no-any-return]  # of a tuple as well (return_dict=False)

    pool = getattr(trunk, "head", None) if kind in _POOLED else None
    if kind == "Aimv2Model" and pool is None:
        raise UnsupportedModelError("model: this Aimv2Model has no head (use_head=False), so it has no features of images")
    mean, std = _STATISTICS.get(kind, OPENAI)
    classes = owner.config.num_labels if kind in _CLASSIFIERS else 0
    return ImageTower(
        encode=encode,
        sites=sites(blocks(trunk), pool),
        readout=Readout("pool") if pool is not None else _readout(kind, config),
        patch=patch,
        size=native,
        mean=per_channel(mean, channels),
        std=per_channel(std, channels),
        width=classes or _width(owner, kind),
        dtype=owner.dtype,
        classes=classes,
        labels=lambda: _labels(owner.config) if classes else None,
        pool_norm=None if pool is None else getattr(trunk, "post_layernorm", None),
    )


def _image_side(owner: Foreign, kind: str) -> tuple[Foreign, Foreign]:
    """The configuration and the module of the image side."""
    if kind == "FlavaModel":
        return owner.config.image_config, owner.image_model
    if kind == "VisionTextDualEncoderModel":
        if class_among(owner.vision_model, _JOINED) is None or class_among(owner.text_model, _JOINED_TEXTS) is None:
            raise unsupported(
                f"VisionTextDualEncoderModel of {type(owner.vision_model).__name__} and {type(owner.text_model).__name__}",
                f"those of {', '.join(_JOINED)} and {', '.join(_JOINED_TEXTS)}",
            )
        return owner.config.vision_config, owner.vision_model
    if kind in _ENCODERS:
        return owner.config, owner
    if hasattr(owner, "vision_model"):
        return owner.config.vision_config, owner.vision_model
    return owner.config, getattr(owner, owner.base_model_prefix)


def _readout(kind: str, config: Foreign) -> Readout:
    if kind in (*_CLASS_AND_MEAN, *_MEAN, "DeiTForImageClassificationWithTeacher"):
        return Readout("several")
    if kind in _BIASED:
        return Readout("several") if config.use_mean_pooling else class_token(tokenwise_tail=False)
    return class_token(tokenwise_tail=kind != "DINOv3ViTModel")  # rotary positions are made for all tokens


def _wrapped_timm(owner: Foreign) -> ImageTower:
    """The facts of a classifier of timm inside a model of transformers."""
    from . import timm

    inner = timm.image_tower(owner.timm_model)

    def encode(images: Tensor) -> Tensor:
        view = replaced(owner, "timm_model", timm.resized(owner.timm_model, images))
        return view(pixel_values=images)[0]  # type: ignore[no-any-return]

    return replace(inner, encode=encode, labels=lambda: _labels(owner.config))


def preprocessing(model: nn.Module) -> Preprocessing:
    """What the image processor of a model's family does, at the size and with the statistics of the model.

    A model does not carry its processor. The one that lies beside the weights may do otherwise, see :func:`by_processor`.
    """
    import transformers

    kind, tower = _kind(model), image_tower(model)
    owner: Foreign = model
    if kind == "TimmWrapperForImageClassification":
        from . import timm

        return timm.preprocessing(owner.timm_model)
    if kind == "VisionTextDualEncoderModel":
        kind = type(owner.vision_model).__name__
    library: Foreign = getattr(transformers, _PROCESSORS.get(kind, "CLIPImageProcessor"))
    height, width = tower.size
    statistics = {"image_mean": list(tower.mean), "image_std": list(tower.std)}
    if kind in _PATCHES:
        patches = height * width // tower.patch**2
        return by_processor(library(patch_size=tower.patch, max_num_patches=patches, **statistics), tower.channels)
    usual = library()
    size, crop = _sides(usual.size), _sides(usual.crop_size) if getattr(usual, "do_center_crop", False) else None
    # Some families resize to more than what they then cut out.
    share = 1.0 if crop is None else next(iter(size.values())) / crop["height"]
    if "shortest_edge" in size:
        settings: dict[str, Foreign] = {"size": {"shortest_edge": int(share * min(height, width))}}
    else:
        settings = {"size": {"height": int(share * height), "width": int(share * width)}}
    if crop is not None:
        settings["crop_size"] = {"height": height, "width": width}
    return by_processor(library(**settings, **statistics), tower.channels)


def by_processor(processor: Foreign, channels: int) -> Preprocessing:
    """What an image processor of transformers, or the processor around one, does to pictures.

    Args:
        processor: the processor.
        channels: number of channels that the model takes.
    """
    inner: Foreign = getattr(processor, "image_processor", processor)

    def transform(image: Image.Image) -> Tensor:
        return pixel_values(inner(images=image, return_tensors="pt"), channels)[0]

    mean, std = (tuple(getattr(inner, f"image_{name}", None) or _UNCHANGED[name]) for name in ("mean", "std"))
    if not getattr(inner, "do_normalize", True):
        mean, std = _UNCHANGED["mean"], _UNCHANGED["std"]
    resized, resize = _resizing(inner)
    squared = class_among(inner, ["Owlv2ImageProcessor", "Owlv2ImageProcessorFast"]) is not None
    crop = _sides(inner.crop_size) if getattr(inner, "do_center_crop", False) else None
    return Preprocessing(
        transform=transform,
        resized=resized,
        crop=None if crop is None else (crop["width"], crop["height"]),
        resize=f"to a square, {resize}" if squared else resize,
        interpolation=_interpolation(inner),
        mean=per_channel(mean, channels),
        std=per_channel(std, channels),
        floors=True,
        squared=squared,
    )


def pixel_values(features: Foreign, channels: int) -> list[Tensor]:
    """Images ``(C, H, W)`` as a processor of transformers returns them, also those that it has cut into patches.

    Args:
        features: what the processor returned, with the tensor ``pixel_values``.
        channels: number of channels that the model takes.

    Raises:
        ValueError: if there are no such images.
    """
    pixels: Foreign = features.get("pixel_values")
    if "spatial_shapes" in features and isinstance(pixels, Tensor) and pixels.dim() == 3:
        patch = round((pixels.shape[-1] / channels) ** 0.5)
        grids = [tuple(torch.arange(int(side)) for side in grid) for grid in features["spatial_shapes"]]
        places = [torch.cartesian_prod(*sides) for sides in grids]
        # What stands behind the patches of an image is padding, to the number of patches of the largest.
        return [patches.joined(one[: len(own)], own, patch, channels) for one, own in zip(pixels, places)]
    if not isinstance(pixels, Tensor) or pixels.dim() != 4:
        shape = f"of shape {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else f"as {type(pixels).__name__}"
        raise ValueError(
            f"images: expected pixel_values of a processor as a tensor (N, {channels}, H, W), got them {shape}; call it with"
            ' return_tensors="pt"'
        )
    return list(pixels)


def text_tower(model: nn.Module) -> TextTower:
    """The facts of a dual encoder's text side."""
    kind = _kind(model)
    owner: Foreign = model
    if kind not in _DUAL:
        raise NoTextTowerError(
            f"model: {kind} of transformers has no text encoder; explain a class of it with captum_gradeclip.ClassScore"
        )
    config = owner.config.text_config
    trunk = owner.text_encoder if kind == "BlipForImageTextRetrieval" else owner.text_model
    siglip, causal = kind in ("SiglipModel", "Siglip2Model"), kind in _CAUSAL
    limit = int(config.max_position_embeddings)
    if kind == "AltCLIPModel" or class_among(trunk, ["RobertaModel", "XLMRobertaModel"]):
        limit -= config.pad_token_id + 1  # RoBERTa counts its positions from there
    start_id: Foreign = getattr(config, "bos_token_id", None)
    end_id: Foreign = getattr(config, "eos_token_id", None)
    highest = kind in _HIGHEST or (kind in _BY_ID_OR_HIGHEST and end_id == 2)

    def check(tokens: Tensor) -> None:
        if tokens.shape[-1] > limit:
            raise ValueError(f"inputs: tokens, expected at most {limit} tokens per text, got {tokens.shape[-1]}")

    def encode(tokens: Tensor) -> Tensor:
        check(tokens)
        options = {"input_ids": tokens, "attention_mask": None if siglip else visible(tokens)}
        if kind == "Aimv2Model":
            options["attention_mask"] = _causal(visible(tokens), owner.dtype)
        if kind == "BlipForImageTextRetrieval":
            return owner.text_proj(owner.text_encoder(**options)[0][:, 0])  # type: ignore[no-any-return]
        if kind == "VisionTextDualEncoderModel":
            return owner.text_projection(owner.text_model(**options)[1])  # type: ignore[no-any-return]
        features = _tensor(owner.get_text_features(**options))
        return features[:, 0] if kind == "FlavaModel" else features

    def visible(tokens: Tensor) -> Tensor:
        if not causal:
            return tokens.ne(config.pad_token_id).long()
        if start_id is None:
            return torch.ones_like(tokens)
        # A causal tower never sees what is behind the end mark, but would see padding in front of the start mark. CLIP's
        # tokenizers pad with an id that also means the end, so padding is told by its place. Old configurations have other
        # ids for the marks (0 and 2) than the tokenizer; a word may then stand in front of such an id.
        waiting = tokens.eq(start_id).cumsum(dim=1).eq(0)
        trusted = start_id != 0 and end_id != 2
        padding = tokens.eq(end_id) | tokens.eq(config.pad_token_id) | trusted
        padded = (padding | ~waiting).all(dim=1, keepdim=True) & ~waiting.all(dim=1, keepdim=True)
        seen: Tensor = ~(waiting & padded)
        return seen.long()

    def end(tokens: Tensor) -> Tensor:
        return (tokens if highest else tokens.eq(end_id).int()).argmax(dim=-1)

    def last(tokens: Tensor) -> Tensor:
        return torch.full((len(tokens),), tokens.shape[1] - 1, device=tokens.device)

    def length(tokens: Tensor) -> int:
        check(tokens)
        if not causal:
            return without_padding(tokens, config.pad_token_id)
        return up_to(end(tokens)) if visible(tokens).all() else tokens.shape[1]

    def behind() -> list[nn.Module]:
        images = {*parts(_image_side(owner, kind)[1])}
        return [part for part in parts(owner) if part not in images]

    marked = kind in (*_CAUSAL, "AltCLIPModel")
    marks = (start_id, end_id) if marked else (None, None)
    if kind in _BY_ID_OR_HIGHEST and end_id == 2:  # then the vocabulary of OpenAI tells the marks, or the tokenizer alone
        marks = (49406, 49407) if config.vocab_size == 49408 else (None, None)
    # Before version 5, OWL-ViT's attention takes a mask of all tokens by all tokens only, so that none runs alone.
    attention: Foreign = blocks(trunk)[0].self_attn if kind in _HIGHEST else None
    whole = attention is not None and "causal_attention_mask" in signature(attention.forward).parameters
    several = kind == "Tipsv2Model"
    return TextTower(
        encode=encode,
        sites=sites(blocks(trunk)),
        readout=Readout("several") if several else Readout("token", rows=end if causal else last if siglip else first_row),
        context_length=limit,
        width=_width(owner, kind),
        pad=siglip,  # trained on full length, without a mask
        vocabulary=config.vocab_size,
        start=marks[0],
        end=marks[1],
        project=square(owner.text_projection) if causal else None,
        front=None if siglip else Front(length, encode, behind, causal=causal and not whole),
    )


def _kind(model: nn.Module) -> str:
    """The first of the known classes that the model's class is, or is derived from."""
    kind = class_among(model, _KINDS)
    if kind is None:
        raise unsupported(type(model).__name__, ", ".join(_KINDS))
    return kind


def _takes(function: Callable[..., object], name: str) -> bool:
    """Whether a function takes an argument of some name; those of older versions of the library may not.

    >>> _takes(lambda x: x, "x"), _takes(lambda x, **others: x, "y"), _takes(lambda x: x, "y")
    (True, True, False)
    """
    parameters = signature(function).parameters
    return name in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _tensor(output: Foreign) -> Tensor:
    """transformers 4 returns features, 5 an object that holds them, or a tuple (``return_dict=False``)."""
    if isinstance(output, tuple):
        return output[1]  # type: ignore[no-any-return]  # behind the states of all tokens
    features: Foreign = getattr(output, "pooler_output", output)
    return features  # type: ignore[no-any-return]  # transformers publishes no types for it


def _causal(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask of a causal tower ``(N, 1, L, L)``, written out.

    The library gives AIMv2 none for texts without padding, since it counts on an attention that is causal by itself, which
    AIMv2's is not: the same text would have other features beside a shorter one.

    >>> _causal(torch.tensor([[0, 1, 1]]), torch.float32)[0, 0] == 0
    tensor([[False, False, False],
            [False,  True, False],
            [False,  True,  True]])
    """
    seen = torch.ones(visible.shape[1], visible.shape[1], dtype=torch.bool, device=visible.device).tril()
    hidden = ~(seen & visible.bool()[:, None, None])
    return torch.zeros(hidden.shape, dtype=dtype, device=visible.device).masked_fill(hidden, torch.finfo(dtype).min)


def _width(model: Foreign, kind: str) -> int:
    if kind == "BlipForImageTextRetrieval":
        return int(model.config.image_text_hidden_size)
    if kind in ("SiglipModel", "Siglip2Model", "Tipsv2Model"):
        return int(model.config.vision_config.hidden_size)
    if kind in _ENCODERS:
        return int(model.config.hidden_size)
    return int(model.config.projection_dim)


def _patches(images: Tensor, patch: int) -> dict[str, Tensor]:
    """Images as SigLIP 2 wants them: patches ``(N, h * w, patch * patch * C)``, channels last, with their grid."""
    pixels, grid = patches.cut(images, patch), [side // patch for side in images.shape[-2:]]
    return {
        "pixel_values": pixels,
        "pixel_attention_mask": torch.ones(pixels.shape[:2], dtype=torch.long, device=images.device),
        "spatial_shapes": torch.tensor([grid] * len(images), device=images.device),
    }


def _resizing(processor: Foreign) -> tuple[Callable[[Size], Size] | None, str]:
    """How a processor resizes: to which size, ``None`` if nobody states it, and that in words."""
    resized: Callable[[Size], Size] | None
    size = _sides(getattr(processor, "size", None))
    if not getattr(processor, "do_resize", True):
        resized, told = (lambda size: size), "none"
    elif hasattr(processor, "max_num_patches"):
        from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

        patch, most = int(processor.patch_size), int(processor.max_num_patches)

        def resized(size: Size) -> Size:
            height, width = get_image_size_for_max_num_patches(size[1], size[0], patch, most)
            return width, height

        told = f"to at most {most} patches of {patch}, nearly keeping the aspect"
    elif set(size) == {"shortest_edge"}:
        side = size["shortest_edge"]
        resized, told = shorter_side((side, side)), f"shorter side to {side}"
    elif set(size) == {"height", "width"}:
        resized, told = to_size((size["width"], size["height"])), f"to {size['width']} x {size['height']}"
    else:
        resized, told = None, "in a way of its own"
    return resized, told


def _sides(size: Foreign) -> dict[str, int]:
    """The sides that a processor names, of which newer versions of the library list those that it does not as ``None``."""
    named = dict(size) if isinstance(size, Mapping) else vars(size) if hasattr(size, "__dict__") else {}
    return {name: int(side) for name, side in named.items() if side is not None}


def _interpolation(processor: Foreign) -> str:
    chosen = getattr(processor, "resample", None)
    return Image.Resampling(chosen if chosen is not None else Image.Resampling.BILINEAR).name.lower()


def _labels(config: Foreign) -> tuple[str, ...] | None:
    names = [config.id2label[index] for index in range(config.num_labels)]
    return None if names[0] == "LABEL_0" else tuple(names)


_PROCESSORS = {
    **dict.fromkeys(("SiglipModel", "SiglipForImageClassification"), "SiglipImageProcessor"),
    **dict.fromkeys(_PATCHES, "Siglip2ImageProcessor"),
    "ChineseCLIPModel": "ChineseCLIPImageProcessor",
    **dict.fromkeys(("BlipModel", "BlipForImageTextRetrieval"), "BlipImageProcessor"),
    "OwlViTModel": "OwlViTImageProcessor",
    "Owlv2Model": "Owlv2ImageProcessor",
    "FlavaModel": "FlavaImageProcessor",
    "Tipsv2Model": "Tipsv2ImageProcessor",
    **dict.fromkeys(("ViTForImageClassification", "ViTModel", "CLIPSegModel"), "ViTImageProcessor"),
    **dict.fromkeys(("ViTMSNForImageClassification", "IJepaForImageClassification"), "ViTImageProcessor"),
    **dict.fromkeys((*_DEIT, "DeiTModel"), "DeiTImageProcessor"),
    **dict.fromkeys(_BIASED, "BeitImageProcessor"),
    **dict.fromkeys((*_CLASS_AND_MEAN, "Dinov2Model", "Dinov2WithRegistersModel"), "BitImageProcessor"),
    "DINOv3ViTModel": "DINOv3ViTImageProcessorFast",
}
_UNCHANGED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
OPENAI = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
HALF = tuple(IMAGENET_STANDARD_MEAN), tuple(IMAGENET_STANDARD_STD)
_IMAGENET = tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)
_STATISTICS = {
    **dict.fromkeys(("SiglipModel", "SiglipForImageClassification", *_PATCHES), HALF),
    **dict.fromkeys(("ViTForImageClassification", *_BIASED), HALF),
    **dict.fromkeys(("ViTMSNForImageClassification", "IJepaForImageClassification", "CLIPSegModel"), _IMAGENET),
    **dict.fromkeys((*_DEIT, *_CLASS_AND_MEAN, *_ENCODERS), _IMAGENET),
    "Tipsv2Model": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
