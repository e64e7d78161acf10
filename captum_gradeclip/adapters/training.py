"""What training mode does to a model: modules that are random, or that change themselves, are refused by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

from ..quoting import quoted
from .base import Foreign, parts

_SHARES = (
    "drop_prob",
    "drop_rate",
    "dropout",
    "dropout_p",
    "dropout_prob",
    "attention_dropout",
    "attn_dropout",
    "layerdrop",
)
"""Names under which modules of the libraries keep a share that training mode drops at random."""
_SHARES_OF_DROPS = ("p", "prob", "rate", "ratio")
"""Further names, which mean such a share only in a module whose class is called after it."""


def disturbance(model: nn.Module) -> str | None:
    """Names the first module that is random or changes itself in training mode, and is in it; ``None`` if none is.

    >>> disturbance(nn.BatchNorm1d(2))
    "BatchNorm1d '' is in training mode, which would change its running statistics"
    >>> disturbance(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    "Dropout '1' is in training mode, which drops values at random"
    >>> disturbance(nn.Dropout(0.1).eval()), disturbance(nn.Dropout(0.0))
    (None, None)
    """
    if not any(part.training for part in parts(model)):
        return None
    for name, module in model.named_modules():
        does = _does(module) if module.training else None
        if does:
            return f"{type(module).__name__} {quoted(name)} is in training mode, which {does}"
    return None


def _does(module: Foreign) -> str | None:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return "would change its running statistics" if module.track_running_stats else None
    hooks = getattr(module, "_forward_pre_hooks", {}).values()
    if isinstance(module, parametrizations._SpectralNorm) or any(isinstance(hook, SpectralNorm) for hook in hooks):
        return "would change its spectral norm"
    if isinstance(module, nn.RReLU) and module.lower != module.upper:
        return "draws its slopes at random"
    kind = type(module).__name__.lower()
    shares = [getattr(module, name, 0.0) for name in _SHARES]
    if "drop" in kind or "stochastic" in kind:
        shares += [getattr(module, name, 0.0) for name in _SHARES_OF_DROPS]
    if any(isinstance(share, (int, float)) and not isinstance(share, bool) and share > 0 for share in shares):
        return "drops patches at random" if "patch" in kind else "drops values at random"
    return None


def check_mode(model: nn.Module | None) -> None:
    """Refuses a model with a module that, in training mode, is random or changes itself; others are harmless.

    Args:
        model: the model; ``None`` where it is unknown, of which nothing can be said.

    Raises:
        ValueError: naming the module.

    >>> check_mode(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))
    Traceback (most recent call last):
    ValueError: model: Dropout '1' is in training mode, which drops values at random; call model.eval() first
    """
    found = None if model is None else disturbance(model)
    if found:
        raise ValueError(f"model: {found}; call model.eval() first")


def models_behind(function: Foreign) -> list[nn.Module]:
    """The modules that a callable is, is bound to, holds, or refers to by its closure, its defaults and global names.

    >>> model = nn.Linear(2, 2)
    >>> models_behind(model.forward) == models_behind(lambda x: model(x)) == [model]
    True
    """
    if isinstance(function, nn.Module):
        return [function]
    if isinstance(function, functools.partial):
        return [*models_behind(function.func), *_modules((*function.args, *function.keywords.values()))]
    function = getattr(function, "forward_func", function)
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return _modules((owner, *vars(owner).values())) if hasattr(owner, "__dict__") else []
    if inspect.isfunction(function):
        names = inspect.getclosurevars(function)
        defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        return _modules((*names.nonlocals.values(), *names.globals.values(), *defaults))
    return _modules(vars(function).values()) if hasattr(function, "__dict__") else []


def first_of_its_list(layer: nn.Module, models: Sequence[nn.Module]) -> nn.Module:
    """The first of the blocks among which a layer is or lies in, as far as the models show them; else the layer itself.

    >>> blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> first_of_its_list(blocks[1], [blocks]) is blocks[0]
    True
    """
    for model in models:
        for part in model.modules():
            blocks = list(part.children()) if isinstance(part, (nn.Sequential, nn.ModuleList)) else []
            for block in blocks:
                if any(inner is layer for inner in block.modules()) and type(block) is type(blocks[0]):
                    return blocks[0]
    return layer


def _modules(values: Iterable[object]) -> list[nn.Module]:
    return [value for value in values if isinstance(value, nn.Module)]


@contextmanager
def steady(models: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Context of a forward pass that must neither draw random numbers nor change the model.

    What modules tell of themselves is checked first (see :func:`disturbance`). Whatever else draws random numbers or writes
    to the buffers of a model in training mode has done so when it is seen; then both become what they were.

    Args:
        models: the models, as far as they are known.
        device: where the pass runs.

    Raises:
        ValueError: with what to do.

    >>> try:
    ...     with steady([], torch.device("cpu")):
    ...         noisy = nn.functional.dropout(torch.ones(2))
    ... except ValueError as error:
    ...     print(str(error)[:51])
    forward_func: the forward pass draws random numbers
    """
    trained = [model for model in models if any(part.training for part in parts(model))]
    for model in trained:
        check_mode(model)
    # Tensors that were made in inference mode have no version, and nothing may write to them either.
    known = [buffer for model in trained for buffer in model.buffers() if not buffer.is_inference()]
    buffers = [(buffer, buffer._version, buffer.detach().clone()) for buffer in known]
    state, cuda = torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    except RuntimeError as error:
        if "Inference tensors cannot be saved for backward" not in str(error):
            raise
        raise ValueError(
            "model: some of its tensors were made inside torch.inference_mode(), so nothing can be differentiated; make or"
            " load the model outside of it, or explain a copy, copy.deepcopy(model)"
        ) from error
    changed = [(buffer, copy) for buffer, version, copy in buffers if buffer._version != version]
    with torch.no_grad():
        for buffer, copy in changed:
            buffer.copy_(copy)
    if changed:
        raise ValueError("model: in training mode its forward pass changes its own buffers; call model.eval() first")
    drawn = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    if cuda is not None:
        drawn = drawn or not torch.equal(cuda, torch.cuda.get_rng_state(device))
        torch.cuda.set_rng_state(cuda, device)
    if drawn:
        raise ValueError(
            "forward_func: the forward pass draws random numbers, so that every map would be another one; call"
            " model.eval() first, or give the model what it draws (a fixed mask or noise, say)"
        )
