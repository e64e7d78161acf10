from collections.abc import Callable
from typing import TypeVar

_F = TypeVar("_F", bound=Callable[..., object])

def log_usage(*log_args: object, **log_kwargs: object) -> Callable[[_F], _F]: ...
