"""Integrated Jacobians: second-order attributions of words and patches, the baseline of the field."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip import CLIP
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ... import adapters
from ...attention import CaptureInput
from ...scores.targets import tangents


def integrated_jacobians(model: CLIP, images: Tensor, tokens: Tensor, words: Sequence[int], steps: int = 16) -> Tensor:
    r"""Second-order attributions: the Jacobians of both towers, each integrated on the way from a reference to the input.

    .. math:: M_{ip} = \Big\langle \int_0^1 J_g \, (y_i - y^0_i) \, d\alpha, \;
        \int_0^1 J_f \, (x_p - x^0_p) \, d\alpha \Big\rangle

    at the words' embeddings :math:`y` and at the patches :math:`x` in front of the last block of images, whose references
    are a text of padding between the marks and a picture of the mean color. The features are not normalized on the way, and
    the terms of the references are left out, which belong to no pair.

    Args:
        model: a CLIP model of open_clip with plain towers.
        images: ``(N, 3, H, W)``.
        tokens: their captions ``(N, L)``.
        words: places of W words among the tokens, the same in each caption.
        steps: number of points of the midpoint rule, at least 1 (default 16).

    Returns:
        ``(N, W, h, w)``, signed.

    Source: Moeller, Nikolaev, Padó: "Explaining Caption-Image Interactions in CLIP Models with Second-Order Attributions",
    TMLR 2025.
    """
    visual, end, chosen = model.visual, tokens.argmax(dim=-1), list(words)
    every, places = (torch.arange(size, device=tokens.device) for size in tokens.shape)
    inside = (places > 0) & (places < end[:, None])

    def read(x: Tensor) -> Tensor:
        """Embeddings of texts to features."""
        states = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
        features: Tensor = states[every, end] @ model.text_projection
        return features

    def look(x: Tensor) -> Tensor:
        """Tokens in front of the last block of images to features."""
        features: Tensor = visual.ln_post(visual.transformer.resblocks[-1](x))[:, 0] @ visual.proj
        return features

    with torch.no_grad():
        text, blank = (model.token_embedding(one) + model.positional_embedding for one in (tokens, tokens.where(~inside, 0)))
        picture, plain = (_before_the_last_block(model, x) for x in (images, torch.zeros_like(images)))
    change = text - blank
    apart = torch.stack([change * (places == place)[:, None] for place in chosen])  # (W, N, L, C)
    directions = text.new_zeros(len(chosen), len(tokens), model.text_projection.shape[1])
    found = picture.new_zeros(len(chosen), *picture.shape[:2])
    with sdpa_kernel(SDPBackend.MATH):
        for share in _midpoints(steps):
            x = (blank + share * change).requires_grad_()
            directions += tangents(read(x), [x], [apart]) / steps
        for share in _midpoints(steps):
            x = (plain + share * (picture - plain)).requires_grad_()
            (gradient,) = torch.autograd.grad(look(x), x, directions, is_grads_batched=True)
            found += (gradient * (picture - plain)).sum(dim=-1) / steps
    maps: Tensor = found.transpose(0, 1)[..., 1:].unflatten(-1, adapters.image_tower(model).grid(images.shape[-2:]))
    return maps


def _midpoints(steps: int) -> list[float]:
    return [(number + 0.5) / steps for number in range(steps)]


def _before_the_last_block(model: CLIP, images: Tensor) -> Tensor:
    """Tokens ``(N, tokens, C)`` that the last block of images is given."""
    entry = CaptureInput(model.visual.transformer.resblocks[-1])
    with entry:
        model.encode_image(images)
    return entry.tensor.detach()
