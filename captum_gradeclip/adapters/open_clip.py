"""open_clip's ``CLIP``, ``CustomTextCLIP`` and ``CoCa``; OpenAI's ``clip`` package, whose model has the same layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import TypedDict

import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from torch import Tensor, nn

from ..quoting import quoted
from . import timm
from .base import (
    CONTEXT,
    END,
    ROTARY,
    SEVERAL,
    VOCABULARY,
    Family,
    Foreign,
    Front,
    ImageTower,
    Readout,
    Site,
    TextTower,
    UnsupportedModelError,
    blocks,
    check_size,
    class_among,
    class_token,
    first_row,
    grid_of,
    pair,
    per_channel,
    replaced,
    resize_positions,
    sites,
    square,
    square_patch,
    unsupported,
    unwrapped,
    up_to,
    without_padding,
)
from .preprocessing import Preprocessing, longer_side, shorter_side, to_size


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of ``model.visual``: a ViT, a ResNet with an attention pool, or a tower of timm."""
    visual = unwrapped(getattr(model, "visual", nn.Identity()))
    towers = {"VisionTransformer": _vit, "ModifiedResNet": _resnet, "TimmModel": _timm}
    kind = class_among(visual, list(towers))
    if kind is not None:
        return towers[kind](visual)
    raise unsupported(
        f"the image tower {type(visual).__name__}", "VisionTransformer, ModifiedResNet and vision transformers of timm"
    )


def _vit(visual: Foreign) -> ImageTower:
    patch = square_patch(visual.conv1.kernel_size)
    size = _size(visual)
    # OpenAI's class knows no pooling but the class token.
    pool, pool_type = getattr(visual, "attn_pool", None), getattr(visual, "pool_type", "tok")
    if getattr(visual, "attn_pool_contrastive", None) is not None:
        raise UnsupportedModelError(
            f"model: the {quoted(visual.attn_pool_type)} pair of attention pools of CoCa is not supported; the single one is"
        )
    if pool_type not in ("tok", "avg"):
        raise UnsupportedModelError(f"model: image pooling {quoted(pool_type)} is not supported; 'tok' and 'avg' are")
    return ImageTower(
        encode=_resizing(visual, "positional_embedding", patch, size),
        sites=sites(visual.transformer.resblocks, pool),
        readout=Readout("pool") if pool is not None else class_token() if pool_type == "tok" else Readout("several"),
        patch=patch,
        size=size,
        width=visual.proj.shape[1] if visual.proj is not None else visual.transformer.width,
        dtype=visual.conv1.weight.dtype,
        **_statistics(visual, visual.conv1.in_channels),
    )


def _resnet(visual: Foreign) -> ImageTower:
    size = _size(visual)
    return ImageTower(
        encode=_resizing(visual, "attnpool.positional_embedding", 32, size),
        sites=[Site(visual.attnpool, "pool")],
        readout=Readout("pool", rows=first_row),
        patch=32,
        size=size,
        width=visual.attnpool.c_proj.out_features,
        dtype=visual.conv1.weight.dtype,
        **_statistics(visual, visual.conv1.in_channels),
    )


def _timm(visual: Foreign) -> ImageTower:
    trunk = timm.image_tower(visual.trunk)

    def encode(images: Tensor) -> Tensor:
        return replaced(visual, "trunk", timm.resized(visual.trunk, images))(images)  # type: ignore[no-any-return]

    projections = [part for part in visual.head.modules() if isinstance(part, nn.Linear)]
    return ImageTower(
        encode=encode,
        sites=trunk.sites,
        readout=trunk.readout,
        patch=trunk.patch,
        size=trunk.size,
        width=projections[-1].out_features if projections else trunk.width,
        dtype=trunk.dtype,
        pads=trunk.pads,
        **_statistics(visual, trunk.channels, trunk.mean, trunk.std),
    )


def _size(visual: Foreign) -> tuple[int, int]:
    """Native height and width; OpenAI's classes have another name for it."""
    return pair(visual.image_size if hasattr(visual, "image_size") else visual.input_resolution)


