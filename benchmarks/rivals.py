"""Other packages of explanations as contenders: each runs where it is installed and knows the model."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec

from rich.console import Console
from torch import Tensor

from captum_gradeclip import ImageTextScore

Call = Callable[[], object]
NAMES = {"pytorch-grad-cam": "pytorch_grad_cam", "torchcam": "torchcam", "LeGrad": "legrad", "exclip": "exclip"}
"""Packages by the names under which they are reported, with the names under which they are imported."""


def maps(score: ImageTextScore, images: Tensor, texts: int) -> dict[str, Call]:
    """The packages that make a map for each text, each a function that explains all texts for all images."""
    makers = {"pytorch-grad-cam": grad_cam, "torchcam": torchcam, "LeGrad": legrad}
    return running({name: lambda make=make: make(score, images, texts) for name, make in makers.items()})


def running(makers: dict[str, Callable[[], Call]]) -> dict[str, Call]:
    """Those of some contenders that are installed and run here; the others are named."""
    found = {}
    for name, make in makers.items():
        if find_spec(NAMES[name]) is None:
            say(f"{name} is not installed and left out")
            continue
        try:
            call = make()
            call()
        except Exception as error:
            say(f"{name} does not run here and is left out: {type(error).__name__}: {error}")
            continue
        found[name] = call
    return found


@cache
def say(what: str) -> None:
    """Says something on the error stream, once."""
    Console(stderr=True, soft_wrap=True).print(what, markup=False)


def on_grid(score: ImageTextScore, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Tokens ``(N, 1 + h * w, C)`` as the feature maps ``(N, C, h, w)`` that packages for convolutions know."""
    shape = score.grid(images)
    return lambda tokens: tokens[:, 1:].mT.unflatten(2, shape)


def grad_cam(score: ImageTextScore, images: Tensor, texts: int) -> Call:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    copied = copy.deepcopy(score)  # it leaves gradients behind
    cam = GradCAM(model=copied, target_layers=[copied.layers[-1].ln_1], reshape_transform=on_grid(score, images))
    targets = [[ClassifierOutputTarget(t)] * len(images) for t in range(texts)]
    return lambda: [cam(input_tensor=images, targets=one) for one in targets]


def torchcam(score: ImageTextScore, images: Tensor, texts: int) -> Call:
    from torchcam.methods import GradCAM

    copied = copy.deepcopy(score)  # its hooks stay
    cam = GradCAM(copied, copied.layers[-1].ln_1, reshape_transform=on_grid(score, images))

    def call() -> list[object]:
        scores = copied(images)
        return [cam(t, scores, retain_graph=t + 1 < texts) for t in range(texts)]

    return call


def legrad(score: ImageTextScore, images: Tensor, texts: int) -> Call:
    from legrad import LeWrapper

    with redirect_stdout(io.StringIO()):
        wrapped = LeWrapper(copy.deepcopy(score.model))  # it changes the model
    features = score.text_features[:texts]
    return lambda: [wrapped.compute_legrad(text_embedding=features, image=image[None]) for image in images]


def exclip(score: ImageTextScore, images: Tensor, tokens: Tensor) -> Call:
    """The tensor of words and patches of one image and its caption; the package takes one at a time."""
    from exclip import OpenClipExplainer

    model = copy.deepcopy(score.model)  # its hooks stay
    last = len(score.layers) - 1
    explainer = OpenClipExplainer(model, image_dim=images.shape[-1], device=images.device)
    pairs = list(zip(tokens[:, None], images[:, None]))
    return lambda: [explainer.explain(text, image, text_layer=last, image_layer=last) for text, image in pairs]
