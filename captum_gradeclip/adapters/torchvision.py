"""torchvision's ``vit_*`` classifiers."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import ViT_B_16_Weights

from .base import (
    VOCABULARY,
    Family,
    Foreign,
    ImageTower,
    NoTextTowerError,
    TextTower,
    channels_of,
    check_size,
    class_among,
    class_token,
    per_channel,
    replaced,
    resize_positions,
    sites,
    unsupported,
)
from .preprocessing import Preprocessing, shorter_side


def image_tower(model: nn.Module) -> ImageTower:
    """The facts of a ``VisionTransformer``, which reads its class token."""
    if not class_among(model, ["VisionTransformer"]):
        raise unsupported(type(model).__name__, "torchvision's VisionTransformer")
    vit: Foreign = model
    patch, native = int(vit.patch_size), vit.image_size // vit.patch_size
    channels = channels_of(vit.conv_proj, patch)

    def encode(images: Tensor) -> Tensor:
        height, width = check_size(images, patch, None, channels)
        if height == width == vit.image_size:
            return vit(images)  # type: ignore[no-any-return]
        if height != width:
            raise ValueError(f"inputs: images, torchvision's VisionTransformer takes squares only, got {height} x {width}")
        table = vit.encoder.pos_embedding[0]
        positions = resize_positions(table, (native, native), (height // patch, width // patch))
        view = replaced(vit, "encoder.pos_embedding", positions[None])
        return replaced(view, "image_size", height)(images)  # type: ignore[no-any-return]

    preset = ViT_B_16_Weights.IMAGENET1K_V1.transforms()
    head = [part for part in vit.heads.modules() if isinstance(part, nn.Linear)]
    return ImageTower(
        encode=encode,
        sites=sites(vit.encoder.layers),
        readout=class_token(),
        patch=patch,
        size=(vit.image_size, vit.image_size),
        mean=per_channel(preset.mean, channels),
        std=per_channel(preset.std, channels),
        width=head[-1].out_features if head else vit.hidden_dim,
        dtype=vit.class_token.dtype,
        classes=head[-1].out_features if head else 0,
        labels=lambda: _labels(head[-1].out_features if head else 0),
    )


def preprocessing(model: nn.Module) -> Preprocessing:
    """The transform that torchvision states for the first weights of its ViTs, at the size that the model has."""
    tower, first = image_tower(model), ViT_B_16_Weights.IMAGENET1K_V1.transforms()
    (side, _), stated = tower.size, first.crop_size[0]
    resized = side * first.resize_size[0] // stated
    return Preprocessing(
        transform=type(first)(crop_size=side, resize_size=resized, mean=tower.mean, std=tower.std),
        resized=shorter_side((resized, resized)),
        crop=(side, side),
        resize=f"shorter side to {resized}",
        interpolation=str(first.interpolation.value),
        mean=tower.mean,
        std=tower.std,
    )


def text_tower(model: nn.Module) -> TextTower:
    """Always an error: torchvision's models have no text side."""
    raise NoTextTowerError(
        f"model: {type(model).__name__} of torchvision has no text encoder; explain a class of it with"
        " captum_gradeclip.ClassScore"
    )


def _labels(classes: int) -> tuple[str, ...] | None:
    names: list[str] = ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"]
    return tuple(names) if len(names) == classes else None


def _tiny() -> nn.Module:
    from torchvision.models import VisionTransformer

    size = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 4, "hidden_dim": 48, "mlp_dim": 96}
    model: Foreign = VisionTransformer(**size, num_classes=VOCABULARY)
    nn.init.normal_(model.heads.head.weight, std=0.02)  # torchvision starts with zeros, whose gradient says nothing
    return model  # type: ignore[no-any-return]


FAMILIES = (Family("torchvision ViT", "VisionTransformer", _tiny, oblong=(48, 48), text=False, note="squares only"),)