def _resizing(visual: Foreign, table: str, patch: int, size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    """The tower's forward pass, on a view with interpolated positions where the images have another size."""
    channels, native = visual.conv1.in_channels, grid_of(size, patch)

    def encode(images: Tensor) -> Tensor:
        grid = grid_of(check_size(images, patch, size, channels), patch)
        view = visual
        if grid != native:
            positions = attrgetter(table)(visual)  # which a parametrization may have made a plain tensor
            view = replaced(visual, table, resize_positions(positions, native, grid))
        output = view(images)
        features: Tensor = output[0] if isinstance(output, tuple) else output  # CoCa's towers return their tokens as well
        return features

    return encode


class _Statistics(TypedDict):
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _statistics(
    visual: Foreign,
    channels: int,
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN,
    std: tuple[float, ...] = OPENAI_DATASET_STD,
) -> _Statistics:
    own = getattr(visual, "preprocess_cfg", {})
    return {"mean": per_channel(own.get("mean", mean), channels), "std": per_channel(own.get("std", std), channels)}


def preprocessing(model: nn.Module) -> Preprocessing:
    """The transform that open_clip makes of the ``preprocess_cfg`` of a model's image tower."""
    tower, visual = image_tower(model), unwrapped(getattr(model, "visual", nn.Identity()))
    known = {"size": tower.size, "mean": tower.mean, "std": tower.std}
    own = {**(getattr(visual, "preprocess_cfg", None) or {}), "mean": tower.mean, "std": tower.std}
    settings = PreprocessCfg(**merge_preprocess_dict(known, own))
    height, width = pair(settings.size)
    box, told = (width, height), f"{height}" if height == width else f"{width} x {height}"
    ways = {
        "shortest": (shorter_side(box), f"shorter side to {told}"),
        "longest": (longer_side(box), f"longer side to {told}, padded"),
        "squash": (to_size(box), f"to {width} x {height}"),
    }
    resized, resize = ways[settings.resize_mode]
    # Where height and width differ, open_clip resizes bicubically whatever the settings say.
    bilinear = settings.interpolation == "bilinear" and (height == width or settings.resize_mode != "shortest")
    return Preprocessing(
        transform=image_transform_v2(settings, is_train=False),
        resized=resized,
        crop=None if settings.resize_mode == "squash" else box,
        resize=resize,
        interpolation="bilinear" if bilinear else "bicubic",
        mean=tower.mean,
        std=tower.std,
    )


def text_tower(model: nn.Module) -> TextTower:
    """The facts of the text tower, which sits in ``model`` itself (``CLIP``) or in ``model.text``."""
    tower: Foreign = getattr(model, "text", model)
    if class_among(tower, ["HFTextEncoder"]):
        return _hugging_face(model, tower)
    if not hasattr(tower, "transformer") or not hasattr(tower.transformer, "resblocks"):
        raise unsupported(f"the text tower {type(tower).__name__}", "open_clip's TextTransformer and HFTextEncoder")
    # OpenAI's class does not name its pooling, which is at the highest id.
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", "argmax"))
    appended = getattr(tower, "cls_emb", None) is not None  # CoCa reads a token that it appends
    if not appended and pool not in ("first", "last", "argmax", "eos"):
        raise UnsupportedModelError(
            f"model: text pooling {quoted(pool)} is not supported; 'argmax', 'eos', 'first' and 'last' are"
        )
    end: Foreign = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
    context_length = int(tower.context_length)
    # OpenAI's blocks keep the mask themselves.
    causal = getattr(tower, "attn_mask", None) is not None or not hasattr(tower, "attn_mask")

    def check(tokens: Tensor) -> None:
        length = tokens.shape[-1]
        # The position table, or else the causal mask, is added as a whole.
        if length > context_length or (causal and not appended and length < context_length):
            raise ValueError(f"inputs: tokens, expected token ids (N, {context_length}), got {length} tokens per text")

    def encode(tokens: Tensor) -> Tensor:
        check(tokens)
        return model.encode_text(tokens)  # type: ignore[operator, no-any-return]

    def length(tokens: Tensor) -> int:
        check(tokens)
        return up_to(rows(tokens))

    def encode_front(tokens: Tensor) -> Tensor:
        """The forward pass of a view whose table of positions and causal mask are as long as the texts."""
        view, length = model, tokens.shape[-1]
        own = "" if tower is model else "text."
        for name, cut in ("positional_embedding", slice(length)), ("attn_mask", (slice(length), slice(length))):
            view = replaced(view, own + name, getattr(tower, name)[cut])
        return view.encode_text(tokens)  # type: ignore[operator, no-any-return]

    def rows(tokens: Tensor) -> Tensor:
        if appended:
            return torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        if pool in ("first", "last"):
            return torch.full((len(tokens),), 0 if pool == "first" else tokens.shape[1] - 1, device=tokens.device)
        return (tokens if pool == "argmax" else tokens.eq(end).int()).argmax(dim=-1)

    projection = tower.text_projection
    if projection is None:
        width = tower.ln_final.normalized_shape[0]
    else:
        width = projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]
    vocabulary = tower.token_embedding.num_embeddings
    # A token that is appended, or the last one, stands behind the padding; OpenAI's blocks have a mask of fixed size each.
    reads_front = isinstance(getattr(tower, "attn_mask", None), Tensor) and not appended and pool != "last"
    front = Front(length, encode_front, partial(text_parts, model), causal=True) if reads_front else None
    return TextTower(
        encode=encode,
        sites=sites(tower.transformer.resblocks),
        readout=Readout("token", rows=rows),
        context_length=context_length,
        width=width,
        pad=True,
        vocabulary=vocabulary,
        start=vocabulary - 2 if pool == "argmax" else None,
        end=vocabulary - 1 if pool == "argmax" else end if pool == "eos" else None,
        project=None if appended else square(projection),
        front=front,
    )


