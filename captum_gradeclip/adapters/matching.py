"""Image-text matching heads of transformers: BLIP and BLIP-2, whose text attends to the patches, and ViLT, one stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .base import (
    Foreign,
    ImageTower,
    Readout,
    Site,
    TextTower,
    UnsupportedModelError,
    blocks,
    check_size,
    class_among,
    pair,
    square_patch,
    unwrapped,
)

_KINDS = ("BlipForImageTextRetrieval", "Blip2ForImageTextRetrieval", "ViltForImageAndTextRetrieval")


@dataclass(frozen=True)
class Matching:
    """The facts of a model that judges an image and a text together.

    Attributes:
        match: logits ``(N,)`` of "match" of images ``(N, 3, H, W)`` with token ids ``(N, L)``, by the model's own modules.
        image: the facts of its images; its sites are the attentions whose keys are patches, and it has no features.
        text: the facts of its texts, which has no features either.
        words: whether the queries of the sites are the words of the text, from the first row on; those of BLIP-2 are
            learned and stand for nothing.
        single_stream: whether words and patches are keys side by side, the words in front (default False).
    """

    match: Callable[[Tensor, Tensor], Tensor]
    image: ImageTower
    text: TextTower
    words: bool
    single_stream: bool = False


def matching(model: nn.Module) -> Matching:
    """The facts of a model with an image-text matching head.

    Args:
        model: a model of transformers with such a head.

    Raises:
        UnsupportedModelError: for any other model.
    """
    owner: Foreign = unwrapped(model)
    kind = class_among(owner, _KINDS)
    if kind is None:
        raise UnsupportedModelError(
            f"model: {type(owner).__name__} has no image-text matching head that is known; known are {', '.join(_KINDS)}."
            " Any other one can be explained through a callable of images and its cross-attention layers,"
            " GradECLIP(lambda images: model(images, tokens), layers)"
        )
    found: Matching = {_KINDS[0]: _blip, _KINDS[1]: _blip2, _KINDS[2]: _vilt}[kind](owner)
    return found


def _blip(owner: Foreign) -> Matching:
    config, vision = owner.config, owner.config.vision_config

    def match(images: Tensor, tokens: Tensor) -> Tensor:
        other = _resized(images, vision)
        output = owner(
            pixel_values=images,
            input_ids=tokens,
            attention_mask=tokens.ne(config.text_config.pad_token_id).long(),
            use_itm_head=True,
            return_dict=True,
            **other,
        )
        return output.itm_score[:, 1]  # type: ignore[no-any-return]  # transformers publishes no types for it

    crossing: list[Foreign] = [block.crossattention for block in blocks(owner.text_encoder)]
    return Matching(match, _image(owner, vision, crossing), _text(config.text_config), words=True)


def _blip2(owner: Foreign) -> Matching:
    config, vision = owner.config, owner.config.vision_config

    def match(images: Tensor, tokens: Tensor) -> Tensor:
        _resized(images, vision, fixed=True)
        queries = config.num_query_tokens if config.image_token_index is not None else 0
        # Where the tokenizer's texts carry places for the learned queries, the model cuts these off again.
        front = tokens.new_zeros(len(tokens), queries)
        mask = torch.cat([torch.ones_like(front), tokens.ne(config.qformer_config.pad_token_id).long()], dim=1)
        output = owner(
            pixel_values=images,
            input_ids=torch.cat([front, tokens], dim=1),
            attention_mask=mask,
            use_image_text_matching_head=True,
            return_dict=True,
        )
        return output.logits_per_image[:, 1]  # type: ignore[no-any-return]

    crossing: list[Foreign] = [block.crossattention for block in blocks(owner.qformer) if block.has_cross_attention]
    return Matching(match, _image(owner, vision, crossing), _text(config.qformer_config), words=False)


def _vilt(owner: Foreign) -> Matching:
    config, embed = owner.config, owner.vilt.embeddings

    def match(images: Tensor, tokens: Tensor) -> Tensor:
        check_size(images, config.patch_size, pair(config.image_size))
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            # The model draws its patches in a random order, each with its position; here they stand in raster order.
            seen, mask, (places, _) = embed.visual_embed(
                images, torch.ones_like(images[:, 0], dtype=torch.long), max_image_length=-1
            )
        columns = images.shape[-1] // config.patch_size
        order = (places[..., 0] * columns + places[..., 1]).argsort(dim=1) + 1
        patches = seen.take_along_dim(order[..., None], dim=1)
        output = owner(
            input_ids=tokens,
            attention_mask=tokens.ne(config.pad_token_id or 0).long(),
            token_type_ids=torch.zeros_like(tokens),
            image_embeds=torch.cat([seen[:, :1], patches], dim=1),
            pixel_mask=mask,
            return_dict=True,
        )
        return output.logits[:, 0]  # type: ignore[no-any-return]

    tower = _image(owner, config, blocks(owner.vilt.encoder), "self")
    return Matching(match, tower, _text(config), words=True, single_stream=True)


def _resized(images: Tensor, vision: Foreign, fixed: bool = False) -> dict[str, bool]:
    """What a model is told of images of another size than its own."""
    patch, native = square_patch(vision.patch_size), pair(vision.image_size)
    size = check_size(images, patch, native)
    if size == native:
        return {}
    if fixed:
        raise ValueError(f"inputs: images, this model takes {native[0]} x {native[1]} only, got {size[0]} x {size[1]}")
    return {"interpolate_pos_encoding": True}


def _image(owner: Foreign, vision: Foreign, layers: list[nn.Module], kind: str = "cross") -> ImageTower:
    from .transformers import HALF, OPENAI

    mean, std = HALF if kind == "self" else OPENAI
    return ImageTower(
        encode=partial(_no_features, owner),
        sites=[Site(layer, "self" if kind == "self" else "cross") for layer in layers],
        readout=Readout("several"),
        patch=square_patch(vision.patch_size),
        size=pair(vision.image_size),
        mean=mean,
        std=std,
        width=1,
        dtype=next(owner.parameters()).dtype,
    )


def _text(config: Foreign) -> TextTower:
    return TextTower(
        encode=partial(_no_features, config),
        sites=[],
        readout=Readout("several"),
        context_length=int(config.max_position_embeddings),
        width=1,
        pad=False,
        vocabulary=int(config.vocab_size),
        start=None,
        end=None,
    )


def _no_features(owner: Foreign, _: Tensor) -> Tensor:
    raise UnsupportedModelError(f"model: {type(owner).__name__} judges an image and a text together; they have no features")
