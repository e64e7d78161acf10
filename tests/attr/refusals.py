"""Which method refuses which family, and why: from what is known of models and methods, not from what the package says."""

from __future__ import annotations

from typing import Any

from captum_gradeclip.adapters import Family

# How a score leaves the image tower, for every family that does not read one class token behind plain blocks.
READS = {
    "open_clip ViT, average": "several tokens",
    "open_clip ResNet": "a pool over convolutions",
    "open_clip SigLIP": "a pool",
    "open_clip SigLIP, last token": "a pool",
    "open_clip ViT, average, no mask": "several tokens",
    "open_clip ViT, sines": "several tokens",
    "open_clip ViT, attention pool": "a pool",
    "open_clip PE-Core": "a pool",
    "open_clip ViTamin": "several tokens",
    "open_clip CoCa": "a pool",
    "transformers SigLIP": "a pool",
    "transformers SigLIP 2": "a pool",
    "transformers AIMv2": "a pool",
    "transformers AIMv2, native size": "a pool",
    "transformers DeiT, distilled": "several tokens",
    "transformers I-JEPA": "several tokens",
    "transformers BEiT": "several tokens",
    "transformers CLIP, classes": "several tokens",
    "transformers MetaCLIP 2, classes": "several tokens",
    "transformers SigLIP, classes": "several tokens",
    "transformers SigLIP 2, classes": "several tokens",
    "transformers DINOv2": "several tokens",
    "transformers DINOv2 with registers": "several tokens",
    "timm ViT, average": "several tokens",
    "timm DeiT": "several tokens",
    "timm EVA-02": "several tokens",
    "timm EVA-02, sub-norm": "several tokens",
    "timm BEiT": "several tokens",
    "timm SigLIP": "a pool",
    "timm SigLIP, average": "several tokens",
    "timm AIMv2": "several tokens",
    "timm BEiT-3": "several tokens",
    "timm TIPS v2": "several tokens",
    "timm PE-Core": "a pool",
    "timm PE-Spatial": "several tokens",
    "timm DINOv3": "several tokens",
    "timm ViT, relative positions": "several tokens",
    "timm NaFlex": "several tokens",
    "timm NaFlex, attention pool": "a pool",
    "timm NaFlex, factorized positions": "several tokens",
    "timm ViTamin": "several tokens",
}

# An attention pool behind blocks, with no norm before or behind it that released code leaves out.
NO_NORM_AT_POOL = {"transformers AIMv2", "transformers AIMv2, native size"}

# Families whose model does not know the marks around a text; only its tokenizer does, and these tests bring none.
MARKS_UNKNOWN = {
    "open_clip ViT, custom text",
    "open_clip ViT, end mark by id",
    "open_clip ViT, average, no mask",
    "open_clip ViT, sines",
    "open_clip SigLIP, last token",
    "open_clip, text of transformers",
    "open_clip, text of BERT, ViT of timm",
    "open_clip, text of XLM-R",
    "open_clip, text of NLLB",
    "open_clip, text of mT5",
    "transformers SigLIP",
    "transformers SigLIP 2",
    "transformers Chinese-CLIP",
    "transformers BLIP",
    "transformers BLIP retrieval",
    "transformers AIMv2",
    "transformers AIMv2, native size",
    "transformers FLAVA",
    "transformers TIPS v2",
    "transformers ViT and BERT",
}

# A token can stand in for the class token only where one is read, and each goes on by itself behind the last block.
NO_TOKEN = "lets the model read one token after the other in place of its class token"
NO_TEXTS = "compares dense features with texts, so it needs an ImageTextScore"
NO_EMPTY_TEXT = "has no text encoder, and so no empty text"
REFUSED_BY_READING = {
    ("MaskCLIP", "several tokens"): NO_TOKEN,
    ("MaskCLIP", "a pool"): NO_TOKEN,
    ("CLIPSurgery", "several tokens"): NO_TOKEN,
    ("CLIPSurgery", "a pool"): NO_TOKEN,
    ("LeGrad", "several tokens"): NO_TOKEN,
}

# What needs the facts of a model, and so refuses a callable of which nothing is known.
REFUSES_CALLABLES = {
    "MaskCLIP": "needs a score module of images",
    "CLIPSurgery": "needs an ImageTextScore",
    "LeGrad": "needs a score module of images",
}


def reading(family: Family) -> str:
    """How the score leaves the image tower of a family."""
    return READS.get(family.name, "a token")


def refusal(kind: type[Any], family: Family, image: bool) -> str | None:
    """Why a method does not explain the images or texts of a family, or ``None`` if it does."""
    if not (kind.info.image if image else kind.info.text):
        return "is defined for images, not for texts" if kind.info.image else "is defined for texts, not for images"
    if not image:
        return None
    if reading(family) == "a pool over convolutions" and not kind.info.convolutional:
        return "follows attention from token to token"
    if kind.__name__ == "CLIPSurgery" and not family.text and not family.name.endswith("features"):
        return NO_TEXTS
    if kind.__name__ == "CLIPSurgery" and family.name.endswith("features"):
        return NO_EMPTY_TEXT
    by_reading = REFUSED_BY_READING.get((kind.__name__, reading(family)))
    if by_reading is None and kind.__name__ == "CLIPSurgery" and family.name in MARKS_UNKNOWN:
        return "only known to its tokenizer"
    return by_reading
