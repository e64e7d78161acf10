"""Our methods as Quantus wants them: an ``explain_func``, and attributions as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .attr.comparison import find_method
from .attr.input_space import InputSpaceAttribution
from .attr.rise import RISE


def explain_func(method: str | type[Any] = "Grad-ECLIP", **options: Any) -> Callable[..., npt.NDArray[np.float32]]:
    """A function ``(model, inputs, targets)`` for Quantus' metrics, and for the ``a_batch`` that they are given.

    The model is a score module, :class:`~captum_gradeclip.ImageTextScore` or :class:`~captum_gradeclip.ClassScore`; each
    method runs on the layers that it is meant for.

    Args:
        method: of :data:`captum_gradeclip.METHODS`, as a class or by name.
        options: of its ``attribute``.

    Returns:
        Images ``(N, 3, H, W)`` and targets ``(N,)``, arrays or tensors, to attributions ``(N, 1, H, W)``.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, _, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> explain_func("GAME")(score, np.zeros((2, 3, 64, 64), dtype=np.float32), np.array([0, 1])).shape
    (2, 1, 64, 64)
    """
    kind = find_method(method)
    if isinstance(kind, str):
        raise ValueError(f"method: Quantus knows Captum's {kind} itself; name one of captum_gradeclip.METHODS")

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> npt.NDArray[np.float32]:
        parameter = next(model.parameters())
        images = torch.as_tensor(inputs).to(parameter.device, parameter.dtype)
        columns = torch.as_tensor(targets).long().to(parameter.device)
        explainer = kind(model) if kind is RISE else InputSpaceAttribution(kind(model, kind.default_layers(model)))
        maps = explainer.attribute(images, target=columns, **options)
        # Shared out over the channels in the input's space; Quantus wants one.
        one = maps if kind is RISE else maps.sum(dim=1, keepdim=True)
        return one.detach().float().cpu().numpy()  # type: ignore[no-any-return]

    return explain