def text_parts(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that run when it encodes texts, itself among them."""
    images = set(getattr(model, "visual", nn.Identity()).modules())
    return [part for part in model.modules() if part not in images]


def _hugging_face(model: Foreign, tower: Foreign) -> TextTower:
    """A text encoder of transformers inside an open_clip model, pooled at its first token or over all of them."""
    first = "Cls" in type(tower.pooler).__name__
    projections = [part for part in tower.proj.modules() if isinstance(part, nn.Linear)]
    return TextTower(
        encode=model.encode_text,
        sites=sites(blocks(tower.transformer)),
        readout=Readout("token", rows=first_row) if first else Readout("several"),
        context_length=_context(tower),
        width=projections[-1].out_features if projections else int(tower.transformer.config.hidden_size),
        pad=False,
        vocabulary=int(tower.vocab_size),
        start=None,
        end=None,
        # The pooler of maxima looks at the padding.
        front=Front(
            lambda tokens: without_padding(tokens, tower.config.pad_token_id), model.encode_text, partial(text_parts, model)
        )
        if first or "Mean" in type(tower.pooler).__name__
        else None,
    )


def _context(tower: Foreign) -> int:
    """The largest number of tokens of a text encoder of transformers.

    T5 compares positions and has no table of them, which open_clip notes as 0; its tokenizers then cut texts at their usual
    length. RoBERTa counts its positions from behind the id of the padding.
    """
    noted = int(tower.context_length)
    if not noted:
        return int(DEFAULT_CONTEXT_LENGTH)
    return noted - (tower.config.pad_token_id + 1 if "roberta" in tower.config.model_type else 0)


_TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 8, "width": 32, "heads": 4}
_VIT = {"image_size": 32, "patch_size": 8, "layers": 4, "width": 48, "head_width": 12}
_RESNET = {"image_size": 64, "layers": (1, 1, 1, 1), "width": 8, "head_width": 16}


def _tiny(
    image: dict[str, object] | None = None, text: dict[str, object] | None = None, kind: str = "CLIP", **settings: Foreign
) -> nn.Module:
    import open_clip.model

    build = getattr(open_clip.model, kind)
    return build(24, {**_VIT, **(image or {})}, {**_TEXT, **(text or {})}, **settings)  # type: ignore[no-any-return]


def _tiny_timm(name: str, pool: str, **settings: Foreign) -> nn.Module:
    """open_clip names its timm tower; this one is cut down to a tiny trunk of the same architecture."""
    model: Foreign = _tiny(kind="CustomTextCLIP")
    import open_clip.timm_model

    trunk: Foreign = timm.tiny(name, num_classes=0, global_pool=pool, **settings)
    visual: Foreign = open_clip.timm_model.TimmModel.__new__(open_clip.timm_model.TimmModel)
    nn.Module.__init__(visual)
    visual.image_size, visual.trunk = (32, 32), trunk
    visual.head = nn.Sequential(nn.Linear(48, 24, bias=False))
    model.visual = visual
    return model  # type: ignore[no-any-return]


def _tiny_coca() -> nn.Module:
    from open_clip import CoCa

    both = {"output_tokens": True}
    vit = {**_VIT, **both, "attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8}
    multimodal = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 1, "width": 32, "heads": 4}
    return CoCa(24, multimodal, {**_TEXT, **both, "embed_cls": True}, vit)  # type: ignore[no-any-return]


def _tiny_hugging_face() -> nn.Module:
    from open_clip.hf_model import HFTextEncoder
    from transformers import BertConfig

    config = BertConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=8,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        pad_token_id=0,
    )
    model: Foreign = _tiny(kind="CustomTextCLIP")
    model.text = HFTextEncoder("", output_dim=24, config=config, pooler_type="mean_pooler", proj_type="linear")
    return model  # type: ignore[no-any-return]


FAMILIES = (
    Family("open_clip ViT", "CLIP, also OpenAI's", lambda: _tiny(quick_gelu=True)),
    Family(
        "open_clip ViT, custom text",
        "CustomTextCLIP",
        lambda: _tiny(text={"pool_type": "eos", "eos_id": END}, kind="CustomTextCLIP"),
        oblong=(24, 56),
    ),
    Family("open_clip ViT, average", "CLIP", lambda: _tiny({"pool_type": "avg"}), note=SEVERAL),
    Family("open_clip ResNet", "CLIP with ModifiedResNet", lambda: _tiny(_RESNET), (64, 64), (96, 128)),
    Family("open_clip SigLIP", "CustomTextCLIP with TimmModel", lambda: _tiny_timm("vit_base_patch16_siglip_224", "map")),
    Family(
        "open_clip EVA-02",
        "CustomTextCLIP with TimmModel",
        lambda: _tiny_timm("eva02_base_patch16_clip_224", "token"),
        note=ROTARY,
    ),
    Family("open_clip CoCa", "CoCa", _tiny_coca, note="explained is the contrastive score, not the caption decoder"),
    Family("open_clip, text of transformers", "CustomTextCLIP with HFTextEncoder", _tiny_hugging_face, note=SEVERAL),
)
