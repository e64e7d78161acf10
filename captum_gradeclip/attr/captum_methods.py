"""Captum's own methods on the same scores, one value per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias, TypeVar

import captum.attr
import torch
from torch import Tensor, nn

from ..adapters.base import Foreign
from ..attention import SeeOutputs
from ..attention.hooks import own_hooks
from ..scores import ImageScore, ModelScore, Tokens
from .base import Evidence, Method, MethodInfo, NotDefinedError, Options, Request, Targets, number
from .registry import CAPTUM

Settings: TypeAlias = "dict[str, Foreign]"
_O = TypeVar("_O", bound=Options)


class CaptumMethod(Method[_O, Evidence]):
    """The base of Captum's methods: one call of Captum for each target.

    Args:
        forward_func: a score of images.
    """

    def observe(self, request: Request, options: _O) -> Evidence:
        """The scores of the images."""
        return Evidence(request, request.forward(), Tokens("patches", (*request.inputs.shape[-2:],)))

    def explain(self, evidence: Evidence, targets: Targets, options: _O) -> Tensor:
        """Captum's attribution for every target."""
        images = evidence.request.inputs.clone()  # Captum asks its inputs for a gradient
        with torch.enable_grad():
            maps = [self._attribute(evidence.request, images, index, options) for index in targets.index.tolist()]
        return torch.stack(maps).float().flatten(-2)

    def _attribute(self, request: Request, images: Tensor, target: list[int], options: _O) -> Tensor:
        """One map for each image, ``(N, h, w)``."""
        raise NotImplementedError


@dataclass(frozen=True)
class IntegratedGradientsOptions(Options):
    """The options of :class:`IntegratedGradients`.

    Attributes:
        n_steps: number of points on the way from black to the image, at least 1 (default 20).
        internal_batch_size: number of images in each forward pass, at least 1; ``None`` (default) stands for 16, or for the
            number of images if these are more.
    """

    n_steps: int = number(20, least=1)
    internal_batch_size: int | None = number(None, least=1)


@CAPTUM.register
class IntegratedGradients(CaptumMethod[IntegratedGradientsOptions]):
    """Captum's integrated gradients, summed over the channels.

    Args:
        forward_func: any callable of images that returns ``(N,)`` or ``(N, T)``.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> IntegratedGradients(score).attribute(torch.rand(1, 3, 32, 32), target=1, n_steps=2).shape
    torch.Size([1, 1, 32, 32])

    Source: Sundararajan, Taly, Yan: "Axiomatic Attribution for Deep Networks", ICML 2017, as Captum has it.
    """

    info = MethodInfo(
        "IntegratedGradients", "Sundararajan et al., ICML 2017, of Captum", convolutional=True, gradient=True, layers=0
    )
    Options = IntegratedGradientsOptions

    @classmethod
    def passes(cls, score: ModelScore, inputs: Tensor, targets: int, options: IntegratedGradientsOptions) -> float:
        """One for each point on the way, with its gradient."""
        return 1.0 + 3.0 * targets * options.n_steps

    def _attribute(self, request: Request, images: Tensor, target: list[int], options: IntegratedGradientsOptions) -> Tensor:
        size = options.internal_batch_size or max(16, len(images))
        method = captum.attr.IntegratedGradients(request.function)
        settings: Settings = {"n_steps": options.n_steps, "internal_batch_size": size}
        pixels: Tensor = method.attribute(images, None, target, request.arguments, **settings)
        return pixels.sum(dim=1)


@dataclass(frozen=True)
class LastConvolution(Evidence):
    """The last convolution that ran.

    Attributes:
        layer: the convolution.
    """

    layer: nn.Module


@dataclass(frozen=True)
class LayerGradCamOptions(Options):
    """The options of :class:`LayerGradCam`.

    Attributes:
        relu_attributions: whether only positive evidence is kept (default False, as in Captum).
    """

    relu_attributions: bool = False


