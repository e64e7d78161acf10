"""Names that were others in the version before: each still works for one version, and says which name it has now."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping

from .quoting import quoted


def renamed(old: str, new: str, stacklevel: int = 3) -> None:
    """Warns of a name that has become another one, in the place of the caller who uses it."""
    warnings.warn(f"{old} is now {new}; the old name goes with the next version", DeprecationWarning, stacklevel=stacklevel)


def moved(old: str, new: str) -> None:
    """Warns at the import of a module that has another place by now; both are names below this package."""
    renamed(f"captum_gradeclip.{old}", f"captum_gradeclip.{new}", stacklevel=4)


def former_names(module: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of a module some of whose names were others before.

    Args:
        module: the ``__name__`` of the module.
        names: the present name of each former one.
    """

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {quoted(module)} has no attribute {quoted(name)}")
        renamed(f"{module}.{name}", f"{module}.{names[name]}")
        found: object = vars(sys.modules[module])[names[name]]
        return found

    return find
