"""Methods written down from their equations: one example, one head, one token at a time. Slow on purpose."""

from .equations import (
    Layer,
    attend,
    block,
    blocks,
    cosine,
    from_records,
    grad_eclip,
    image_pass,
    literal_single_head,
    resnet_pass,
    stretched,
    text_pass,
)

__all__ = [
    "Layer",
    "attend",
    "block",
    "blocks",
    "cosine",
    "from_records",
    "grad_eclip",
    "image_pass",
    "literal_single_head",
    "resnet_pass",
    "stretched",
    "text_pass",
]
