"""timm's vision transformers: ViT, DeiT, DINOv2, EVA, BEiT, SigLIP's image tower; classifiers or feature extractors."""

from __future__ import annotations

import copy
import math

import timm.data
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from .base import (
    ROTARY,
    SEVERAL,
    VOCABULARY,
    Family,
    Foreign,
    ImageTower,
    NoTextTowerError,
    Readout,
    TextTower,
    channels_of,
    check_size,
    class_among,
    class_token,
    grid_of,
    pair,
    per_channel,
    replaced,
    sites,
    square_patch,
    unsupported,
)
from .preprocessing import Preprocessing, longer_side, shorter_side, to_size


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a timm model; what it encodes to are its logits, or features if it was made with no classes."""
    if not class_among(model, ("VisionTransformer", "Eva", "Beit")):
        raise unsupported(type(model).__name__, "timm's VisionTransformer (and DeiT, DINOv2, SigLIP), Eva and Beit")
    trunk: Foreign = model
    embed = trunk.patch_embed
    patch = _patch(embed)
    pool = getattr(trunk, "attn_pool", None)
    one_token = trunk.global_pool == "token" and pool is None and not class_among(model, ["VisionTransformerDistilled"])
    # Rotary positions and a bias for each pair of positions are made for all tokens, and a block expects them so.
    tokenwise = getattr(trunk, "rope", None) is None and not _biased_by_pairs(trunk)
    readout = Readout("pool") if pool is not None else class_token(tokenwise) if one_token else Readout("several")
    settings, channels = _settings(trunk), channels_of(embed, patch)

    def encode(images: Tensor) -> Tensor:
        return resized(model, images)(images)  # type: ignore[no-any-return]

    return ImageTower(
        encode=encode,
        sites=sites(trunk.blocks, pool),
        readout=readout,
        patch=patch,
        size=pair(embed.img_size or settings.get("input_size", (3, 224, 224))[1:]),
        # Without settings these are what timm itself resolves.
        mean=per_channel(settings.get("mean") or IMAGENET_DEFAULT_MEAN, channels),
        std=per_channel(settings.get("std") or IMAGENET_DEFAULT_STD, channels),
        width=_classes(trunk) or trunk.num_features,
        dtype=next(embed.parameters()).dtype,
        classes=_classes(trunk),
        labels=lambda: _labels(trunk),
        pads=_pads(embed),
    )


def preprocessing(model: nn.Module) -> Preprocessing:
    """The transform that timm makes of the data settings of a model, at the size and for the channels that the model has."""
    tower = image_tower(model)
    height, width = tower.size
    own = {"input_size": (tower.channels, height, width), "mean": tower.mean, "std": tower.std}
    data: Foreign = timm.data
    settings = data.resolve_data_config(own, pretrained_cfg=_settings(model))
    box = (math.floor(width / settings["crop_pct"]), math.floor(height / settings["crop_pct"]))
    told = f"{box[0]}" if box[0] == box[1] else f"{box[0]} x {box[1]}"
    ways = {
        "squash": (to_size(box), f"to {box[0]} x {box[1]}"),
        "border": (longer_side(box), f"longer side to {told}, padded"),
    }
    resized, resize = ways.get(settings["crop_mode"], (shorter_side(box), f"shorter side to {told}"))
    return Preprocessing(
        transform=data.create_transform(**settings, is_training=False),
        resized=resized,
        crop=(width, height),
        resize=resize,
        interpolation=settings["interpolation"],
        mean=tower.mean,
        std=tower.std,
    )


def text_tower(model: nn.Module) -> TextTower:
    """Always an error: timm's models have no text side."""
    raise NoTextTowerError(
        f"model: {type(model).__name__} of timm has no text encoder; explain a class of it with"
        " captum_gradeclip.ClassScore, or with GradECLIP(model, layer).attribute(images, target=class)"
    )


