"""The number that is explained: how well images and texts match, as forward functions for Captum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import adapters

Tokenizer = Callable[[list[str]], Any]
_CHUNK = 256


class _ImageScore(nn.Module):
    """What the scores of images share: the model, and the facts of its image tower."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        adapters.image_tower(model)
        self.model = model
        self.training = model.training  # a wrapper of a model in evaluation mode is in evaluation mode

    @property
    def layers(self) -> list[nn.Module]:
        """Attention layers of the image tower in order; the paper explains the last one, ``layers[-1:]``."""
        return list(adapters.image_tower(self.model).layers)

    def features(self, images: Tensor) -> Tensor:
        """What the image tower makes of the images, ``(N, D)``, not normalised; of a classifier, its logits."""
        tower = adapters.image_tower(self.model)
        return tower.encode(images.to(tower.dtype))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of the images."""
        patch = adapters.image_tower(self.model).patch
        return images.shape[-2] // patch, images.shape[-1] // patch

    @property
    def alone(self) -> bool:
        """Whether the rest of the model behind its last attention can run on the first token alone."""
        return adapters.image_tower(self.model).alone

    @property
    def pooled(self) -> bool:
        """Whether the only attention is a pool over convolutions."""
        return len(self.layers) == 1 and not self.alone

    @property
    def reads_first_token(self) -> bool:
        """Whether the score reads the first token that the last block hands on, and treats each token on its own there."""
        return adapters.image_tower(self.model).readout is not None and not self.pooled

    @property
    def reads_pool(self) -> bool:
        """Whether the score reads an attention pool behind the blocks, the last of the layers."""
        return adapters.image_tower(self.model).pool

    def readout(self, images: Tensor) -> Tensor | None:
        """The token that the score reads in each image ``(N,)``, or ``None`` where it reads several."""
        rows = adapters.image_tower(self.model).readout
        return None if rows is None else rows(images)


class ImageTextScore(_ImageScore):
    r"""Cosines of images with prompts that are bound in the module: explain *images*, ``target`` is the prompt's index.

    .. math:: S_{nt} = \frac{\langle f_n, g_t \rangle}{|f_n| |g_t|}

    Args:
        model: a model that an adapter knows; used as it is and never changed.
        text: prompts as token ids ``(T, L)``, as features ``(T, D)``, or as strings together with ``tokenizer``. They are
            bound here since Captum's NoiseTunnel and metrics would repeat a tensor among the additional arguments.
        tokenizer: of open_clip or transformers; needed for strings only.

    Raises:
        TypeError: for strings without a tokenizer, or a text of another kind.
        ValueError: for an empty text, one longer than the model's context, or features of another width.
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> score(torch.zeros(3, 3, 64, 96)).shape
    torch.Size([3, 2])
    """

    text_features: Tensor
    _empty: Tensor | None

    def __init__(self, model: nn.Module, text: Tensor | str | Sequence[str], tokenizer: Tokenizer | None = None) -> None:
        super().__init__(model)
        tower = adapters.image_tower(model)
        if isinstance(text, Tensor):
            text = text.to(_device(model))
        if isinstance(text, Tensor) and text.is_floating_point():
            features = text
            if text.dim() != 2 or text.shape[1] != tower.width:
                raise ValueError(f"text: expected features (T, {tower.width}), got shape {tuple(text.shape)}")
        elif isinstance(text, Tensor):
            features = _encode_text(model, text)
        else:
            features = _encode_text(model, tokenize(model, text, tokenizer))
        self.register_buffer("text_features", _unit(features, "text"))
        self.register_buffer("_empty", None, persistent=False)
        self._tokenizer = tokenizer

    @property
    def empty_features(self) -> Tensor:
        """Unit features ``(1, D)`` of a text without words, encoded once.

        Raises:
            ValueError: where the marks around a text are known to the model's tokenizer only, and none was given.
        """
        if self._empty is None:
            known = self._tokenizer is not None
            tokens = tokenize(self.model, "", self._tokenizer, allow_empty=True) if known else empty_text(self.model)
            self._empty = encode_text(self.model, tokens)
        return self._empty

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` of any size that is a multiple of the patch, to cosines ``(N, T)``."""
        return _cosines(self.features(images), self.text_features)