@CAPTUM.register
class LayerGradCam(Method[LayerGradCamOptions, LastConvolution]):
    """Captum's Grad-CAM of the last convolution.

    Args:
        forward_func: a model or a score of images, in which a convolution is found.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> LayerGradCam(score).attribute(torch.rand(1, 3, 32, 32), target=1).shape  # the convolution that cuts patches
    torch.Size([1, 1, 4, 4])

    Source: Selvaraju et al.: "Grad-CAM", ICCV 2017, as Captum has it.
    """

    info = MethodInfo("LayerGradCam", "Selvaraju et al., ICCV 2017, of Captum", convolutional=True, gradient=True, layers=0)
    Options = LayerGradCamOptions

    def observe(self, request: Request, options: LayerGradCamOptions) -> LastConvolution:
        """The scores of the images, and the size of the last convolution's output."""
        seen: list[tuple[nn.Module, Sequence[int]]] = []

        def see(module: nn.Module, _: object, output: Tensor) -> None:
            seen.append((module, output.shape[-2:]))

        parts = [] if request.score.model is None else request.score.model.modules()
        output = request.forward(SeeOutputs([part for part in parts if isinstance(part, nn.Conv2d)], see))
        if not seen:
            unknown = request.score.model is None
            why = "a bare callable does not show its own; pass the model or a score" if unknown else "this model has none"
            raise NotDefinedError(f"layer: Captum's LayerGradCam needs a convolution, and {why}")
        layer, (height, width) = seen[-1]
        return LastConvolution(request, output, Tokens("patches", (height, width)), layer)

    def explain(self, evidence: LastConvolution, targets: Targets, options: LayerGradCamOptions) -> Tensor:
        """Captum's attribution for every target."""
        request = evidence.request
        method = captum.attr.LayerGradCam(request.function, evidence.layer)
        images = request.inputs.clone()
        settings: Settings = {"additional_forward_args": request.arguments, "relu_attributions": options.relu_attributions}
        with own_hooks(evidence.layer):
            maps = [method.attribute(images, target=index, **settings)[:, 0] for index in targets.index.tolist()]
        return torch.stack(maps).float().flatten(-2)


@dataclass(frozen=True)
class OcclusionOptions(Options):
    """The options of :class:`Occlusion`.

    Attributes:
        sliding_window_shapes: channels, height and width of the window; ``None`` (default) for two patches along each side.
        strides: steps of the window in these directions; ``None`` (default) for one patch along each side.
        perturbations_per_eval: number of windows in each forward pass, at least 1 (default 16).
    """

    sliding_window_shapes: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    perturbations_per_eval: int = number(16, least=1)


@CAPTUM.register
class Occlusion(CaptumMethod[OcclusionOptions]):
    """Captum's occlusion by windows of zeros; a pixel has the mean change of the score under the windows over it.

    Args:
        forward_func: a score of images of this package; or any callable that returns ``(N,)`` or ``(N, T)``, with
            ``sliding_window_shapes`` and ``strides``.

    >>> from captum_gradeclip import ImageTextScore, scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> score = ImageTextScore(model, ["a red circle", "two stars"], tokenizer)
    >>> Occlusion(score).attribute(torch.rand(1, 3, 32, 32), target=1).shape
    torch.Size([1, 1, 32, 32])

    Source: Zeiler, Fergus: "Visualizing and Understanding Convolutional Networks", ECCV 2014, as Captum has it.
    """

    info = MethodInfo("Occlusion", "Zeiler and Fergus, ECCV 2014, of Captum", convolutional=True, layers=0)
    Options = OcclusionOptions

    @classmethod
    def passes(cls, score: ModelScore, inputs: Tensor, targets: int, options: OcclusionOptions) -> float:
        """One for each place of the window, which is a patch further each time if nothing else was asked for."""
        strides = options.strides or (1, *[score.tower.patch if isinstance(score, ImageScore) else 1] * 2)
        return 1.0 + targets * prod(side / step for side, step in zip(inputs.shape[-2:], strides[-2:]))

    def _attribute(self, request: Request, images: Tensor, target: list[int], options: OcclusionOptions) -> Tensor:
        window, strides = options.sliding_window_shapes, options.strides
        if window is None or strides is None:
            request.content()  # which refuses a callable, whose patches nobody states
            assert isinstance(request.score, ImageScore)
            side, channels = request.score.tower.patch, images.shape[1]
            window, strides = window or (channels, 2 * side, 2 * side), strides or (channels, side, side)
        method = captum.attr.Occlusion(request.function)
        at_once: Settings = {"perturbations_per_eval": options.perturbations_per_eval}
        pixels: Tensor = method.attribute(images, tuple(window), tuple(strides), None, target, request.arguments, **at_once)
        # A window covers all channels, so each of them carries the whole change of the score.
        return pixels.mean(dim=1)
