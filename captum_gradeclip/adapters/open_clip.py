"""open_clip's ``CLIP``, ``CustomTextCLIP`` and ``CoCa``; OpenAI's ``clip`` package, whose model has the same layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
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
    BIASED,
    CLASS_TOKEN,
    CONTEXT,
    END,
    FIRST,
    LAST,
    MEAN,
    MEAN_OF_WORDS,
    PAIRS,
    POOL,
    ROTARY,
    ROTATED,
    SEVERAL,
    SINES,
    TABLE,
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
    parts,
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
        pool_norm=None if pool is None else visual.ln_post,
        dtype=visual.conv1.weight.dtype,
        **_statistics(visual, visual.conv1.in_channels),
    )


def _resnet(visual: Foreign) -> ImageTower:
    size = _size(visual)
    return ImageTower(
        encode=_resizing(visual, "attnpool.positional_embedding", 32, size),
        encode_bare=_resizing(visual, "attnpool.positional_embedding", 32, size, bare=True),
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
        pool_norm=trunk.pool_norm,
        **_statistics(visual, trunk.channels, trunk.mean, trunk.std),
    )


def _size(visual: Foreign) -> tuple[int, int]:
    """Native height and width; OpenAI's classes have another name for it."""
    return pair(visual.image_size if hasattr(visual, "image_size") else visual.input_resolution)


def _resizing(
    visual: Foreign, table: str, patch: int, size: tuple[int, int], bare: bool = False
) -> Callable[[Tensor], Tensor]:
    """The tower's forward pass, on a view with interpolated positions where the images have another size.

    A ``bare`` one has positions of zero.
    """
    channels, native = visual.conv1.in_channels, grid_of(size, patch)

    def encode(images: Tensor) -> Tensor:
        grid = grid_of(check_size(images, patch, size, channels), patch)
        view = visual
        if grid != native or bare:
            positions = attrgetter(table)(visual)  # which a parametrization may have made a plain tensor
            resized = positions if grid == native else resize_positions(positions, native, grid)
            view = replaced(visual, table, torch.zeros_like(resized) if bare else resized)
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
    images = set(parts(getattr(model, "visual", nn.Identity())))
    return [part for part in parts(model) if part not in images]


