"""A wall around loading: Python code that comes with a model is not run, and pickles are not trusted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ..quoting import quoted
from .base import Foreign

_LOCK = threading.RLock()
_PICKLES = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": None, "TRUST_REMOTE_CODE": None}
"""Variables by which torch and transformers decide whether to trust pickles, as they are while a model is loaded."""


class CodeRefusedError(RuntimeError):
    """A model wants Python code of its own to be run, and nobody allowed it."""


@contextmanager
def wall(trust_remote_code: bool) -> Iterator[None]:
    """Within it ``torch.load`` takes nothing but tensors, and transformers runs no code that comes with a model.

    It does not ask on the standard input either, where anything may be waiting.

    Each loader is told so by its own arguments as well. The wall is for the ways on which these arguments are lost: a text
    tower that open_clip has transformers build, a model inside another one, a loader that tries again with other settings.
    One thread is within it at a time, since some of what it sets belongs to the process; the calls of other threads to
    transformers are left alone.

    Args:
        trust_remote_code: whether the code of a model may be run; pickles are refused all the same.
    """
    with _LOCK:
        kept = {name: os.environ.get(name) for name in _PICKLES}
        try:
            _set(_PICKLES)
            if trust_remote_code:
                yield
            else:
                with _no_modules():
                    yield
        finally:
            _set(kept)


def refused_code(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that code would have to be run."""
    while error is not None:
        # The libraries of this kind have no class of errors for it, but all of them name the argument.
        if isinstance(error, CodeRefusedError) or "trust_remote_code" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def wish_for_code(settings: object) -> str | None:
    """What in the settings of a model, as JSON has them, has code run from elsewhere; ``None`` if nothing does.

    A class that transformers does not know is not among these, since the wall stops that.

    >>> wish_for_code({"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}})
    'trust_remote_code'
    >>> wish_for_code({"vision_config": [{"attn_implementation": "somebody/kernel"}]})
    "attn_implementation 'somebody/kernel'"
    """
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if name == "trust_remote_code" and value:
                return str(name)
            if str(name).endswith("_implementation") and "/" in str(value):
                return f"{name} {quoted(value)}"
    inner = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    return next((found for one in inner if (found := wish_for_code(one))), None)


@contextmanager
def _no_modules() -> Iterator[None]:
    from transformers import dynamic_module_utils

    modules: Foreign = dynamic_module_utils
    here, original, seconds = threading.get_ident(), modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE

    def refuse(class_name: str, *details: object, **settings: object) -> object:
        if threading.get_ident() == here:
            raise CodeRefusedError(f"the class {class_name} is in Python code that comes with the model")
        return original(class_name, *details, **settings)

    # This is the one function by which transformers runs such code, and the seconds for which it waits for an answer on the
    # standard input before that; with none it does not ask.
    try:
        modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE = refuse, 0
        yield
    finally:
        modules.get_class_in_module, modules.TIME_OUT_REMOTE_CODE = original, seconds


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
