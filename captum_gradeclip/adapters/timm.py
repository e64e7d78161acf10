"""timm's vision transformers: ``VisionTransformer``, ``Eva``, ``Beit``, NaFlex, relative positions; classifiers or not."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import timm
import timm.data
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from . import patches
from .base import (
    BIASED,
    CLASS_TOKEN,
    MEAN,
    PAIRS,
    POOL,
    ROTARY,
    ROTATED,
    SEVERAL,
    TABLE,
    VOCABULARY,
    Family,
    Foreign,
    ImageTower,
    NoTextTowerError,
    Readout,
    TextTower,
    UnsupportedModelError,
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

_CLASSES = ("VisionTransformer", "VisionTransformerRelPos", "NaFlexVit", "Eva", "Beit")


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a timm model; what it encodes to are its logits, or features if it was made with no classes."""
    if not class_among(model, _CLASSES):
        raise unsupported(type(model).__name__, f"timm's {', '.join(_CLASSES)}")
    trunk: Foreign = model
    embed = _embed(trunk)
    patch = _patch(embed)
    pool = getattr(trunk, "attn_pool", None)
    if not trunk.global_pool and pool is None:
        raise UnsupportedModelError(
            "model: global_pool '' leaves all tokens, so there is no score; create it with global_pool='avg' or 'token'"
        )
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
        size=pair(_stated_size(embed) or settings.get("input_size", (3, 224, 224))[1:]),
        # Without settings these are what timm itself resolves.
        mean=per_channel(settings.get("mean") or IMAGENET_DEFAULT_MEAN, channels),
        std=per_channel(settings.get("std") or IMAGENET_DEFAULT_STD, channels),
        width=_classes(trunk) or trunk.num_features,
        dtype=next(embed.parameters()).dtype,
        classes=_classes(trunk),
        labels=lambda: _labels(trunk),
        pads=_pads(embed),
        pool_norm=None if pool is None else trunk.norm,
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


def pixel_values(features: Foreign, model: nn.Module, channels: int) -> list[Tensor]:
    """Images ``(C, H, W)`` in a batch of patches as timm's ``NaFlexCollator`` makes it.

    Args:
        features: the batch, with ``patches`` ``(N, L, p * p * C)`` or ``(N, L, p, p, C)``, ``patch_coord`` ``(N, L, 2)`` and
            ``patch_valid`` ``(N, L)``.
        model: a ``NaFlexVit``, or a model that has one inside.
        channels: number C of channels that the model takes.

    Raises:
        ValueError: if the model takes no patches, or these are not whole images in patches of its own size.
    """
    inside: list[Foreign] = [part for part in model.modules() if class_among(part, ["NaFlexVit"])]
    if not inside:
        raise ValueError(f"images: {type(model).__name__} takes no patches; give it images (N, {channels}, H, W)")
    embed = inside[0].embeds
    if not getattr(embed, "channels_last", True):
        raise ValueError("images: this NaFlexVit has the channels of a patch first; give it images, which it cuts by itself")
    batch = zip(features["patches"], features["patch_coord"], features["patch_valid"].bool())
    return [patches.joined(some[valid].flatten(1), places[valid], _patch(embed), channels) for some, places, valid in batch]


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
    embed = _embed(trunk)
    patch, pads = _patch(embed), _pads(embed)
    # These take no rest, at the native size neither.
    dynamic = getattr(trunk, "dynamic_img_size", False) or embed is not getattr(trunk, "patch_embed", None)
    size = check_size(images, patch, None if dynamic else embed.img_size, channels_of(embed, patch), pads)
    grid = grid_of(size, patch, pads)
    if dynamic or (size == tuple(embed.img_size) and grid == tuple(embed.grid_size)):
        return trunk
    if _biased_by_pairs(trunk) or not hasattr(embed, "strict_img_size"):
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
            num_prefix_tokens=0 if getattr(trunk, "no_embed_class", False) else trunk.num_prefix_tokens,
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


def _embed(trunk: Foreign) -> Foreign:
    """What makes tokens of images; that of NaFlex interpolates its positions for any grid by itself."""
    return trunk.embeds if hasattr(trunk, "embeds") else trunk.patch_embed


def _stated_size(embed: Foreign) -> tuple[int, int] | None:
    """The size that the positions were made for, as far as the model states it."""
    stated: tuple[int, int] | None = getattr(embed, "default_img_size", None) or getattr(embed, "img_size", None)
    return stated


def _patch(embed: Foreign) -> int:
    """Side length in pixels of what becomes a token; behind a convolutional stem, ``patch_size`` counts its features."""
    return square_patch(embed.feat_ratio(as_scalar=False) if hasattr(embed, "feat_ratio") else embed.patch_size)


