"""The hub from which models come, asked once whether it can be reached, instead of again and again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .base import Foreign

_SECONDS = 5.0
"""How long an answer is waited for."""


@contextmanager
def hub() -> Iterator[bool]:
    """Context for loading something that may have to come from the hub; it gives whether the hub can be reached.

    If not, what was downloaded earlier is found all the same, and anything else is an error at once. By themselves, the
    libraries try each file six times, for half a minute.
    """
    import huggingface_hub
    from huggingface_hub import constants

    # The library publishes no types for what is set here.
    settings: Foreign = constants
    if settings.HF_HUB_OFFLINE:
        yield False
        return
    try:
        huggingface_hub.get_session().head(settings.ENDPOINT, timeout=_SECONDS)
    except Exception:  # each version of the library has other errors for it
        settings.HF_HUB_OFFLINE = True
        try:
            yield False
        finally:
            settings.HF_HUB_OFFLINE = False
    else:
        yield True


def is_out_of_reach(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a file is not on this machine and could not be asked for."""
    while error is not None:
        if type(error).__name__ in _OUT_OF_REACH:
            return True
        error = error.__cause__ or error.__context__
    return False


_OUT_OF_REACH = ("LocalEntryNotFoundError", "OfflineModeIsEnabled")
"""Errors of huggingface_hub, which has had them in different places."""
