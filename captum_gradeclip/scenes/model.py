"""The embedded CLIP: an open_clip model, small enough to travel inside the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from open_clip import CLIP, SimpleTokenizer, image_transform
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from .vocabulary import CONTEXT_LENGTH, tokenizer

WEIGHTS = Path(__file__).with_name("scenes_clip.safetensors")
IMAGE_SIZE = 64
MEAN = STD = (0.5, 0.5, 0.5)


def build(*, layers: int = 3, width: int = 192, heads: int = 2, text_width: int = 128, patch_dropout: float = 0.0) -> CLIP:
    """The architecture with random weights; text tower of eight blocks, so that the paper's "last eight" exist."""
    return CLIP(
        embed_dim=128,
        vision_cfg={
            "image_size": IMAGE_SIZE,
            "patch_size": 8,
            "layers": layers,
            "width": width,
            "head_width": width // heads,
            "patch_dropout": patch_dropout,
        },
        text_cfg={
            "context_length": CONTEXT_LENGTH,
            "vocab_size": tokenizer().vocab_size,
            "layers": 8,
            "width": text_width,
            "heads": 2,
        },
    )


def preprocess() -> Callable[[Image.Image], Tensor]:
    """The model's transform: short side to 64 pixels, centre crop, values in [-1, 1]."""
    transform: Callable[[Image.Image], Tensor] = image_transform(IMAGE_SIZE, is_train=False, mean=MEAN, std=STD)
    return transform


def load(weights: str | Path = WEIGHTS) -> tuple[CLIP, Callable[[Image.Image], Tensor], SimpleTokenizer]:
    """The embedded CLIP, ready to be explained, without network: ``model, preprocess, tokenizer``.

    Args:
        weights: a file written by the training script instead of the one in the package.

    Raises:
        FileNotFoundError: when there is no such file.

    >>> model, preprocess, tokenizer = load()
    >>> model.encode_text(tokenizer(["a red circle"])).shape
    torch.Size([1, 128])
    """
    model = build()
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    model.load_state_dict(state)
    return model.eval(), preprocess(), tokenizer()


def save(model: CLIP, path: str | Path) -> None:
    """Writes the weights in half precision, which halves the file and moves a score by less than 1e-3."""
    save_file({name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}, path)
