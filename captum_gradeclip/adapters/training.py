"""What training mode does to a model, as far as its modules tell."""

from __future__ import annotations

from torch import nn

from .base import Foreign


def disturbance(model: nn.Module) -> str | None:
    """Names the first module that, in training mode, changes itself, mixes examples or drops tokens; ``None`` if none does.

    >>> disturbance(nn.BatchNorm1d(2))
    "BatchNorm1d '' is in training mode, which would change its running statistics"
    >>> disturbance(nn.BatchNorm1d(2).eval())
    """
    module: Foreign
    for name, module in model.named_modules():
        if not module.training:
            continue
        kind = f"{type(module).__name__} {name!r} is in training mode, which"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            return f"{kind} would change its running statistics"
        if type(module).__name__ == "PatchDropout" and getattr(module, "prob", 0) > 0:
            return f"{kind} drops patches at random"
    return None