class ClassScore(_ImageScore):
    """Logits of an image classifier of timm, transformers or torchvision: ``target`` is the class.

    The same as the classifier itself, but it takes images of any size (positions are interpolated on a view; the model
    stays as it is), always returns a tensor, and knows its layers.

    Args:
        model: a classifier that an adapter knows; used as it is and never changed.

    Raises:
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import adapters
    >>> model = adapters.families()["timm ViT"].build().eval()
    >>> ClassScore(model)(torch.zeros(2, 3, 40, 24)).shape
    torch.Size([2, 50])
    """

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, if the model carries them."""
        return adapters.image_tower(self.model).labels()

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` to logits ``(N, classes)``, in single precision at least."""
        return _wide(self.features(images))


class TextImageScore(nn.Module):
    """Cosines of texts with images that are bound in the module: explain *words*, ``target`` is the image's index.

    Args:
        model: a model that an adapter knows; used as it is and never changed.
        images: ``(M, 3, H, W)`` of any size that is a multiple of the patch, or their features ``(M, D)``.

    Raises:
        ValueError: for images that are not finite, or features of another width.
        UnsupportedModelError: if no adapter knows the model.

    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> TextImageScore(model, torch.zeros(2, 3, 64, 64))(tokenizer(["a red circle", "two stars", "something"])).shape
    torch.Size([3, 2])
    """

    image_features: Tensor

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        tower = adapters.text_tower(model)
        self.model = model
        self.training = model.training
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = getattr(images, "dtype", type(images).__name__)
            raise TypeError(f"images: expected a floating point tensor, got {kind}")
        if not torch.isfinite(images).all():
            raise ValueError("images: they hold NaN or infinite values")
        images = images.to(_device(model))
        if images.dim() == 2:
            features = images
            if images.shape[1] != tower.width:
                raise ValueError(f"images: expected features (M, {tower.width}), got shape {tuple(images.shape)}")
        else:
            check_mode(model)
            encoder = adapters.image_tower(model)
            with torch.inference_mode(False), torch.no_grad():
                features = torch.cat([encoder.encode(part.to(encoder.dtype)) for part in images.split(_CHUNK)])
        self.register_buffer("image_features", _unit(features, "images"))

    @property
    def layers(self) -> list[nn.Module]:
        """Attention layers of the text tower in order; the paper explains the last eight, ``layers[-8:]``."""
        return list(adapters.text_tower(self.model).layers)

    def readout(self, tokens: Tensor) -> Tensor | None:
        """The token that the score reads in each text ``(N,)``, or ``None`` where all are averaged."""
        rows = adapters.text_tower(self.model).readout
        return None if rows is None else rows(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids ``(N, L)`` to cosines ``(N, M)``."""
        return self.compare(adapters.text_tower(self.model).encode(tokens))

    def compare(self, features: Tensor) -> Tensor:
        """Features of texts ``(N, D)``, not normalised, to cosines ``(N, M)``."""
        return _cosines(features, self.image_features)


def check_mode(model: Any) -> None:
    """Refuses a model in training mode where that changes the model, or mixes examples, or drops tokens.

    Raises:
        ValueError: naming the module.
    """
    if not isinstance(model, nn.Module):
        return
    for name, module in model.named_modules():
        if not module.training:
            continue
        statistics = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        if statistics or (type(module).__name__ == "PatchDropout" and getattr(module, "prob", 0) > 0):
            raise ValueError(
                f"model: {type(module).__name__} {name!r} is in training mode, which "
                + ("would change its running statistics" if statistics else "drops patches at random")
                + "; call model.eval() first"
            )


def empty_text(model: nn.Module) -> Tensor:
    """Token ids ``(1, L)`` of a text without words.

    Raises:
        ValueError: where the marks around a text are not known without its tokenizer.

    >>> from captum_gradeclip import scenes
    >>> model, _, tokenizer = scenes.load()
    >>> torch.equal(empty_text(model), tokenizer([""]))
    True
    """
    tower = adapters.text_tower(model)
    if tower.start is None or tower.end is None:
        raise ValueError(
            "text: the marks around a text of this model are only known to its tokenizer; pass the features of an empty text"
        )
    length = tower.context_length if tower.pad else 2
    return torch.tensor([[tower.start, tower.end] + [0] * (length - 2)], device=_device(model))


def encode_text(model: nn.Module, tokens: Tensor, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Unit features ``(T, D)`` of token ids ``(T, L)``, without a graph; by another encoder than the model's, if given."""
    return _unit(_encode_text(model, tokens, encode), "text")


def tokenize(model: nn.Module, text: str | Sequence[str], tokenizer: Tokenizer | None, allow_empty: bool = False) -> Tensor:
    """Strings to token ids ``(T, L)``, refused where the tokenizer would silently cut them.

    Raises:
        TypeError: without a tokenizer, or for anything but strings.
        ValueError: for no text, an empty one (unless that is allowed), or one longer than the model's context.
    """
    texts = [text] if isinstance(text, str) else list(text)
    if tokenizer is None:
        raise TypeError("tokenizer: needed to turn strings into token ids; pass the model's own, or token ids as text")
    if not texts:
        raise ValueError("text: expected at least one prompt, got none")
    tower = adapters.text_tower(model)
    limit = tower.context_length
    for one in texts:
        if not isinstance(one, str):
            raise TypeError(f"text: expected strings, token ids or features, got a list of {type(one).__name__}")
        if not one.strip() and not allow_empty:
            raise ValueError(f"text: expected words, got {one!r}")
        length = _count(tokenizer, one)
        if length is not None and length > limit:
            raise ValueError(f"text: {length} tokens with its marks, but the model reads {limit}; shorten {one!r}")
    if _is_transformers(tokenizer):
        encoding: Any = tokenizer
        padding = "max_length" if tower.pad else "longest"
        tokens: Tensor = encoding(texts, padding=padding, max_length=limit, return_tensors="pt")["input_ids"]
    else:
        tokens = tokenizer(texts)
    return tokens.to(_device(model))


def _count(tokenizer: Any, text: str) -> int | None:
    """Number of tokens of an uncut text, marks included, as far as the tokenizer can tell."""
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip wraps those of transformers
    if _is_transformers(inner):
        return len(inner(text)["input_ids"])
    return len(tokenizer.encode(text)) + 2 if hasattr(tokenizer, "encode") else None


def _is_transformers(tokenizer: Any) -> bool:
    return hasattr(tokenizer, "all_special_ids") and callable(getattr(tokenizer, "pad", None))


def _device(model: nn.Module) -> torch.device:
    # Weights that accelerate keeps elsewhere come to the device of its hooks for each forward pass.
    hooks = (getattr(part, "_hf_hook", None) for part in model.modules())
    dispatched = next((device for hook in hooks if (device := getattr(hook, "execution_device", None)) is not None), None)
    return next(model.parameters()).device if dispatched is None else torch.device(dispatched)


def _encode_text(model: nn.Module, tokens: Tensor, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    if tokens.dim() != 2 or tokens.dtype == torch.bool:
        raise ValueError(f"text: expected token ids (T, L), got {tokens.dtype} of shape {tuple(tokens.shape)}")
    encode = encode or adapters.text_tower(model).encode
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat([encode(part.clone()) for part in tokens.split(_CHUNK)])


def _unit(features: Tensor, name: str) -> Tensor:
    if len(features) == 0 or not torch.isfinite(features).all():
        raise ValueError(f"{name}: expected at least one feature vector, all finite, got shape {tuple(features.shape)}")
    # A copy without a graph, usable behind inference mode, on which nothing outside has a hold.
    with torch.inference_mode(False):
        return F.normalize(_wide(features.detach().clone()), dim=-1)


def _cosines(features: Tensor, others: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        features = F.normalize(_wide(features), dim=-1)
        return features @ others.to(features.dtype).T


def _wide(x: Tensor) -> Tensor:
    """At least single precision: the gradient of a cosine vanishes in half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