def _pads(embed: Foreign) -> bool:
    """Whether images are padded to whole patches; a stem in front would round their sides first, which nobody states."""
    return bool(getattr(embed, "dynamic_img_pad", False)) and not hasattr(embed, "backbone")


def _biased_by_pairs(trunk: Foreign) -> bool:
    """Whether attention has a bias for each pair of positions, from a table as in BEiT or from a small network."""
    return any(hasattr(part, "relative_position_bias_table") or hasattr(part, "rel_coords_log") for part in trunk.modules())


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
    small = {"embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": VOCABULARY, "img_size": size, "patch_size": patch}
    native = {"input_size": (3, size, size)}
    model: nn.Module = timm.create_model(name, pretrained=False, pretrained_cfg_overlay=native, **{**small, **settings})
    return model


def tiny_stem(**settings: Foreign) -> nn.Module:
    """A tiny random vision transformer whose patches are cut by several convolutions, as in MobileCLIP's base model."""
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import ConvStem

    steps = (4, 2, 1)
    stem = ConvStem(channels=(12, 24, 48), stride=steps, kernel_size=steps, padding=0, in_chans=3, act_layer=nn.GELU)
    cut = partial(HybridEmbed, backbone=stem, proj=False)
    small = {"embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": VOCABULARY, "img_size": 32, "patch_size": 1}
    return VisionTransformer(embed_layer=cut, no_embed_class=True, **{**small, **settings})


def tiny_vitamin(**settings: Foreign) -> nn.Module:
    """A tiny random ViTamin: two stages of convolutions, then a transformer."""
    from timm.models.vitamin import VitCfg, VitConvCfg

    convolutions = VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6)
    stages = VitCfg(embed_dim=(8, 16, 48), depths=(1, 1, 1), stem_width=8, conv_cfg=convolutions, head_type="1d")
    return tiny("vitamin_small_224", size=64, patch=1, embed_cfg=stages, **settings)


def lacking(name: str) -> str:
    """The name of an architecture or of a module if the installed timm lacks it, else nothing.

    >>> lacking("vit_tiny_patch16_224"), lacking("timm.layers.of_tomorrow")
    ('', 'timm.layers.of_tomorrow')
    """
    known = find_spec(name) is not None if "." in name else timm.is_model(name)
    return "" if known else name


def _family(
    name: str,
    models: str,
    build: str | Callable[..., nn.Module],
    settings: dict[str, Foreign] | None = None,
    size: int = 32,
    oblong: tuple[int, int] | None = (40, 24),
    **told: str,
) -> Family:
    made = partial(tiny, build) if isinstance(build, str) else build
    if told.get("reads", CLASS_TOKEN) not in (CLASS_TOKEN, POOL):
        told = {"note": SEVERAL, **told}
    missing = lacking(build if isinstance(build, str) else told.pop("needs"))
    make = partial(made, **(settings or {}))
    return Family(f"timm {name}", models, make, (size, size), oblong, text=False, missing=missing, **told)


STEMS, VITAMIN = "timm.layers.hybrid_embed", "timm.models.vitamin"
"""Where timm has the parts of towers behind convolutions."""

