"""The embedded CLIP: an open_clip model, small enough to travel inside the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from ..files import to_json, write_bytes
from ..quoting import quoted
from .vocabulary import CONTEXT_LENGTH, tokenizer

if TYPE_CHECKING:  # open_clip takes seconds to import, so that happens where it is used
    from open_clip import CLIP, SimpleTokenizer

WEIGHTS = Path(__file__).with_name("scenes_clip.safetensors")
IMAGE_SIZE = 96
MEAN = STD = (0.5, 0.5, 0.5)


def build(
    *,
    image_size: int = IMAGE_SIZE,
    patch_size: int = 8,
    layers: int = 2,
    width: int = 192,
    heads: int = 2,
    text_width: int = 128,
    text_mlp_ratio: float = 1.0,
    patch_dropout: float = 0.0,
) -> CLIP:
    """Builds the architecture with random weights.

    The text tower has eight blocks, so that the paper's choice for texts, the last eight, exists.

    Args:
        image_size: side of the pictures in pixels, a multiple of ``patch_size`` (default 96).
        patch_size: side of the patches in pixels (default 8).
        layers: number of blocks of the image tower, at least 1 (default 2).
        width: width of the image tower, a multiple of ``heads`` (default 192).
        heads: number of attention heads of the image tower, at least 1 (default 2).
        text_width: width of the text tower, an even number (default 128).
        text_mlp_ratio: width of the text tower's MLPs as a multiple of its own (default 1).
        patch_dropout: share of the patches that are dropped in training mode, 0 to below 1 (default 0).

    Returns:
        The model, in training mode.
    """
    from open_clip import CLIP
    from open_clip.model import set_model_preprocess_cfg

    model = CLIP(
        embed_dim=128,
        vision_cfg={
            "image_size": image_size,
            "patch_size": patch_size,
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
    # This is where open_clip looks up the size and the statistics of a model's images.
    set_model_preprocess_cfg(model, {"size": (image_size, image_size), "mean": MEAN, "std": STD})
    return model


def preprocess(image_size: int = IMAGE_SIZE) -> Callable[[Image.Image], Tensor]:
    """A transform of pictures: the short side is resized, the center cut out, and values lie between -1 and 1.

    Args:
        image_size: side of the inputs in pixels (default 96).

    Returns:
        A function from a picture to a tensor ``(3, image_size, image_size)``.

    >>> preprocess(48)(Image.new("RGB", (100, 60))).shape
    torch.Size([3, 48, 48])
    """
    from open_clip import image_transform

    transform: Callable[[Image.Image], Tensor] = image_transform(image_size, is_train=False, mean=MEAN, std=STD)
    return transform


def load(weights: str | Path = WEIGHTS) -> tuple[CLIP, Callable[[Image.Image], Tensor], SimpleTokenizer]:
    """Loads the embedded CLIP, ready to be explained, without a network.

    Args:
        weights: a file written by the training script, which names its architecture; the default is the one in the package.

    Returns:
        The model in evaluation mode, its transform of pictures, and its tokenizer.

    Raises:
        FileNotFoundError: if there is no such file.

    >>> model, preprocess, tokenizer = load()
    >>> model.encode_text(tokenizer(["a red circle"])).shape
    torch.Size([1, 128])
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"weights: there is no file {quoted(weights)}")
    with safe_open(weights, framework="pt") as file:
        architecture = json.loads((file.metadata() or {}).get("architecture", "{}"))
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # not a dictionary
    with torch.random.fork_rng(devices=[]):  # the random weights are replaced at once, so the caller's random state stays
        model = build(**architecture)
    model.load_state_dict(state)
    return model.eval(), preprocess(model.visual.image_size[0]), tokenizer()


def save(model: CLIP, path: str | Path) -> None:
    """Writes the weights of a model together with its architecture.

    They are written in half precision, which halves the file and changes a score by less than 1e-3.

    Args:
        model: a model as :func:`build` makes it.
        path: the file, of safetensors.
    """
    state = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, safetensors_bytes(state, metadata={"architecture": architecture(model)}))


def architecture(model: CLIP) -> str:
    """The arguments of :func:`build` for a model, as the files of its weights say them.

    Args:
        model: a model as :func:`build` makes it.
    """
    visual = model.visual.transformer
    mlp = model.transformer.resblocks[0].mlp.c_fc
    found = {
        "image_size": model.visual.image_size[0],
        "patch_size": model.visual.patch_size[0],
        "layers": visual.layers,
        "width": visual.width,
        "heads": visual.resblocks[0].attn.num_heads,
        "text_width": model.transformer.width,
        "text_mlp_ratio": mlp.out_features / mlp.in_features,
    }
    return to_json(found)
