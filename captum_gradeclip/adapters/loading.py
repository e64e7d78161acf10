"""A model by its name: the embedded one, or one of open_clip, transformers (``hf:``) or timm (``timm:``)."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .tokenizers import Tokenizer

logger = logging.getLogger(__name__)
T = TypeVar("T")
NAMES = "scenes (embedded), an open_clip name, hf:NAME_OR_FOLDER, hf:CLASS for a default configuration, or timm:NAME"


class LoadingError(ValueError):
    """There is no such model or device, or the weights cannot be had or do not fit."""


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, with what prepares its inputs.

    Attributes:
        model: the model, on its device.
        tokenizer: the tokenizer of the model's own library; ``None`` for a classifier, and where none could be loaded.
        statistics: mean and standard deviation per channel with which the library's processor normalizes images;
            ``None`` where it has no processor, so that those of the model's image tower hold.
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def load(model: str = "scenes", pretrained: str | None = None, device: str | torch.device = "cpu") -> Loaded:
    """Loads a model by its name and puts it into evaluation mode.

    Args:
        model: ``"scenes"`` (default) for the embedded model; a name of open_clip; ``"hf:"`` with the name or folder of a
            model of transformers, or with one of its classes, which gives random weights in the default configuration of
            that class; ``"timm:"`` with a name of timm.
        pretrained: a tag or a file of weights, for the embedded model, open_clip and timm. With ``None`` (default), the
            embedded model has its own weights, and a model of open_clip or timm has random ones, which a warning says
            (unless the name of a timm model itself ends with a tag).
        device: a device of torch (default ``"cpu"``).

    Returns:
        The model with its tokenizer and its statistics of images.

    Raises:
        LoadingError: for an unknown name (close matches are listed), for weights that do not fit or cannot be had, and
            for a device that is not there.

    >>> type(load("scenes").model).__name__
    'CLIP'
    """
    place = find_device(device)
    library, _, rest = model.partition(":")
    if model == "scenes":
        loaded = _scenes(pretrained)
    elif library == "hf":
        loaded = _transformers(rest)
    elif library == "timm":
        loaded = _timm(rest, pretrained)
    else:
        loaded = _open_clip(model, pretrained)
    return Loaded(loaded.model.to(place).eval(), loaded.tokenizer, loaded.statistics)


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name, tried with an empty tensor.

    Args:
        device: a device of torch or its name, ``"cpu"`` or ``"cuda:1"`` for instance.

    Raises:
        LoadingError: if torch does not know the name, or cannot use the device on this machine.

    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise LoadingError(f"device: torch cannot use {str(device)!r} here: {first_line(error)}") from None
    return found


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message; where there are more, the second one and an ellipsis follow it.

    >>> first_line(ValueError("Error(s) in loading:\n  size mismatch\n  and a hundred lines"))
    'Error(s) in loading: size mismatch ...'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[1].strip()} ..."


def _scenes(pretrained: str | None) -> Loaded:
    from .. import scenes  # imports open_clip

    try:
        model, _, tokenizer = scenes.load(pretrained) if pretrained else scenes.load()
    except Exception as error:
        raise LoadingError(f"pretrained: {pretrained!r} does not fit the scenes model: {first_line(error)}") from error
    return Loaded(model, tokenizer)


def _open_clip(name: str, pretrained: str | None) -> Loaded:
    import open_clip

    known = open_clip.list_models()
    elsewhere = name.partition(":")[0] in ("hf-hub", "local-dir")
    name = name if elsewhere else name.replace("/", "-")
    if not elsewhere and name not in known:
        hint = _close(name, known) or "open_clip.list_models() lists all of them"
        raise LoadingError(f"model: open_clip has no model {name!r}; {hint}. A model is {NAMES}")
    quick_gelu = {}
    if pretrained is None and not elsewhere:
        logger.warning("no pretrained weights were asked for: %s has random ones", name)
    elif pretrained is not None and not Path(pretrained).exists():
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained not in tags:
            raise LoadingError(
                f"pretrained: {pretrained!r} is neither a file nor a tag of {name}; its tags: {', '.join(tags) or 'none'}"
            )
        # OpenAI's weights, and some others, were trained with another activation than the architecture's name says.
        quick_gelu["force_quick_gelu"] = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))
    try:
        model = open_clip.create_model(name, pretrained=pretrained, **quick_gelu)
    except Exception as error:
        raise LoadingError(
            f"pretrained: the weights {pretrained!r} of {name} could not be loaded: {first_line(error)}"
        ) from error
    return Loaded(model, _or_none(open_clip.get_tokenizer, name))


def _transformers(name: str) -> Loaded:
    import transformers

    if hasattr(transformers, name):
        logger.warning("hf:%s names a class: the model has random weights in the default configuration", name)
        kind = getattr(transformers, name)
        return Loaded(kind(kind.config_class()))
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        # The checkpoint names its class; where it does not, the library chooses one for its configuration.
        kinds = [getattr(transformers, one) for one in config.architectures or [] if hasattr(transformers, one)]
        model = (kinds[0] if kinds else transformers.AutoModel).from_pretrained(name)
    except Exception as error:
        raise LoadingError(
            f"model: transformers could not load {name!r}: {first_line(error)}; give a folder that holds the model, a name"
            " on its hub (with a network), or a class such as hf:CLIPModel for random weights"
        ) from error
    processor = _or_none(transformers.AutoImageProcessor.from_pretrained, name)
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    return Loaded(
        model,
        _or_none(transformers.AutoTokenizer.from_pretrained, name),
        (tuple(mean), tuple(std)) if mean and std else None,
    )


def _timm(name: str, pretrained: str | None) -> Loaded:
    import timm

    if not timm.is_model(name):
        hint = _close(name.partition(".")[0], timm.list_models()) or "timm.list_models() lists all of them"
        raise LoadingError(f"model: timm has no model {name!r}; {hint}")
    tagged, checkpoint = "." in name, None
    if pretrained is not None and Path(pretrained).exists():
        checkpoint, tagged = pretrained, False
    elif pretrained is not None:
        name, tagged = f"{name.partition('.')[0]}.{pretrained}", True
    elif not tagged:
        logger.warning("no pretrained weights were asked for: timm:%s has random ones", name)
    try:
        return Loaded(timm.create_model(name, pretrained=tagged, checkpoint_path=checkpoint))
    except Exception as error:
        raise LoadingError(f"pretrained: the weights of timm:{name} could not be loaded: {first_line(error)}") from error


def _or_none(get: Callable[[str], T], name: str) -> T | None:
    """A tokenizer or processor; ``None`` where none lies beside the weights, or where it would need a network."""
    try:
        return get(name)
    except Exception as error:
        logger.warning("no tokenizer or processor of %s could be loaded: %s", name, first_line(error))
        return None


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=5, cutoff=0.4)
    return f"did you mean {', '.join(close)}?" if close else ""
