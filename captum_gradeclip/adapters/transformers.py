"""transformers' dual encoders (CLIP, SigLIP, SigLIP 2, Chinese-CLIP, AltCLIP, BLIP) and image classifiers (ViT, DINOv2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

from .base import (
    CONTEXT,
    END,
    START,
    VOCABULARY,
    Family,
    Foreign,
    Front,
    ImageTower,
    NoTextTowerError,
    Readout,
    TextTower,
    blocks,
    channels_of,
    check_size,
    class_among,
    class_token,
    first_row,
    pair,
    per_channel,
    sites,
    square,
    square_patch,
    unsupported,
    up_to,
    without_padding,
)
from .preprocessing import Preprocessing, Size, shorter_side, to_size

_DUAL = (
    *("CLIPModel", "SiglipModel", "Siglip2Model", "ChineseCLIPModel", "AltCLIPModel"),
    *("BlipModel", "BlipForImageTextRetrieval"),
)
_CLASSIFIERS = (
    *("ViTForImageClassification", "DeiTForImageClassification"),
    *("Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification"),
)
_CLASS_AND_MEAN = ("Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification")  # class token beside a mean


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a dual encoder's image side, or of an image classifier."""
    kind = _kind(model)
    owner: Foreign = model
    if kind in _CLASSIFIERS:
        config, trunk = owner.config, getattr(owner, owner.base_model_prefix)
    else:
        config, trunk = owner.config.vision_config, owner.vision_model
    patch = square_patch(config.patch_size)
    # Siglip2 has no image size, only a square table of positions.
    native = pair(patch * round(config.num_patches**0.5) if kind == "Siglip2Model" else config.image_size)
    channels = channels_of(trunk.embeddings, patch)

    def encode(images: Tensor) -> Tensor:
        size = check_size(images, patch, native, channels)
        other: dict[str, Foreign] = {} if size == native else {"interpolate_pos_encoding": True}
        if kind == "Siglip2Model":
            return _tensor(owner.get_image_features(**_patches(images, patch)))
        if kind == "BlipForImageTextRetrieval":
            return owner.vision_proj(owner.vision_model(pixel_values=images, **other)[0][:, 0])  # type: ignore[no-any-return]
        if kind in _DUAL:
            return _tensor(owner.get_image_features(pixel_values=images, **other))
        # DINOv2 interpolates by itself
        output = owner(pixel_values=images, **({} if kind in _CLASS_AND_MEAN else other))
        return output[0]  # type: ignore[no-any-return]  # the logits, of a tuple as well (return_dict=False)

    pool = getattr(trunk, "head", None)
    mean, std = _STATISTICS.get(kind, OPENAI)
    return ImageTower(
        encode=encode,
        sites=sites(blocks(trunk), pool),
        readout=Readout("pool") if pool is not None else Readout("several") if kind in _CLASS_AND_MEAN else class_token(),
        patch=patch,
        size=native,
        mean=per_channel(mean, channels),
        std=per_channel(std, channels),
        width=owner.config.num_labels if kind in _CLASSIFIERS else _width(owner, kind),
        dtype=owner.dtype,
        classes=owner.config.num_labels if kind in _CLASSIFIERS else 0,
        labels=lambda: _labels(owner.config) if kind in _CLASSIFIERS else None,
    )


def preprocessing(model: nn.Module) -> Preprocessing:
    """What the image processor of a model's family does, at the size and with the statistics of the model.

    A model does not carry its processor. The one that lies beside the weights may do otherwise, see :func:`by_processor`.
    """
    import transformers

    kind, tower = _kind(model), image_tower(model)
    library: Foreign = getattr(transformers, _PROCESSORS.get(kind, "CLIPImageProcessor"))
    height, width = tower.size
    statistics = {"image_mean": list(tower.mean), "image_std": list(tower.std)}
    if kind == "Siglip2Model":
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
    crop = _sides(inner.crop_size) if getattr(inner, "do_center_crop", False) else None
    return Preprocessing(
        transform=transform,
        resized=resized,
        crop=None if crop is None else (crop["width"], crop["height"]),
        resize=resize,
        interpolation=_interpolation(inner),
        mean=per_channel(mean, channels),
        std=per_channel(std, channels),
        floors=True,
    )


