"""The families of transformers: a row for each, with a tiny random model of its class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import transformers
from torch import nn

from .base import (
    BIASED,
    CLASS_TOKEN,
    CONTEXT,
    END,
    END_MARK,
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
    START,
    TABLE,
    VOCABULARY,
    Family,
    Foreign,
)

_BLOCKS = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
_IMAGE = {**_BLOCKS, "image_size": 32, "patch_size": 8}
_TEXT = {
    **_BLOCKS,
    "num_hidden_layers": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": START,
    "eos_token_id": END,
}
_LABELS = {index: f"class {index}" for index in range(VOCABULARY)}


def _dual(
    kind: str,
    image: dict[str, Foreign] | None = None,
    text: dict[str, Foreign] | None = None,
    side: str = "vision_config",
    **settings: Foreign,
) -> nn.Module:
    """A tiny model of images and texts, which is what CLIP's would be but for what is given."""
    model = getattr(transformers, kind)
    configs = {side: {**_IMAGE, **(image or {})}, "text_config": {**_TEXT, **(text or {})}}
    return model(model.config_class(**configs, **{"projection_dim": 24, **settings}))  # type: ignore[no-any-return]


def _classifier(kind: str, image: dict[str, Foreign] | None = None, inside: bool = False) -> nn.Module:
    """A tiny classifier, its image settings ``inside`` of a configuration for images and texts, or alone."""
    model = getattr(transformers, kind)
    own = {**_IMAGE, **(image or {})}
    settings = {"vision_config": own, "text_config": _TEXT} if inside else own
    return model(model.config_class(**settings, id2label=_LABELS))  # type: ignore[no-any-return]


def _encoder(kind: str, **image: Foreign) -> nn.Module:
    model = getattr(transformers, kind)
    return model(model.config_class(**{**_IMAGE, **image}))  # type: ignore[no-any-return]


def _vision_text() -> nn.Module:
    """A ViT and a BERT that were put together."""
    image = transformers.ViTConfig(**_IMAGE)  # type: ignore[arg-type]
    text = transformers.BertConfig(**_TEXT)  # type: ignore[arg-type]
    joined: Foreign = transformers.VisionTextDualEncoderConfig
    config = joined.from_vision_text_configs(image, text, projection_dim=24)
    return transformers.VisionTextDualEncoderModel(config)


def _wrapped_timm() -> nn.Module:
    small = {"embed_dim": 48, "depth": 3, "num_heads": 4, "img_size": 32, "patch_size": 8}
    native = {"pretrained_cfg_overlay": {"input_size": (3, 32, 32)}}
    kind: Foreign = transformers.TimmWrapperConfig
    config = kind(architecture="vit_tiny_patch16_224", model_args={**small, **native}, id2label=_LABELS)
    return transformers.TimmWrapperForImageClassification(config)


_VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
# Before version 5 these classifiers do not interpolate positions.
_OWN_SIZE: dict[str, Foreign] = {} if _VERSION >= (5, 0) else {"oblong": None, "note": "one size"}
_HEAD = "an encoder without classes: the rows of a head of yours are its texts, ImageTextScore(model, head.weight)"
_SUM = "summed over all rows (our extension)"
_ALL_ROWS = f"reads the class token and the mean of the patches: {_SUM}"


def _row(name: str, kind: str, build: Callable[[], nn.Module], **told: Foreign) -> Family:
    reads = told.get("reads", CLASS_TOKEN), told.get("text_reads", END_MARK)
    several = reads[0] not in (CLASS_TOKEN, POOL, _BOTH) or reads[1] == MEAN_OF_WORDS
    note = "; ".join([*([told.pop("note")] if "note" in told else []), *([SEVERAL] if several else [])])
    lacking = told.pop("missing", "") if kind in _KNOWN else kind
    return Family(f"transformers {name}", kind, build, note=note, missing=lacking, **told)


def _dual_row(name: str, kind: str, told: dict[str, Foreign] | None = None, **settings: Foreign) -> Family:
    return _row(name, kind, partial(_dual, kind, **settings), **(told or {}))


def _classifier_row(
    name: str, kind: str, told: dict[str, Foreign] | None = None, inside: bool = False, **image: Foreign
) -> Family:
    return _row(name, kind, partial(_classifier, kind, image, inside), text=False, **(told or {}))


_KNOWN = frozenset(dir(transformers))  # asking for each class would import its file
_NO_START: dict[str, Foreign] = {"bos_token_id": None}
_CUT = "images are cut into patches by us"
_BOTH = "class token and mean of the patches"
# The library's own range of initial weights is nothing, with which no head makes a difference.
_BLIP: dict[str, Foreign] = {
    "image": {"initializer_range": 0.02},
    "text": {"encoder_hidden_size": 48, "sep_token_id": END},
    "image_text_hidden_size": 24,
}
_GRID: dict[str, Foreign] = {"num_patches": 16, "image_size": None}

