"""A model by its name: the embedded one, or one of open_clip, transformers (``hf:``) or timm (``timm:``)."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from ..quoting import QuotingError, line, quoted
from .base import Foreign, Statistics
from .hub import hub, is_out_of_reach
from .tokenizers import Tokenizer
from .wall import refused_code, wall, wish_for_code

__all__ = ["NAMES", "Loaded", "LoadingError", "find_device", "load"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
_FOLDERS = ("hf-hub", "local-dir")  # how open_clip calls what has its own weights
NAMES = (
    "scenes (embedded), an open_clip name, local-dir:FOLDER of open_clip, hf:NAME_OR_FOLDER of transformers, hf:CLASS for a"
    " default configuration, or timm:NAME"
)
"""How models are named, as help texts say it."""


class LoadingError(QuotingError):
    """There is no such model or device, or the weights cannot be had or do not fit."""


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, with what prepares its inputs.

    Attributes:
        model: the model, on its device.
        tokenizer: the tokenizer of the model's own library; ``None`` for a classifier, and where none could be loaded.
        statistics: mean and standard deviation per channel with which the library's processor normalizes images;
            ``None`` where it has no processor, so that those of the model's image tower hold.
        processor: the image processor of transformers that lies beside the weights; ``None`` where there is none.

    >>> loaded = load("scenes")
    >>> loaded.tokenizer(["a red circle"]).shape, loaded.statistics
    (torch.Size([1, 24]), None)
    """

    model: nn.Module
    tokenizer: Tokenizer | None = None
    statistics: Statistics | None = None
    processor: Foreign = None