def pixel_values(features: Foreign, channels: int) -> Tensor:
    """Images ``(N, C, H, W)`` as a processor of transformers returns them, also those that it has cut into patches.

    Args:
        features: what the processor returned, with the tensor ``pixel_values``.
        channels: number of channels that the model takes.

    Raises:
        ValueError: if there are no such images, or if those that are cut into patches differ in size.
    """
    pixels: Foreign = features.get("pixel_values")
    if "spatial_shapes" in features and isinstance(pixels, Tensor) and pixels.dim() == 3:
        grids = {tuple(int(side) for side in grid) for grid in features["spatial_shapes"]}
        if len(grids) != 1:
            raise ValueError("images: those that a processor has cut into patches differ in size; give one at a time")
        ((rows, columns),) = grids
        patch = round((pixels.shape[-1] / channels) ** 0.5)
        apart: Tensor = pixels[:, : rows * columns].unflatten(2, (patch, patch, channels)).unflatten(1, (rows, columns))
        return apart.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # (N, C, h, p, w, p) to (N, C, H, W)
    if not isinstance(pixels, Tensor) or pixels.dim() != 4:
        shape = f"of shape {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else f"as {type(pixels).__name__}"
        raise ValueError(
            f"images: expected pixel_values of a processor as a tensor (N, {channels}, H, W), got them {shape}; call it with"
            ' return_tensors="pt"'
        )
    images: Tensor = pixels
    return images


def text_tower(model: nn.Module) -> TextTower:
    """The facts of a dual encoder's text side."""
    kind = _kind(model)
    owner: Foreign = model
    if kind in _CLASSIFIERS:
        raise NoTextTowerError(
            f"model: {kind} of transformers has no text encoder; explain a class of it with captum_gradeclip.ClassScore"
        )
    config = owner.config.text_config
    trunk = owner.text_encoder if kind == "BlipForImageTextRetrieval" else owner.text_model
    siglip = kind in ("SiglipModel", "Siglip2Model")
    limit = int(config.max_position_embeddings)
    if kind == "AltCLIPModel":
        limit -= config.pad_token_id + 1  # RoBERTa counts its positions from there

    def check(tokens: Tensor) -> None:
        if tokens.shape[-1] > limit:
            raise ValueError(f"inputs: tokens, expected at most {limit} tokens per text, got {tokens.shape[-1]}")

    def encode(tokens: Tensor) -> Tensor:
        check(tokens)
        options = {"input_ids": tokens, "attention_mask": None if siglip else visible(tokens)}
        if kind == "BlipForImageTextRetrieval":
            return owner.text_proj(owner.text_encoder(**options)[0][:, 0])  # type: ignore[no-any-return]
        return _tensor(owner.get_text_features(**options))

    def visible(tokens: Tensor) -> Tensor:
        if kind != "CLIPModel":
            return tokens.ne(config.pad_token_id).long()
        # A causal tower never sees what is behind the end mark, but would see padding in front of the start mark. CLIP's
        # tokenizers pad with an id that also means the end, so padding is told by its place. Old configurations have other
        # ids for the marks (0 and 2) than the tokenizer; a word may then stand in front of such an id.
        waiting = tokens.eq(config.bos_token_id).cumsum(dim=1).eq(0)
        trusted = config.bos_token_id != 0 and config.eos_token_id != 2
        padding = tokens.eq(config.eos_token_id) | tokens.eq(config.pad_token_id) | trusted
        padded = (padding | ~waiting).all(dim=1, keepdim=True) & ~waiting.all(dim=1, keepdim=True)
        seen: Tensor = ~(waiting & padded)
        return seen.long()

    start_id, end_id = config.bos_token_id, config.eos_token_id
    if kind == "CLIPModel" and end_id == 2:  # then the vocabulary of OpenAI tells the marks, or the tokenizer alone
        start_id, end_id = (49406, 49407) if config.vocab_size == 49408 else (None, None)

    def end(tokens: Tensor) -> Tensor:
        # transformers keeps a wrong id, 2, of old configurations, and then takes the highest id for the end mark.
        ids = tokens if config.eos_token_id == 2 else tokens.eq(config.eos_token_id).int()
        return ids.argmax(dim=-1)

    def last(tokens: Tensor) -> Tensor:
        return torch.full((len(tokens),), tokens.shape[1] - 1, device=tokens.device)

    def length(tokens: Tensor) -> int:
        check(tokens)
        if kind != "CLIPModel":
            return without_padding(tokens, config.pad_token_id)
        return up_to(end(tokens)) if visible(tokens).all() else tokens.shape[1]

    def parts() -> list[nn.Module]:
        images = {*owner.vision_model.modules()}
        return [part for part in owner.modules() if part not in images]

    return TextTower(
        encode=encode,
        sites=sites(blocks(trunk)),
        readout=Readout("token", rows=end if kind == "CLIPModel" else last if siglip else first_row),
        context_length=limit,
        width=_width(owner, kind),
        pad=siglip,  # trained on full length, without a mask
        vocabulary=config.vocab_size,
        start=start_id if kind in ("CLIPModel", "AltCLIPModel") else None,
        end=end_id if kind in ("CLIPModel", "AltCLIPModel") else None,
        project=square(owner.text_projection) if kind == "CLIPModel" else None,
        front=None if siglip else Front(length, encode, parts, causal=kind == "CLIPModel"),
    )