FAMILIES = (
    _family("ViT", "VisionTransformer", "vit_tiny_patch16_224", examples="AugReg, CLIP's towers (`*_clip_*`), DINO, MAE"),
    _family("ViT, average", "VisionTransformer", "vit_tiny_patch16_224", {"global_pool": "avg"}, reads=MEAN),
    _family(
        "DeiT",
        "VisionTransformerDistilled",
        "deit_tiny_distilled_patch16_224",
        reads="class and distillation token",
    ),
    _family(
        "DINOv2",
        "VisionTransformer with registers",
        "vit_small_patch14_reg4_dinov2",
        examples="DINOv2, RADIO v3",
    ),
    _family(
        "EVA-02",
        "Eva",
        "eva02_tiny_patch14_224",
        note=f"{ROTARY}; {SEVERAL}",
        reads=MEAN,
        positions=f"{TABLE} and {ROTATED}",
    ),
    _family(
        "EVA-02, sub-norm",
        "Eva with norms inside of its attention",
        "eva02_base_patch14_224",
        {"scale_attn_inner": True},
        note=f"{ROTARY}; {SEVERAL}",
        reads=MEAN,
        positions=f"{TABLE} and {ROTATED}",
    ),
    _family("BEiT", "Beit", "beit_base_patch16_224", oblong=None, note=f"{PAIRS}; {SEVERAL}", reads=MEAN, positions=BIASED),
    _family(
        "SigLIP",
        "VisionTransformer with attention pool",
        "vit_base_patch16_siglip_224",
        reads=POOL,
        examples="SigLIP, SigLIP 2",
    ),
    _family(
        "SigLIP, average",
        "VisionTransformer without class token",
        "vit_base_patch16_siglip_gap_224",
        reads=MEAN,
        examples="SigLIP (`*_gap_*`), PaliGemma's tower",
    ),
    _family(
        "AIMv2",
        "VisionTransformer with RMS norms and gated units, without class token",
        "aimv2_large_patch14_224",
        reads=MEAN,
    ),
    _family(
        "BEiT-3",
        "VisionTransformer with norms inside of its attention",
        "beit3_base_patch16_224",
        reads=MEAN,
    ),
    _family(
        "InternViT",
        "VisionTransformer with layer scale",
        "vit_intern300m_patch14_448",
    ),
    _family(
        "DeiT-3",
        "VisionTransformer with layer scale",
        "deit3_small_patch16_224",
        positions=f"{TABLE} of the patches alone",
        examples="DeiT III, FlexiViT",
    ),
    _family(
        "TIPS v2",
        "VisionTransformer with registers",
        "vit_base_patch14_reg1_tipsv2",
        {"global_pool": "avg"},
        reads=MEAN,
    ),
    _family(
        "PE-Core",
        "Eva with attention pool",
        "vit_pe_core_base_patch16_224",
        {"attn_pool_num_heads": 4},
        note=ROTARY,
        reads=POOL,
        positions=f"{TABLE} and {ROTATED}",
        examples="PE-Core T, S, B, L, G",
    ),
    _family(
        "PE-Spatial",
        "Eva without a norm at its end",
        "vit_pe_spatial_base_patch16_512",
        note=f"{ROTARY}; {SEVERAL}",
        reads=MEAN,
        positions=f"{TABLE} and {ROTATED}",
        examples="PE-Spatial, PE-Lang",
    ),
    _family(
        "DINOv3",
        "Eva with registers",
        "vit_small_patch16_dinov3",
        note=f"{ROTARY}; {SEVERAL}",
        reads=MEAN,
        positions=ROTATED,
        examples="DINOv3, also `*_qkvb`",
    ),
    _family(
        "DINOv3, class token",
        "Eva with registers",
        "vit_small_patch16_dinov3",
        {"global_pool": "token"},
        note=ROTARY,
        positions=ROTATED,
    ),
    _family("EVA giant", "Eva", "eva_giant_patch14_clip_224", examples="EVA-01"),
    _family("ViT, rotary", "Eva", "vit_small_patch16_rope_224", note=ROTARY, positions=ROTATED),
    _family(
        "ViT, learned rotations",
        "Eva",
        "vit_small_patch16_rope_mixed_ape_224",
        note=ROTARY,
        positions=f"{TABLE} and learned {ROTATED}",
    ),
    _family(
        "ViT, relative positions",
        "VisionTransformerRelPos",
        "vit_relpos_small_patch16_224",
        oblong=None,
        note=f"{PAIRS}; {SEVERAL}",
        reads=MEAN,
        positions=f"{BIASED} by a network",
    ),
    _family(
        "ViT, relative positions, class token",
        "VisionTransformerRelPos",
        "vit_relpos_base_patch16_cls_224",
        {"rel_pos_type": "bias"},
        oblong=None,
        note=PAIRS,
        positions=BIASED,
    ),
    _family(
        "NaFlex",
        "NaFlexVit with registers",
        "naflexvit_base_patch16_gap",
        reads=MEAN,
        positions=f"{TABLE} for any grid",
    ),
    _family(
        "NaFlex, attention pool",
        "NaFlexVit",
        "naflexvit_base_patch16_siglip",
        reads=POOL,
        positions=f"{TABLE} for any grid",
        examples="SigLIP 2 NaFlex",
    ),
    _family(
        "NaFlex, factorized positions",
        "NaFlexVit",
        "naflexvit_base_patch16_parfac_gap",
        reads=MEAN,
        positions=f"{TABLE} of rows and one of columns",
    ),
    _family(
        "ViT behind convolutions",
        "VisionTransformer with HybridEmbed",
        tiny_stem,
        oblong=None,
        note="one size",
        positions=f"{TABLE} of the patches alone",
        examples="MobileCLIP-B, MobileCLIP2-B",
        needs=STEMS,
    ),
    _family(
        "ViTamin",
        "VisionTransformer with HybridEmbed",
        tiny_vitamin,
        size=64,
        oblong=None,
        note=f"one size; {SEVERAL}",
        reads=MEAN,
        examples="ViTamin S, B, L, XL",
        needs=VITAMIN,
    ),
    _family(
        "ViT behind a ResNet",
        "VisionTransformer with HybridEmbed",
        "vit_tiny_r_s16_p8_224",
        {"patch": 2},
        oblong=None,
        note="one size",
        examples="R26 + ViT, R50 + ViT",
    ),
)
