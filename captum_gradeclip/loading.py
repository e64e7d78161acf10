"""A model by its name: the embedded one, or one of open_clip, transformers (``hf:``) or timm (``timm:``)."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import scenes

logger = logging.getLogger(__name__)
NAMES = "scenes (embedded), an open_clip name, hf:NAME_OR_FOLDER, hf:CLASS for a default configuration, or timm:NAME"


class LoadingError(ValueError):
    """There is no such model, or its weights cannot be had or do not fit."""


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode with what prepares its inputs.

    Attributes:
        model: on its device.
        tokenizer: the library's own; ``None`` for classifiers, or where it could not be loaded.
        statistics: mean and standard deviation of the images by the library's processor, if it has one.
    """

    model: nn.Module
    tokenizer: Any = None
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def load(name: str = "scenes", pretrained: str | None = None, device: str = "cpu") -> Loaded:
    """The model of a name.

    Args:
        name: ``scenes``; a name of open_clip; ``hf:`` and the name or folder of a model of transformers, or one of its
            classes for random weights in that class's default configuration; ``timm:`` and a name of timm.
        pretrained: a tag or file of weights for the embedded model, open_clip and timm; without one, models of open_clip
            and of timm (unless the name itself has a tag) get random weights, which is said in a warning.
        device: of torch.

    Raises:
        LoadingError: for an unknown name (close matches are listed), weights that do not fit or cannot be had, or a
            device that is not there.

    >>> type(load("scenes").model).__name__
    'CLIP'
    """
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise LoadingError(f"--device: cannot use {device!r}: {first_line(error)}") from None
    library, _, rest = name.partition(":")
    if name == "scenes":
        loaded = _scenes(pretrained)
    elif library == "hf":
        loaded = _transformers(rest)
    elif library == "timm":
        loaded = _timm(rest, pretrained)
    else:
        loaded = _open_clip(name, pretrained)
    return Loaded(loaded.model.to(place).eval(), loaded.tokenizer, loaded.statistics)


def first_line(error: BaseException) -> str:
    """The beginning of an error's message, without its traceback's worth of detail."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[1].strip()} ..."


def _scenes(pretrained: str | None) -> Loaded:
    try:
        model, _, tokenizer = scenes.load(pretrained) if pretrained else scenes.load()
    except Exception as error:
        raise LoadingError(f"--pretrained: {pretrained!r} does not fit the scenes model: {first_line(error)}") from error
    return Loaded(model, tokenizer)


def _open_clip(name: str, pretrained: str | None) -> Loaded:
    import open_clip

    known = open_clip.list_models()
    elsewhere = name.partition(":")[0] in ("hf-hub", "local-dir")
    name = name if elsewhere else name.replace("/", "-")
    if not elsewhere and name not in known:
        hint = _close(name, known) or "open_clip.list_models() lists all of them"
        raise LoadingError(f"--model: open_clip has no model {name!r}; {hint}. A model is {NAMES}")
    settings: dict[str, Any] = {}
    if pretrained is None and not elsewhere:
        logger.warning("--pretrained is not given: %s has random weights", name)
    elif pretrained is not None and not Path(pretrained).exists():
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained not in tags:
            raise LoadingError(
                f"--pretrained: {pretrained!r} is neither a file nor a tag of {name}; its tags: {', '.join(tags) or 'none'}"
            )
        # OpenAI's weights, and some others, were trained with another activation than the architecture's name says.
        settings["force_quick_gelu"] = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))
    try:
        model = open_clip.create_model(name, pretrained=pretrained, **settings)
    except Exception as error:
        raise LoadingError(
            f"--pretrained: the weights {pretrained!r} of {name} could not be loaded: {first_line(error)}"
        ) from error
    return Loaded(model, _or_none(open_clip.get_tokenizer, name))


def _transformers(name: str) -> Loaded:
    import transformers

    if hasattr(transformers, name):
        logger.warning("hf:%s names a class: random weights in its default configuration", name)
        kind = getattr(transformers, name)
        return Loaded(kind(kind.config_class()))
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        # The checkpoint names its class; where it does not, the library's choice for its configuration.
        kinds = [getattr(transformers, one) for one in config.architectures or [] if hasattr(transformers, one)]
        model = (kinds[0] if kinds else transformers.AutoModel).from_pretrained(name)
    except Exception as error:
        raise LoadingError(
            f"--model: transformers could not load {name!r}: {first_line(error)}; give a folder that holds the model, a name"
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
        raise LoadingError(f"--model: timm has no model {name!r}; {hint}")
    tagged = "." in name
    settings: dict[str, Any] = {"pretrained": tagged and pretrained is None}
    if pretrained is not None and Path(pretrained).exists():
        settings["checkpoint_path"] = pretrained
    elif pretrained is not None:
        name, settings["pretrained"] = f"{name.partition('.')[0]}.{pretrained}", True
    elif not tagged:
        logger.warning("--pretrained is not given: timm:%s has random weights", name)
    try:
        return Loaded(timm.create_model(name, **settings))
    except Exception as error:
        raise LoadingError(f"--pretrained: the weights of timm:{name} could not be loaded: {first_line(error)}") from error


def _or_none(get: Any, name: str) -> Any:
    """A tokenizer or processor, which may be missing beside the weights, or need a network."""
    try:
        return get(name)
    except Exception as error:
        logger.warning("no tokenizer or processor for %s: %s", name, first_line(error))
        return None


def _close(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    return f"did you mean {', '.join(close)}?" if close else ""