def _kind(model: nn.Module) -> str:
    """The first of the known classes that the model's class is, or is derived from."""
    kind = class_among(model, (*_DUAL, *_CLASSIFIERS))
    if kind is None:
        raise unsupported(type(model).__name__, ", ".join((*_DUAL, *_CLASSIFIERS)))
    return kind


def _tensor(output: Foreign) -> Tensor:
    """transformers 4 returns features, 5 an object that holds them, or a tuple (``return_dict=False``)."""
    if isinstance(output, tuple):
        return output[1]  # type: ignore[no-any-return]  # behind the states of all tokens
    features: Foreign = getattr(output, "pooler_output", output)
    return features  # type: ignore[no-any-return]  # transformers publishes no types for it


def _width(model: Foreign, kind: str) -> int:
    if kind == "BlipForImageTextRetrieval":
        return int(model.config.image_text_hidden_size)
    if kind in ("SiglipModel", "Siglip2Model"):
        return int(model.config.vision_config.hidden_size)
    return int(model.config.projection_dim)


def _patches(images: Tensor, patch: int) -> dict[str, Tensor]:
    """Images as SigLIP 2 wants them: patches ``(N, h * w, patch * patch * C)``, channels last, with their grid."""
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    apart = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # (N, C, h, p, w, p)
    pixels = apart.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return {
        "pixel_values": pixels,
        "pixel_attention_mask": torch.ones(pixels.shape[:2], dtype=torch.long, device=images.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * len(images), device=images.device),
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
    "SiglipModel": "SiglipImageProcessor",
    "Siglip2Model": "Siglip2ImageProcessor",
    "ChineseCLIPModel": "ChineseCLIPImageProcessor",
    **dict.fromkeys(("BlipModel", "BlipForImageTextRetrieval"), "BlipImageProcessor"),
    "ViTForImageClassification": "ViTImageProcessor",
    "DeiTForImageClassification": "DeiTImageProcessor",
    **dict.fromkeys(_CLASS_AND_MEAN, "BitImageProcessor"),
}
_UNCHANGED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
OPENAI = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
HALF = tuple(IMAGENET_STANDARD_MEAN), tuple(IMAGENET_STANDARD_STD)
_IMAGENET = tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)
_STATISTICS = {
    **dict.fromkeys(("SiglipModel", "Siglip2Model", "ViTForImageClassification"), HALF),
    **dict.fromkeys(("DeiTForImageClassification", *_CLASS_AND_MEAN), _IMAGENET),
}


def _tiny(name: str, **settings: Foreign) -> nn.Module:
    import transformers

    size: dict[str, Foreign] = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    }
    image = {**size, "image_size": 32, "patch_size": 8}
    text = {
        **size,
        "num_hidden_layers": 8,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 0,
        "bos_token_id": START,
        "eos_token_id": END,
    }
    if name == "Siglip2Model":
        del image["image_size"]
        image["num_patches"] = 16
    if name in ("BlipModel", "BlipForImageTextRetrieval"):
        text |= {"encoder_hidden_size": 48, "sep_token_id": END}
        settings |= {"image_text_hidden_size": 24}
        image["initializer_range"] = 0.02  # the library's own is nothing, with which no head makes a difference
    if name == "AltCLIPModel":
        text |= {"max_position_embeddings": CONTEXT + 1, "project_dim": 48}
    model = getattr(transformers, name)
    if name in _CLASSIFIERS:
        labels = {index: f"class {index}" for index in range(VOCABULARY)}
        return model(model.config_class(**image, id2label=labels))  # type: ignore[no-any-return]
    return model(model.config_class(vision_config=image, text_config=text, projection_dim=24, **settings))  # type: ignore[no-any-return]


def _family(name: str, model: str, *, text: bool = True, note: str = "") -> Family:
    return Family(f"transformers {name}", model, lambda: _tiny(model), text=text, note=note)


FAMILIES = (
    _family("CLIP", "CLIPModel"),
    _family("SigLIP", "SiglipModel"),
    _family("SigLIP 2", "Siglip2Model", note="images are cut into patches by us"),
    _family("Chinese-CLIP", "ChineseCLIPModel"),
    _family("AltCLIP", "AltCLIPModel"),
    _family("BLIP", "BlipModel"),
    _family("BLIP retrieval", "BlipForImageTextRetrieval", note="contrastive head; the matching head is not covered"),
    _family("ViT", "ViTForImageClassification", text=False),
    _family(
        "DINOv2",
        "Dinov2ForImageClassification",
        text=False,
        note="reads the class token and the mean of the patches: summed over all rows (our extension)",
    ),
    _family(
        "DINOv2 with registers",
        "Dinov2WithRegistersForImageClassification",
        text=False,
        note="reads the class token and the mean of the patches: summed over all rows (our extension)",
    ),
)
