"""What decides the result of a fine-tuning, beside the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

from ..options import Options, number
from .region_loss import Comparison

Local = Literal["GradECLIP", "TokenGradCam", "MaskCLIP", "CLIPSelf", "none"]
TextTower = Literal["trained", "frozen"]
Precision = Literal["no", "fp16", "bf16"]


@dataclass(frozen=True)
class TuneSettings(Options):
    """The settings of :func:`tune`. What the paper does not state is a choice of ours, or of CLIPSelf's recipe.

    Attributes:
        local: what the loss of regions is made of: the maps of ``"GradECLIP"`` (default, the paper's), ``"TokenGradCam"``
            or ``"MaskCLIP"``; ``"CLIPSelf"`` for the rival's loss, which needs no captions; ``"none"`` for ordinary
            fine-tuning.
        steps: number of steps, at least 1 (default 1000).
        batch: pairs per step, over all processes and micro-batches, at least 2 (default 128).
        accumulation: number of micro-batches that a batch is cut into, whose gradients are averaged, at least 1 (default
            1). The losses compare the pairs of a micro-batch with each other.
        lr: highest learning rate, above 0 (default 1e-5).
        weight_decay: weight decay of AdamW for all but norms, biases and the logit scale, at least 0 (default 0.1).
        warmup: number of first steps over which the learning rate rises; it falls to 0 like a cosine then. ``None``
            (default) for a tenth of the steps, 1000 at most.
        clip: largest norm of the gradient, above 0 (default 1); ``None`` for any.
        precision: what the passes compute in, ``"no"`` (default) for single precision, ``"fp16"`` or ``"bf16"``.
        text: whether the text tower is ``"trained"`` (default) or ``"frozen"``.
        global_weight: factor on the contrastive loss of pictures and captions, at least 0 (default 1; CLIPSelf's own
            training has 0).
        local_weight: factor on the loss of regions, at least 0 (default 1).
        phrases: largest number of phrases of a caption, at least 1 (default 4).
        boxes: largest number of boxes of a picture, with CLIPSelf, at least 1 (default 4).
        comparison: how regions and phrases are compared, see :class:`RegionPhraseLoss`, and so are the next three.
        gamma: exponent of the focal loss (default 2).
        alpha: weight of positive pairs, with ``"sigmoid"`` (default 0.25).
        same_phrase: whether equal phrases are positives for each other (default True).
        seed: seed of the order of the data, of random transforms and of boxes (default 0).
        patience: how many steps without a finite loss may follow each other, at least 1 (default 10).

    >>> settings = TuneSettings(local="MaskCLIP", steps=200)
    >>> settings.local, settings.steps, settings.batch, settings.lr
    ('MaskCLIP', 200, 128, 1e-05)
    """

    local: Local = "GradECLIP"
    steps: int = number(1000, least=1)
    batch: int = number(128, least=2)
    accumulation: int = number(1, least=1)
    lr: float = number(1e-5, above=0)
    weight_decay: float = number(0.1, least=0)
    warmup: int | None = number(None, least=0)
    clip: float | None = number(1.0, above=0)
    precision: Precision = "no"
    text: TextTower = "trained"
    global_weight: float = number(1.0, least=0)
    local_weight: float = number(1.0, least=0)
    phrases: int = number(4, least=1)
    boxes: int = number(4, least=1)
    comparison: Comparison = "softmax"
    gamma: float = number(2.0, least=0)
    alpha: float = number(0.25, above=0, most=1)
    same_phrase: bool = True
    seed: int = number(0, least=0)
    patience: int = number(10, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch % self.accumulation:
            raise ValueError(f"accumulation: expected a divisor of the batch of {self.batch}, got {self.accumulation}")
        if not (self.global_weight or (self.local_weight and self.local != "none")):
            raise ValueError(
                "global_weight, local_weight: expected a loss with a weight above 0, or there is nothing to learn"
            )

    @property
    def needs_text(self) -> bool:
        """Whether captions are read at all."""
        return bool(self.global_weight) or self.local in ("GradECLIP", "TokenGradCam", "MaskCLIP")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0: it rises over the warm-up and falls like a cosine.

        >>> settings = TuneSettings(steps=100, lr=1.0, warmup=10)
        >>> [round(settings.rate(step), 3) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
        """
        warmup = min(1000, self.steps // 10) if self.warmup is None else self.warmup
        if step < warmup:
            return self.lr * (step + 1) / warmup
        return self.lr * 0.5 * (1 + cos(pi * (step - warmup) / max(1, self.steps - warmup)))
