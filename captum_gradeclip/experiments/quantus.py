"""Methods in the form in which Quantus takes them: an ``explain_func``, and attributions as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..attr import CAPTUM, InputSpaceAttribution, find_method
from ..attr.registry import Kind
from ..scores import ModelScore


def explain_func(method: str | Kind = "GradECLIP", **options: object) -> Callable[..., npt.NDArray[np.float32]]:
    """A function ``(model, inputs, targets)`` for Quantus' metrics, and for the ``a_batch`` that they are given.

    The model is a score module, :class:`~captum_gradeclip.ImageTextScore` or :class:`~captum_gradeclip.ClassScore`; each
    method explains the layers that it is meant for.

    Args:
        method: one of :data:`captum_gradeclip.METHODS`, as a class or by its name (default Grad-ECLIP).
        options: options of the method's ``attribute``.

    Returns:
        A function from images ``(N, 3, H, W)`` and targets ``(N,)``, arrays or tensors, to attributions ``(N, 1, H, W)``.

    Raises:
        ValueError: for an unknown method, or one of Captum's.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, _, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> explain_func("GAME")(score, np.zeros((2, 3, 64, 64), dtype=np.float32), np.array([0, 1])).shape
    (2, 1, 64, 64)
    """
    kind = find_method(method)
    if kind in CAPTUM:
        raise ValueError(f"method: Quantus knows Captum's {kind.__name__} itself; name one of captum_gradeclip.METHODS")

    def explain(
        model: ModelScore, inputs: npt.ArrayLike | Tensor, targets: npt.ArrayLike | Tensor, **_: object
    ) -> npt.NDArray[np.float32]:
        parameter = next(model.parameters())
        images = torch.as_tensor(inputs).to(parameter.device, parameter.dtype)
        columns = torch.as_tensor(targets).long().to(parameter.device)
        maps: Tensor = InputSpaceAttribution(kind.for_score(model)).attribute(images, target=columns, **options)
        # In the input's space they are shared out over the channels; Quantus wants one.
        array: npt.NDArray[np.float32] = maps.sum(dim=1, keepdim=True).detach().float().cpu().numpy()
        return array

    return explain