def load(
    model: str = "scenes",
    pretrained: str | None = None,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> Loaded:
    """Loads a model by its name and puts it into evaluation mode.

    Pickles are read as tensors only, and refused if they hold anything else. A model is refused if weights are missing in
    its folder or file, since these would be random.

    Args:
        model: ``"scenes"`` (default) for the embedded model; a name of open_clip; ``"hf:"`` with the name or folder of a
            model of transformers, or with one of its classes, which gives random weights in the default configuration of
            that class; ``"timm:"`` with a name of timm.
        pretrained: a tag or a file of weights, for the embedded model, open_clip and timm. With ``None`` (default), the
            embedded model has its own weights, and a model of open_clip or timm has random ones, which a warning says
            (unless the name of a timm model itself ends with a tag). A folder or a name on a hub has its own weights.
        device: a device of torch (default ``"cpu"``).
        trust_remote_code: whether Python code that comes with a folder or a name on a hub may be run (default false: a model
            that needs it is refused). Allow it only if you trust whoever wrote that code, since it can do all that you can.

    Returns:
        The model with its tokenizer and its statistics of images.

    Raises:
        LoadingError: for an unknown name (close matches are listed), for weights that do not fit, are missing or cannot be
            had, for a model that needs code of its own, and for a device that is not there.

    >>> type(load("scenes").model).__name__
    'CLIP'
    """
    place = find_device(device)
    library, _, rest = model.partition(":")
    if pretrained is not None and library in ("hf", *_FOLDERS):
        raise LoadingError(f"pretrained: {quoted(model)} has its own weights; leave this argument out")
    if model == "scenes":
        loaded = _scenes(pretrained)
    else:
        with hub() if _needs_hub(model, pretrained) else nullcontext():
            if library == "timm":
                loaded = _timm(rest, pretrained)
            else:
                with wall(trust_remote_code):
                    if library == "hf":
                        loaded = _transformers(rest, trust_remote_code)
                    else:
                        loaded = _open_clip(model, pretrained, trust_remote_code)
    try:
        return replace(loaded, model=loaded.model.to(place).eval())
    except (RuntimeError, TypeError) as error:  # TypeError: no float64 on some devices
        raise LoadingError(
            f"device: {quoted(model)} cannot be moved to {quoted(str(device))}: {first_line(error)}"
        ) from error


def find_device(device: str | torch.device) -> torch.device:
    """The device of a name, on which one and one is found to be two.

    Args:
        device: a device of torch or its name, ``"cpu"`` or ``"cuda:1"`` for instance; ``"auto"`` for a GPU if torch can use
            one here, and else for the CPU.

    Returns:
        The device, which has computed a sum.

    Raises:
        LoadingError: if torch does not know the name, or cannot use the device on this machine.

    >>> find_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
        computes = torch.ones(1, device=found).add(1).item() == 2  # which "meta" does not: it has shapes, and no numbers
    except Exception as error:  # each kind of device has its own way of not being there
        raise LoadingError(f"device: torch cannot use {quoted(str(device))} here: {first_line(error)}") from None
    if not computes:
        raise LoadingError(f"device: torch cannot use {quoted(str(device))} here: it computes wrong numbers")
    return found


def first_line(error: BaseException) -> str:
    r"""The first line of an error's message; where there are more, the second one and an ellipsis follow it.

    >>> first_line(ValueError("Error(s) in loading:\n  size mismatch\n  and a hundred lines"))
    'Error(s) in loading: size mismatch ...'
    """
    lines = [line(one.strip(), 300) for one in str(error).splitlines() if one.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[1]} ..."


def _needs_hub(model: str, pretrained: str | None) -> bool:
    """Whether a part of a model may have to come from the hub: its weights, or its tokenizer."""
    library, _, rest = model.partition(":")
    tagged = pretrained is not None and not os.path.isfile(pretrained)
    if library == "hf":
        return not os.path.isdir(rest) and _model_class(rest) is None
    if library == "timm":
        return tagged or ("." in rest and pretrained is None)
    if library == "hf-hub" or tagged:
        return True
    import open_clip

    try:
        text = (open_clip.factory.get_model_config(model) or {}).get("text_cfg") or {}
    except Exception:  # the loader tells what is wrong with it
        return False
    return any(text.get(name) for name in ("hf_tokenizer_name", "hf_model_name"))


def _scenes(pretrained: str | None) -> Loaded:
    from .. import scenes  # imports open_clip

    try:
        model, _, tokenizer = scenes.load(pretrained) if pretrained else scenes.load()
    except Exception as error:
        raise LoadingError(f"pretrained: {quoted(pretrained)} does not fit the scenes model: {first_line(error)}") from error
    return Loaded(model, tokenizer)


def _open_clip(name: str, pretrained: str | None, trust: bool) -> Loaded:
    import open_clip

    known = open_clip.list_models()
    elsewhere = name.partition(":")[0] in _FOLDERS
    given, name = name, name if elsewhere else name.replace("/", "-")
    if not elsewhere and name not in known:
        hint = _meant(given) or _close(name, known) or "open_clip.list_models() lists all of them"
        end = "" if hint.endswith("?") else "."
        raise LoadingError(f"model: open_clip has no model {quoted(name)}; {hint}{end} A model is {NAMES}")
    settings: dict[str, bool] = {"require_pretrained": True} if elsewhere else {}
    if pretrained is None and not elsewhere:
        logger.warning("no pretrained weights were asked for: %s has random ones", line(name))
    elif pretrained is not None and not os.path.isfile(pretrained):
        tags = open_clip.list_pretrained_tags_by_model(name)
        if pretrained not in tags:
            listed = ", ".join(tags) or "none"
            raise LoadingError(f"pretrained: {quoted(pretrained)} is neither a file nor a tag of {name}; its tags: {listed}")
        # OpenAI's weights, and some others, were trained with another activation than the architecture's name says.
        settings["force_quick_gelu"] = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))
    try:
        config = open_clip.factory.get_model_config(name) or {}
        text = config.get("text_cfg") or {}
        _refuse_wishes(name, config, trust)
        if "hf_model_name" in text:
            _refuse_wishes(name, _transformers_settings(text["hf_model_name"]), trust)
        with _quiet():
            model = open_clip.create_model(name, pretrained=pretrained, **settings)
    except Exception as error:
        if isinstance(error, LoadingError):
            raise
        if refused_code(error):
            raise _refusal(name, first_line(error)) from error
        what = f"pretrained: the weights {quoted(pretrained)} of {name}" if pretrained else f"model: {quoted(name)}"
        raise LoadingError(f"{what} could not be loaded: {_reason(error)}") from error
    # What the folder says about trust is not what the user says.
    own = {"trust_remote_code": trust} if text.get("hf_tokenizer_name") else {}
    return Loaded(model, _or_none(partial(open_clip.get_tokenizer, **own), name))


def _transformers(name: str, trust: bool) -> Loaded:
    import transformers

    kind = _model_class(name)
    if kind is not None and not os.path.isfile(os.path.join(name, "config.json")):
        logger.warning("hf:%s names a class: the model has random weights in the default configuration", line(name))
        try:
            return Loaded(kind(_random(kind.config_class())))
        except Exception as error:
            raise LoadingError(f"model: {name} has no default configuration: {first_line(error)}; give a folder") from error
    try:
        _refuse_wishes(name, _transformers_settings(name), trust)
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=trust)
        # The checkpoint names its class; where it does not, the library chooses one for its configuration.
        kinds = [found for one in config.architectures or [] if (found := _model_class(str(one)))]
        model, info = (kinds[0] if kinds else transformers.AutoModel).from_pretrained(
            name, output_loading_info=True, trust_remote_code=trust
        )
    except Exception as error:
        if isinstance(error, LoadingError):
            raise
        if refused_code(error):
            raise _refusal(name, first_line(error)) from error
        raise LoadingError(
            f"model: transformers could not load {quoted(name)}: {_reason(error)}; give a folder that holds the model, a"
            " name on its hub (with a network), or a class such as hf:CLIPModel for random weights"
        ) from error
    random = [*info["missing_keys"], *(one[0] if isinstance(one, tuple) else one for one in info["mismatched_keys"])]
    if random:
        raise LoadingError(
            f"model: {quoted(name)} lacks {len(random)} of the weights of {type(model).__name__}, which would be random:"
            f" {_some(random)}"
        )
    if info["unexpected_keys"]:
        extra = info["unexpected_keys"]
        logger.warning(
            "%s has no place for %d weights of hf:%s: %s", type(model).__name__, len(extra), line(name), _some(extra)
        )
    processor = _or_none(partial(transformers.AutoImageProcessor.from_pretrained, trust_remote_code=trust), name)
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    return Loaded(
        model,
        _or_none(partial(transformers.AutoTokenizer.from_pretrained, trust_remote_code=trust), name),
        (tuple(mean), tuple(std)) if mean and std else None,
        processor,
    )


def _random(config: Foreign) -> Foreign:
    """A configuration whose random weights are large enough to do something.

    That of BLIP's image side is next to 0, with which attention is the same everywhere and no head makes a difference.
    """
    parts: tuple[Foreign, ...] = (config, getattr(config, "vision_config", None), getattr(config, "text_config", None))
    for part in parts:
        if getattr(part, "initializer_range", 1.0) < 1e-3:
            part.initializer_range = 0.02
    return config


def _model_class(name: str) -> Foreign:
    """A class of models of transformers; ``None`` for a name of anything else that the library has, or of nothing."""
    import transformers

    try:
        found = getattr(transformers, name, None)
    except Exception:  # the library imports what is asked for, and what that needs may not be installed
        return None
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        return None
    # The base class of a family has its configuration, and nothing in it.
    return None if found.config_class is None or name.endswith("PreTrainedModel") else found


def _timm(name: str, pretrained: str | None) -> Loaded:
    import timm

    if not timm.is_model(name):
        hint = _close(name.partition(".")[0], timm.list_models()) or "timm.list_models() lists all of them"
        raise LoadingError(f"model: timm has no model {quoted(name)}; {hint}")
    tagged, checkpoint = "." in name, None
    if pretrained is not None and os.path.isfile(pretrained):
        checkpoint, tagged = pretrained, False
    elif pretrained is not None:
        name, tagged = f"{name.partition('.')[0]}.{pretrained}", True
    elif not tagged:
        logger.warning("no pretrained weights were asked for: timm:%s has random ones", line(name))
    try:
        with wall(trust_remote_code=False):
            return Loaded(timm.create_model(name, pretrained=tagged, checkpoint_path=checkpoint))
    except Exception as error:
        raise LoadingError(
            f"pretrained: the weights of {quoted(f'timm:{name}')} could not be loaded: {_reason(error)}"
        ) from error


def _or_none(get: Callable[[str], T], name: str) -> T | None:
    """A tokenizer or processor; ``None`` where none lies beside the weights, or where it would need a network.

    Raises:
        LoadingError: where it needs code to be run.
    """
    try:
        return get(name)
    except Exception as error:
        if refused_code(error):
            raise _refusal(name, first_line(error)) from error
        logger.warning("no tokenizer or processor of %s could be loaded: %s", line(name), _reason(error))
        return None


def _transformers_settings(name: str) -> Foreign:
    """The configuration of a model of transformers, as it is written."""
    from transformers import PretrainedConfig

    return PretrainedConfig.get_config_dict(name)[0]


def _refuse_wishes(name: str, settings: object, trust: bool) -> None:
    wish = wish_for_code(settings)
    if wish and not trust:
        raise _refusal(name, wish)


def _refusal(name: str, wish: str) -> LoadingError:
    return LoadingError(
        f"trust_remote_code: {quoted(name)} wants Python code to be run that comes with it ({wish}); allow that only if you"
        " trust whoever wrote it"
    )


def _reason(error: Exception) -> str:
    """Why something could not be loaded, in a line."""
    if is_out_of_reach(error):
        return "it is not on this machine, and the hub cannot be reached"
    return first_line(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Context in which open_clip does not log what is said here as well: that weights are random, or could not be had."""

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "initialized randomly" not in message and not message.startswith("Failed to download weights")

    root = logging.getLogger()
    root.addFilter(is_new)
    try:
        yield
    finally:
        root.removeFilter(is_new)


def _meant(name: str) -> str:
    """How a folder, a file or a name on a hub is given in place of a name of open_clip; empty if it is none of these."""
    if os.path.isdir(name):
        own = os.path.isfile(os.path.join(name, "open_clip_config.json"))
        return f"the folder of that name is given as model={quoted(f'local-dir:{name}' if own else f'hf:{name}')}"
    if os.path.isfile(name):
        return f"a file of weights is given as pretrained={quoted(name)}, and model names its architecture"
    owner, slash, rest = name.partition("/")
    if owner and slash and rest and "/" not in rest and not name.startswith("."):
        ways = quoted(f"hf:{name}"), quoted(f"hf-hub:{name}")
        return (
            f"a model on the hub is given as model={ways[0]} if it is one of transformers, as model={ways[1]} of open_clip"
        )
    return ""


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(map(line, found[:3])) + (", ..." if len(found) > 3 else "")


def _close(name: str, known: Iterable[str]) -> str:
    """A question for the names that are spelled much alike, whatever their case; empty if there are none."""
    there = {one.lower(): one for one in known}
    close = [there[one] for one in difflib.get_close_matches(name.lower(), list(there), n=5, cutoff=0.4)]
    return f"did you mean {', '.join(close)}?" if close else ""
