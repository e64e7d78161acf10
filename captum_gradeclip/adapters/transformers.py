"""transformers' dual encoders (CLIP, SigLIP, SigLIP 2, Chinese-CLIP, AltCLIP, BLIP) and image classifiers (ViT, DINOv2)."""

from __future__ import annotations

import torch
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
    ImageTower,
    Readout,
    TextTower,
    UnsupportedModelError,
    blocks,
    check_size,
    class_among,
    class_token,
    first_row,
    sites,
    square,
    unsupported,
)

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
    patch = int(config.patch_size)
    # Siglip2 has no image size, only a square table of positions.
    side = patch * round(config.num_patches**0.5) if kind == "Siglip2Model" else int(config.image_size)

    def encode(images: Tensor) -> Tensor:
        size = check_size(images, patch)
        other: dict[str, Foreign] = {} if size == (side, side) else {"interpolate_pos_encoding": True}
        if kind == "Siglip2Model":
            return _tensor(owner.get_image_features(**_patches(images, patch)))
        if kind == "BlipForImageTextRetrieval":
            return owner.vision_proj(owner.vision_model(pixel_values=images, **other)[0][:, 0])  # type: ignore[no-any-return]
        if kind in _DUAL:
            return _tensor(owner.get_image_features(pixel_values=images, **other))
        # DINOv2 interpolates by itself
        return owner(pixel_values=images, **({} if kind in _CLASS_AND_MEAN else other)).logits  # type: ignore[no-any-return]

    pool = getattr(trunk, "head", None)
    mean, std = _STATISTICS.get(kind, _OPENAI)
    return ImageTower(
        encode=encode,
        sites=sites(blocks(trunk), pool),
        readout=Readout("pool") if pool is not None else Readout("several") if kind in _CLASS_AND_MEAN else class_token(),
        patch=patch,
        size=(side, side),
        mean=mean,
        std=std,
        width=owner.config.num_labels if kind in _CLASSIFIERS else _width(owner, kind),
        dtype=owner.dtype,
        labels=lambda: _labels(owner.config) if kind in _CLASSIFIERS else None,
    )


def text_tower(model: nn.Module) -> TextTower:
    """The facts of a dual encoder's text side."""
    kind = _kind(model)
    owner: Foreign = model
    if kind in _CLASSIFIERS:
        raise UnsupportedModelError(
            f"model: {kind} of transformers has no text encoder; explain a class of it with captum_gradeclip.ClassScore"
        )
    config = owner.config.text_config
    trunk = owner.text_encoder if kind == "BlipForImageTextRetrieval" else owner.text_model
    siglip = kind in ("SiglipModel", "Siglip2Model")
    limit = int(config.max_position_embeddings)
    if kind == "AltCLIPModel":
        limit -= config.pad_token_id + 1  # RoBERTa counts its positions from there

    def encode(tokens: Tensor) -> Tensor:
        if tokens.shape[-1] > limit:
            raise ValueError(f"tokens: expected at most {limit} tokens per text, got {tokens.shape[-1]}")
        options = {"input_ids": tokens, "attention_mask": None if siglip else visible(tokens)}
        if kind == "BlipForImageTextRetrieval":
            return owner.text_proj(owner.text_encoder(**options)[0][:, 0])  # type: ignore[no-any-return]
        return _tensor(owner.get_text_features(**options))

    def visible(tokens: Tensor) -> Tensor:
        if kind != "CLIPModel":
            return tokens.ne(config.pad_token_id).long()
        # A causal tower never sees what is behind the end mark, but would see padding in front of the start mark. CLIP's
        # tokenizers pad with an id that also means the end, so the padding itself cannot be told by its id.
        started = tokens.eq(config.bos_token_id).cumsum(dim=1).gt(0)
        return (started | ~started.any(dim=1, keepdim=True)).long()

    def end(tokens: Tensor) -> Tensor:
        # transformers keeps a wrong id, 2, of old configurations, and then takes the highest id for the end mark.
        ids = tokens if config.eos_token_id == 2 else tokens.eq(config.eos_token_id).int()
        return ids.argmax(dim=-1)

    def last(tokens: Tensor) -> Tensor:
        return torch.full((len(tokens),), tokens.shape[1] - 1, device=tokens.device)

    return TextTower(
        encode=encode,
        sites=sites(blocks(trunk)),
        readout=Readout("token", rows=end if kind == "CLIPModel" else last if siglip else first_row),
        context_length=limit,
        width=_width(owner, kind),
        pad=siglip,  # trained on full length, without a mask
        vocabulary=config.vocab_size,
        start=None if siglip else config.bos_token_id if kind in ("CLIPModel", "AltCLIPModel") else None,
        end=None if siglip else config.eos_token_id if kind in ("CLIPModel", "AltCLIPModel") else None,
        project=square(owner.text_projection) if kind == "CLIPModel" else None,
    )


def _kind(model: nn.Module) -> str:
    """The first of the known classes that the model's class is, or is derived from."""
    kind = class_among(model, (*_DUAL, *_CLASSIFIERS))
    if kind is None:
        raise unsupported(type(model).__name__, ", ".join((*_DUAL, *_CLASSIFIERS)))
    return kind


def _tensor(output: Foreign) -> Tensor:
    """transformers 4 returns features, 5 an object that holds them."""
    features: Foreign = getattr(output, "pooler_output", output)
    return features  # type: ignore[no-any-return]  # transformers publishes no types for it


def _width(model: Foreign, kind: str) -> int:
    if kind == "BlipForImageTextRetrieval":
        return int(model.config.image_text_hidden_size)
    if kind in ("SiglipModel", "Siglip2Model"):
        return int(model.config.vision_config.hidden_size)
    return int(model.config.projection_dim)


def _patches(images: Tensor, patch: int) -> dict[str, Tensor]:
    """Images as SigLIP 2 wants them: patches ``(N, h * w, patch * patch * 3)``, channels last, with their grid."""
    rows, columns = images.shape[-2] // patch, images.shape[-1] // patch
    apart = images.unflatten(3, (columns, patch)).unflatten(2, (rows, patch))  # (N, 3, h, p, w, p)
    pixels = apart.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return {
        "pixel_values": pixels,
        "pixel_attention_mask": torch.ones(pixels.shape[:2], dtype=torch.long, device=images.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * len(images), device=images.device),
    }


def _labels(config: Foreign) -> tuple[str, ...] | None:
    names = [config.id2label[index] for index in range(config.num_labels)]
    return None if names[0] == "LABEL_0" else tuple(names)


_OPENAI = tuple(OPENAI_CLIP_MEAN), tuple(OPENAI_CLIP_STD)
_HALF = tuple(IMAGENET_STANDARD_MEAN), tuple(IMAGENET_STANDARD_STD)
_IMAGENET = tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD)
_STATISTICS = {
    **dict.fromkeys(("SiglipModel", "Siglip2Model", "ViTForImageClassification"), _HALF),
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