def _hugging_face(model: Foreign, tower: Foreign) -> TextTower:
    """A text encoder of transformers inside an open_clip model, pooled at its first token or over all of them."""
    first = "Cls" in type(tower.pooler).__name__
    projections = [part for part in tower.proj.modules() if isinstance(part, nn.Linear)]

    def encode(tokens: Tensor) -> Tensor:
        # M2M-100 of older versions draws a number for each layer in evaluation mode too, where it then skips none.
        draws = hasattr(tower.transformer, "layerdrop") and not tower.transformer.training
        with torch.random.fork_rng(devices=[], enabled=draws):
            return model.encode_text(tokens)  # type: ignore[no-any-return]

    return TextTower(
        encode=encode,
        sites=sites(blocks(tower.transformer)),
        readout=Readout("token", rows=first_row) if first else Readout("several"),
        context_length=_context(tower),
        width=projections[-1].out_features if projections else int(tower.transformer.config.hidden_size),
        pad=False,
        vocabulary=int(tower.vocab_size),
        start=None,
        end=None,
        # The pooler of maxima looks at the padding.
        front=Front(lambda tokens: without_padding(tokens, tower.config.pad_token_id), encode, partial(text_parts, model))
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


def _tiny_timm(trunk: nn.Module, size: int = 32, text: dict[str, object] | None = None) -> nn.Module:
    """open_clip names its timm tower; this one is cut down to a tiny trunk of the same architecture."""
    model: Foreign = _tiny(text=text, kind="CustomTextCLIP")
    model.visual = _timm_tower(trunk, size)
    return model  # type: ignore[no-any-return]


def _timm_tower(trunk: nn.Module, size: int = 32) -> nn.Module:
    import open_clip.timm_model

    visual: Foreign = open_clip.timm_model.TimmModel.__new__(open_clip.timm_model.TimmModel)
    nn.Module.__init__(visual)
    visual.image_size, visual.trunk = (size, size), trunk
    visual.head = nn.Sequential(nn.Linear(48, 24, bias=False))
    return visual  # type: ignore[no-any-return]


def _tiny_coca() -> nn.Module:
    from open_clip import CoCa

    both = {"output_tokens": True}
    vit = {**_VIT, **both, "attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8}
    multimodal = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "layers": 1, "width": 32, "heads": 4}
    return CoCa(24, multimodal, {**_TEXT, **both, "embed_cls": True}, vit)  # type: ignore[no-any-return]


def _tiny_hugging_face(kind: str, pooler: str, projection: str = "linear", trunk: nn.Module | None = None) -> nn.Module:
    """A tiny CLIP whose text encoder is one of transformers, of an encoder with a decoder its encoder."""
    import transformers
    from open_clip.hf_model import HFTextEncoder

    config = getattr(transformers, kind)(**_HUGGING_FACE[kind], vocab_size=VOCABULARY, pad_token_id=0)
    model: Foreign = _tiny(kind="CustomTextCLIP")
    model.text = HFTextEncoder("", output_dim=24, config=config, pooler_type=pooler, proj_type=projection)
    if config.is_encoder_decoder:
        model.text.transformer = model.text.transformer.encoder
    if trunk is not None:
        model.visual = _timm_tower(trunk)
    return model  # type: ignore[no-any-return]


_BERT = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 8, "num_attention_heads": 4}
_HUGGING_FACE: dict[str, dict[str, Foreign]] = {
    "BertConfig": {**_BERT, "max_position_embeddings": CONTEXT},
    "XLMRobertaConfig": {**_BERT, "max_position_embeddings": CONTEXT + 1},
    "M2M100Config": {
        **{"d_model": 48, "encoder_layers": 8, "encoder_attention_heads": 4, "encoder_ffn_dim": 96},
        **{"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 96, "max_position_embeddings": CONTEXT},
    },
    "MT5Config": {"d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 8, "num_decoder_layers": 1, "num_heads": 4},
}


def _family(name: str, models: str, build: Callable[[], nn.Module], **told: Foreign) -> Family:
    several = [] if told.get("reads", CLASS_TOKEN) in (CLASS_TOKEN, POOL) else [SEVERAL]
    note = "; ".join([*([told.pop("note")] if "note" in told else []), *several])
    return Family(f"open_clip{name}", models, build, note=note, **told)


def _lacking(setting: str) -> str:
    """A setting of text towers if the installed open_clip lacks it, else nothing."""
    import open_clip.model

    known = {one.name for one in fields(open_clip.model.CLIPTextCfg)}
    return "" if setting in known else f"{setting} of text towers"


_UNMASKED: dict[str, object] = {"no_causal_mask": True}
_OF_TIMM, _OF_TRANSFORMERS = "CustomTextCLIP with TimmModel", "CustomTextCLIP with HFTextEncoder"


FAMILIES = (
    _family(
        " ViT",
        "CLIP, also OpenAI's",
        lambda: _tiny(quick_gelu=True),
        examples="LAION's and OpenAI's CLIP, DFN, MetaCLIP, RemoteCLIP, GeoRSCLIP, BioCLIP 2, `ViT-*-alt`",
    ),
    _family(
        " ViT, custom text",
        "CustomTextCLIP",
        lambda: _tiny(text={"pool_type": "eos", "eos_id": END}, kind="CustomTextCLIP"),
        oblong=(24, 56),
        missing=_lacking("eos_id"),
    ),
    _family(
        " ViT, end mark by id",
        "CLIP whose text tower is told its end mark",
        lambda: _tiny(text={"pool_type": "eos", "eos_id": END}),
        examples="MetaCLIP 2 (`*-worldwide`)",
        missing=_lacking("eos_id"),
    ),
    _family(" ViT, average", "CLIP", lambda: _tiny({"pool_type": "avg"}), reads=MEAN),
    _family(
        " ViT, average, no mask",
        "CLIP without norm in front",
        lambda: _tiny(
            {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}, {"pool_type": "last", **_UNMASKED}
        ),
        reads=MEAN,
        text_reads=LAST,
        examples="CLIPA",
    ),
    _family(
        " ViT, sines",
        "CLIP without norm in front",
        lambda: _tiny(
            {"no_ln_pre": True, "pool_type": "avg", "pos_embed_type": "sin_cos_2d"}, {"pool_type": "first", **_UNMASKED}
        ),
        reads=MEAN,
        text_reads=FIRST,
        positions=SINES,
        examples="OpenVision",
    ),
    _family(
        " ViT, attention pool",
        "CLIP with attention pool",
        lambda: _tiny({"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8}),
        reads=POOL,
    ),
    _family(
        " ResNet",
        "CLIP with ModifiedResNet",
        lambda: _tiny(_RESNET),
        size=(64, 64),
        oblong=(96, 128),
        reads=f"{POOL}, over convolutions",
    ),
    _family(
        " SigLIP",
        _OF_TIMM,
        lambda: _tiny_timm(timm.tiny("vit_base_patch16_siglip_224", num_classes=0)),
        reads=POOL,
    ),
    _family(
        " SigLIP, last token",
        _OF_TIMM,
        lambda: _tiny_timm(
            timm.tiny("vit_base_patch16_siglip_224", num_classes=0),
            text={"pool_type": "last", "proj_bias": True, **_UNMASKED},
        ),
        reads=POOL,
        text_reads=LAST,
        examples="SigLIP, SigLIP 2, FashionSigLIP",
    ),
    _family(
        " EVA-02",
        _OF_TIMM,
        lambda: _tiny_timm(timm.tiny("eva02_base_patch16_clip_224", num_classes=0, global_pool="token")),
        note=ROTARY,
        positions=f"{TABLE} and {ROTATED}",
    ),
    _family(
        " EVA-01",
        _OF_TIMM,
        lambda: _tiny_timm(timm.tiny("eva_giant_patch14_224", num_classes=0, global_pool="token")),
        examples="EVA01-g-14",
    ),
    _family(
        " PE-Core",
        _OF_TIMM,
        lambda: _tiny_timm(timm.tiny("vit_pe_core_base_patch16_224", num_classes=0, attn_pool_num_heads=4)),
        note=ROTARY,
        reads=POOL,
        positions=f"{TABLE} and {ROTATED}",
        examples="PE-Core T, S, B, L, bigG",
        missing=timm.lacking("vit_pe_core_base_patch16_224"),
    ),
    _family(
        " ViT of timm, no mask",
        f"{_OF_TIMM}, whose text tower has no mask",
        lambda: _tiny_timm(timm.tiny("vit_base_patch16_clip_224", num_classes=0), text=_UNMASKED),
        examples="MobileCLIP2-L-14",
    ),
    _family(
        " ViT behind convolutions",
        f"{_OF_TIMM} and HybridEmbed",
        lambda: _tiny_timm(timm.tiny_stem(num_classes=0)),
        oblong=None,
        note="one size",
        positions=f"{TABLE} of the patches alone",
        examples="MobileCLIP-B, MobileCLIP2-B",
        missing=timm.lacking(timm.STEMS),
    ),
    _family(
        " ViTamin",
        f"{_OF_TIMM} and HybridEmbed",
        lambda: _tiny_timm(timm.tiny_vitamin(num_classes=0), 64),
        size=(64, 64),
        oblong=None,
        note="one size",
        reads=MEAN,
        examples="ViTamin S, B, L, XL",
        missing=timm.lacking(timm.VITAMIN),
    ),
    _family(
        " ViT, relative positions",
        _OF_TIMM,
        lambda: _tiny_timm(timm.tiny("vit_relpos_base_patch16_cls_224", num_classes=0)),
        oblong=None,
        note=PAIRS,
        positions=f"{BIASED} by a network",
        examples="vit_relpos_medium_patch16_cls_224",
    ),
    _family(
        " CoCa",
        "CoCa",
        _tiny_coca,
        note="explained is the contrastive score, not the caption decoder",
        reads=POOL,
        text_reads="token behind all others",
    ),
    _family(
        ", text of transformers",
        _OF_TRANSFORMERS,
        lambda: _tiny_hugging_face("BertConfig", "mean_pooler"),
        text_reads=MEAN_OF_WORDS,
        note=f"{SEVERAL}",
    ),
    _family(
        ", text of BERT, ViT of timm",
        f"{_OF_TRANSFORMERS} and TimmModel",
        lambda: _tiny_hugging_face(
            "BertConfig", "cls_last_hidden_state_pooler", "mlp", timm.tiny("vit_tiny_patch16_224", num_classes=0)
        ),
        text_reads=FIRST,
        examples="BiomedCLIP",
    ),
    _family(
        ", text of XLM-R",
        f"{_OF_TRANSFORMERS} (RoBERTa)",
        lambda: _tiny_hugging_face("XLMRobertaConfig", "mean_pooler", "mlp"),
        text_reads=MEAN_OF_WORDS,
        note=SEVERAL,
        examples="xlm-roberta-base-ViT-B-32, roberta-ViT-B-32",
    ),
    _family(
        ", text of NLLB",
        f"{_OF_TRANSFORMERS} (M2M-100)",
        lambda: _tiny_hugging_face("M2M100Config", "cls_pooler"),
        text_reads=FIRST,
        examples="nllb-clip-base, nllb-clip-large",
    ),
    _family(
        ", text of mT5",
        f"{_OF_TRANSFORMERS} (T5)",
        lambda: _tiny_hugging_face("MT5Config", "mean_pooler", "mlp"),
        text_reads=MEAN_OF_WORDS,
        note=f"the words' positions are a bias that arrives in the mask; {SEVERAL}",
        examples="mt5-base-ViT-B-32, mt5-xl-ViT-H-14",
    ),
)
