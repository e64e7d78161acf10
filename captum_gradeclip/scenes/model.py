"""The embedded CLIP: an open_clip model, small enough to travel inside the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from open_clip import CLIP, SimpleTokenizer, image_transform
from open_clip.model import set_model_preprocess_cfg
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .vocabulary import CONTEXT_LENGTH, tokenizer

WEIGHTS = Path(__file__).with_name("scenes_clip.safetensors")
IMAGE_SIZE = 64
MEAN = STD = (0.5, 0.5, 0.5)


def build(
    *,
    layers: int = 2,
    width: int = 256,
    heads: int = 4,
    text_width: int = 128,
    text_mlp_ratio: float = 1.0,
    patch_dropout: float = 0.0,
) -> CLIP:
    """The architecture with random weights; text tower of eight blocks, so that the paper's "last eight" exist."""
    model = CLIP(
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
            "mlp_ratio": text_mlp_ratio,
        },
    )
    # where open_clip keeps what a model's images are to look like
    set_model_preprocess_cfg(model, {"size": (IMAGE_SIZE, IMAGE_SIZE), "mean": MEAN, "std": STD})
    return model


def preprocess() -> Callable[[Image.Image], Tensor]:
    """The model's transform: short side to 64 pixels, centre crop, values in [-1, 1]."""
    transform: Callable[[Image.Image], Tensor] = image_transform(IMAGE_SIZE, is_train=False, mean=MEAN, std=STD)
    return transform


def load(weights: str | Path = WEIGHTS) -> tuple[CLIP, Callable[[Image.Image], Tensor], SimpleTokenizer]:
    """The embedded CLIP, ready to be explained, without network: ``model, preprocess, tokenizer``.

    Args:
        weights: a file written by the training script (it names its architecture) instead of the one in the package.

    Raises:
        FileNotFoundError: when there is no such file.

    >>> model, preprocess, tokenizer = load()
    >>> model.encode_text(tokenizer(["a red circle"])).shape
    torch.Size([1, 128])
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"weights: no file {str(weights)!r}")
    with safe_open(weights, framework="pt") as file:
        architecture = json.loads((file.metadata() or {}).get("architecture", "{}"))
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # not a dictionary
    with torch.random.fork_rng(devices=[]):  # random weights are drawn only to be replaced
        model = build(**architecture)
    model.load_state_dict(state)
    return model.eval(), preprocess(), tokenizer()


def save(model: CLIP, path: str | Path) -> None:
    """Writes weights and architecture; in half precision, which halves the file and moves a score by less than 1e-3."""
    visual = model.visual.transformer
    mlp = model.transformer.resblocks[0].mlp.c_fc
    architecture = {
        "layers": visual.layers,
        "width": visual.width,
        "heads": visual.resblocks[0].attn.num_heads,
        "text_width": model.transformer.width,
        "text_mlp_ratio": mlp.out_features / mlp.in_features,
    }
    state = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, path, metadata={"architecture": json.dumps(architecture)})
    Path(path).chmod(0o644)