def resized(model: nn.Module, images: Tensor) -> Foreign:
    """A view of the model for these images, its positions interpolated as timm does it (bicubic, antialiased).

    Raises:
        ValueError: if the size is no multiple of the patch and the model neither has it nor pads, or if the model has a bias
            for each pair of positions.
    """
    trunk: Foreign = model
    embed = trunk.patch_embed
    patch, pads = _patch(embed), _pads(embed)
    dynamic = getattr(trunk, "dynamic_img_size", False)  # then timm takes no rest, at the native size neither
    size = check_size(images, patch, None if dynamic else embed.img_size, channels_of(embed, patch), pads)
    grid = grid_of(size, patch, pads)
    if dynamic or (size == tuple(embed.img_size) and grid == tuple(embed.grid_size)):
        return trunk
    if any(hasattr(part, "relative_position_bias_table") for part in trunk.modules()) or not hasattr(
        embed, "strict_img_size"
    ):
        raise ValueError(
            f"inputs: images, this {type(trunk).__name__} takes {embed.img_size[0]} x {embed.img_size[1]} only, got"
            f" {size[0]} x {size[1]}; create it with timm.create_model(..., img_size={size})"
        )
    from timm.layers.pos_embed import resample_abs_pos_embed

    view = replaced(trunk, "patch_embed.img_size", size)
    if trunk.pos_embed is not None:
        positions = resample_abs_pos_embed(
            trunk.pos_embed,
            new_size=list(grid),
            old_size=list(embed.grid_size),
            num_prefix_tokens=0 if trunk.no_embed_class else trunk.num_prefix_tokens,
        )
        view = replaced(view, "pos_embed", positions)
    if getattr(trunk, "rope", None) is not None:
        rope = copy.deepcopy(trunk.rope)
        rope.update_feat_shape(list(grid))
        view = replaced(view, "rope", rope)
    return view


def _settings(trunk: Foreign) -> dict[str, Foreign]:
    """What timm notes about the weights; a model that was made without ``create_model`` has no such note."""
    return getattr(trunk, "pretrained_cfg", None) or {}


def _classes(trunk: Foreign) -> int:
    """The number of classes; a head that was put in by hand is not noted in ``num_classes``."""
    head = getattr(trunk, "head", None)
    return head.out_features if isinstance(head, nn.Linear) else int(trunk.num_classes)


def _patch(embed: Foreign) -> int:
    """Side length in pixels of what becomes a token; behind a convolutional stem, ``patch_size`` counts its features."""
    return square_patch(embed.feat_ratio(as_scalar=False) if hasattr(embed, "feat_ratio") else embed.patch_size)


def _pads(embed: Foreign) -> bool:
    """Whether images are padded to whole patches; a stem in front would round their sides first, which nobody states."""
    return bool(getattr(embed, "dynamic_img_pad", False)) and not hasattr(embed, "backbone")


def _biased_by_pairs(trunk: Foreign) -> bool:
    """Whether attention has a bias for each pair of positions, as in BEiT."""
    return any(hasattr(part, "relative_position_bias_table") for part in trunk.modules())


def _labels(model: Foreign) -> tuple[str, ...] | None:
    settings = _settings(model)
    names = settings.get("label_names")
    classes = _classes(model)
    if names is None and settings:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

        subset = infer_imagenet_subset({"num_classes": classes})  # of ImageNet-1k, or of its larger sets
        names = None if subset is None else ImageNetInfo(subset).label_descriptions()
    return tuple(names) if names is not None and len(names) == classes else None


def tiny(name: str, size: int = 32, patch: int = 8, **settings: Foreign) -> nn.Module:
    """A tiny random model of one of timm's architectures."""
    import timm

    small = {"embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": VOCABULARY, "img_size": size, "patch_size": patch}
    model: nn.Module = timm.create_model(name, pretrained=False, **{**small, **settings})
    return model


def _family(
    name: str, models: str, architecture: str, *, oblong: bool = True, note: str = "", **settings: Foreign
) -> Family:
    size = (40, 24) if oblong else None
    return Family(f"timm {name}", models, lambda: tiny(architecture, **settings), oblong=size, text=False, note=note)


FAMILIES = (
    _family("ViT", "VisionTransformer", "vit_tiny_patch16_224"),
    _family("ViT, average", "VisionTransformer", "vit_tiny_patch16_224", global_pool="avg", note=SEVERAL),
    _family("DeiT", "VisionTransformerDistilled", "deit_tiny_distilled_patch16_224", note=SEVERAL),
    _family("DINOv2", "VisionTransformer with registers", "vit_small_patch14_reg4_dinov2"),
    _family("EVA-02", "Eva", "eva02_tiny_patch14_224", note=ROTARY),
    _family("EVA-02, sub-norm", "Eva", "eva02_base_patch14_224", scale_attn_inner=True, note=ROTARY),
    _family(
        "BEiT",
        "Beit",
        "beit_base_patch16_224",
        oblong=False,
        note="one size; a position bias arrives in the attention mask, and one head averages it over the heads",
    ),
    _family("SigLIP", "VisionTransformer with attention pool", "vit_base_patch16_siglip_224"),
)