FAMILIES = (
    _dual_row("CLIP", "CLIPModel", {"examples": "OpenAI's CLIP, StreetCLIP, FashionCLIP, LongCLIP's ports"}),
    _dual_row("MetaCLIP 2", "MetaClip2Model", {"text_reads": f"{END_MARK}, by its id"}),
    _dual_row("OWL-ViT", "OwlViTModel", {"note": "the score of the whole image, not of a box", "text_reads": "highest id"}),
    _dual_row("OWLv2", "Owlv2Model", {"note": "the score of the whole image, not of a box", "text_reads": "highest id"}),
    _dual_row("CLIPSeg", "CLIPSegModel", {"note": "the score of the whole image, not the decoder's mask"}),
    _dual_row(
        "AIMv2",
        "Aimv2Model",
        {"note": "one size", "oblong": None, "reads": POOL, "text_reads": f"{END_MARK}, by its id"},
        text=_NO_START,
    ),
    _dual_row(
        "AIMv2, native size",
        "Aimv2Model",
        {"reads": POOL, "text_reads": f"{END_MARK}, by its id", "positions": SINES},
        image={"is_native": True},
        text=_NO_START,
    ),
    _dual_row("SigLIP", "SiglipModel", {"reads": POOL, "text_reads": LAST}),
    _dual_row(
        "SigLIP 2",
        "Siglip2Model",
        {
            "note": _CUT,
            "reads": POOL,
            "text_reads": LAST,
            "positions": f"{TABLE} for any grid",
        },
        image=_GRID,
    ),
    _dual_row("Chinese-CLIP", "ChineseCLIPModel", {"text_reads": FIRST}),
    _dual_row(
        "AltCLIP",
        "AltCLIPModel",
        {"text_reads": FIRST},
        text={"max_position_embeddings": CONTEXT + 1, "project_dim": 48},
    ),
    _dual_row("BLIP", "BlipModel", {"text_reads": FIRST}, **_BLIP),
    _dual_row(
        "BLIP retrieval",
        "BlipForImageTextRetrieval",
        {"note": "contrastive head; the matching head is not covered", "text_reads": FIRST},
        **_BLIP,
    ),
    _dual_row(
        "FLAVA",
        "FlavaModel",
        {"note": "contrastive head; the encoder of both is not covered", "text_reads": FIRST},
        side="image_config",
        multimodal_config={**_BLOCKS, "num_hidden_layers": 1},
        init_codebook=False,
    ),
    _dual_row(
        "TIPS v2",
        "Tipsv2Model",
        {"text_reads": MEAN_OF_WORDS, "positions": f"{TABLE}, of words {SINES}"},
        image={"mlp_ratio": 2},
    ),
    _row(
        "ViT and BERT",
        "VisionTextDualEncoderModel",
        _vision_text,
        text_reads=FIRST,
        examples="any of CLIP's, ViT, DeiT, DINOv2 with BERT, RoBERTa, XLM-R",
    ),
    _classifier_row("ViT", "ViTForImageClassification"),
    _classifier_row("ViT MSN", "ViTMSNForImageClassification"),
    _classifier_row("DeiT", "DeiTForImageClassification", {"examples": "a second token is not read"}),
    _classifier_row("DeiT, distilled", "DeiTForImageClassificationWithTeacher", {"reads": "class and distillation token"}),
    _classifier_row("I-JEPA", "IJepaForImageClassification", {"reads": MEAN}),
    _classifier_row(
        "BEiT",
        "BeitForImageClassification",
        {"note": PAIRS, "oblong": None, "reads": MEAN, "positions": BIASED},
        use_relative_position_bias=True,
    ),
    _classifier_row(
        "Data2Vec",
        "Data2VecVisionForImageClassification",
        {"note": PAIRS, "oblong": None, "positions": f"{BIASED}, shared"},
        use_shared_relative_position_bias=True,
        use_mean_pooling=False,
    ),
    _classifier_row("DINOv2", "Dinov2ForImageClassification", {"note": _ALL_ROWS, "reads": _BOTH}),
    _classifier_row(
        "DINOv2 with registers", "Dinov2WithRegistersForImageClassification", {"note": _ALL_ROWS, "reads": _BOTH}
    ),
    _classifier_row("CLIP, classes", "CLIPForImageClassification", {"reads": MEAN, **_OWN_SIZE}, inside=True),
    _classifier_row("MetaCLIP 2, classes", "MetaClip2ForImageClassification", {"reads": MEAN, **_OWN_SIZE}, inside=True),
    _classifier_row("SigLIP, classes", "SiglipForImageClassification", {"reads": MEAN}, inside=True),
    _classifier_row(
        "SigLIP 2, classes",
        "Siglip2ForImageClassification",
        {"note": _CUT, "reads": MEAN, "positions": f"{TABLE} for any grid"},
        inside=True,
        **_GRID,
    ),
    _row(
        "timm's ViT",
        "TimmWrapperForImageClassification",
        _wrapped_timm,
        text=False,
        missing="" if _VERSION >= (4, 54) else "TimmWrapperConfig.model_args",
        examples="every model that timm has a row for",
    ),
    _row("DINOv2, features", "Dinov2Model", partial(_encoder, "Dinov2Model"), text=False, note=_HEAD),
    _row(
        "DINOv3, features",
        "DINOv3ViTModel",
        partial(_encoder, "DINOv3ViTModel", num_register_tokens=4, layerscale_value=1.0),
        text=False,
        note=f"{ROTARY}; {_HEAD}",
        positions=ROTATED,
    ),
)
