"""The objective of fine-tuning: from a batch to its losses."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .. import adapters
from ..adapters.base import execution_device
from ..scores import ImageScore
from ..scores.base import unit
from .batches import Batch
from .clipself import CLIPSelfLoss, crops
from .global_loss import GlobalContrastiveLoss
from .image_pass import ImagePass, ImageReader
from .region_loss import RegionPhraseLoss
from .regions import box_features, weighted
from .settings import TuneSettings


class Objective(nn.Module):
    """A model with the losses that train it.

    The model stays in evaluation mode, so that its maps, its dense features and its features belong to one and the same
    network; models of this kind have no dropout that would be missed.

    Args:
        model: the model, which is trained in place.
        settings: what the losses are.

    Raises:
        NotDefinedError: for a model whose image tower reads anything but its class token.
        UnsupportedModelError: for a model without text encoder or logit scale.
    """

    def __init__(self, model: nn.Module, settings: TuneSettings) -> None:
        super().__init__()
        self.model, self.settings = model.eval(), settings
        self.reader = ImageReader(model)
        self.tower = adapters.text_tower(model)
        self.scale = adapters.logit_scale(model)
        self.global_loss = GlobalContrastiveLoss()
        self.region_loss = RegionPhraseLoss(
            settings.comparison, settings.gamma, settings.alpha, same_phrase=settings.same_phrase
        )
        self.rival_loss = CLIPSelfLoss()
        # A frozen copy of the model at its beginning; in a list, it is no part of this module and of its checkpoints.
        self.teacher = [ImageScore(copy.deepcopy(model).requires_grad_(False))] if settings.local == "CLIPSelf" else []

    def train(self, mode: bool = True) -> Objective:
        """Leaves all parts in evaluation mode."""
        return super().train(False)

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that the losses reach, by name: those of the image tower, and of the text tower if it is trained.

        Which these are is found by differentiating the features of one picture and one text.
        """
        settings, device = self.settings, execution_device(self.model)
        named = dict(self.named_parameters())
        score = self.reader.score
        picture = torch.zeros(1, score.tower.channels, *score.tower.size, device=device)
        reached = _reached(score.features, picture, named)
        if settings.needs_text:
            if settings.text == "trained":
                length = self.tower.context_length if self.tower.pad else 2
                reached |= _reached(self.tower.encode, torch.ones(1, length, dtype=torch.long, device=device), named)
            reached |= {name for name, one in named.items() if one is self.scale}
        reached |= {name for name, one in named.items() if one is self.region_loss.bias and self._has_phrases}
        return {name: one for name, one in named.items() if name in reached}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch, each a scalar: ``"loss"``, its parts ``"global"`` and ``"local"``, and counts.

        Args:
            batch: pairs on the device of the model, at least one.
        """
        settings = self.settings
        scale = self.scale.exp()
        zero = batch.images.new_zeros(())
        losses = {"global": zero, "local": zero, "regions": zero, "phrases": zero}
        seen = self._look(batch)
        if settings.global_weight:
            losses["global"] = self.global_loss(seen.features, self._texts(batch.captions), scale)
        if seen.maps is not None and settings.local_weight:
            losses |= self._phrase_loss(batch, seen, scale)
        if self.teacher and settings.local_weight:
            assert seen.dense is not None
            with torch.no_grad():
                cut_out = unit(self.teacher[0].features(crops(batch.images, batch.boxes)))
            losses["local"] = self.rival_loss(box_features(seen.dense, batch.boxes), cut_out)
            losses["regions"] = zero + len(cut_out)
        losses["loss"] = settings.global_weight * losses["global"] + settings.local_weight * losses["local"]
        return losses

    @property
    def _has_phrases(self) -> bool:
        return self.settings.local in ("GradECLIP", "TokenGradCam", "MaskCLIP") and bool(self.settings.local_weight)

    def _look(self, batch: Batch) -> ImagePass:
        settings = self.settings
        if not settings.local_weight or settings.local == "none":
            return self.reader.read(batch.images, dense=False)
        if settings.local == "CLIPSelf":
            return self.reader.read(batch.images)
        return self.reader.read(batch.images, settings.local)

    def _phrase_loss(self, batch: Batch, seen: ImagePass, scale: Tensor) -> dict[str, Tensor]:
        assert seen.maps is not None and seen.dense is not None
        zero = batch.images.new_zeros(())
        if batch.columns.shape[1]:
            phrases = self._texts(batch.phrases)
            own = phrases[batch.columns.clamp(min=0)]  # (n, K, D)
            regions, found = weighted(seen.maps(own), seen.dense)
            kept = found & (batch.columns >= 0)
            regions, own, labels = regions[kept], own[kept], batch.labels[batch.columns[kept]]
        else:  # no caption of this process has a phrase; others may have
            regions, labels = seen.dense[:0, :, 0, 0], batch.labels[:0]
            # Phrases have a graph in all processes or in none, or these would wait for different gradients of each other.
            own = regions if self.settings.text == "trained" else regions.detach()
        asked = (batch.columns >= 0).sum()
        return {
            "local": self.region_loss(regions, own, scale, labels),
            "regions": zero + len(labels),
            "phrases": zero + asked,
        }

    def _texts(self, tokens: Tensor) -> Tensor:
        """Unit features of texts, without the padding that the tower never sees; with their graph if it is trained."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.settings.text == "trained"):
            front, encode = adapters.front(self.tower, tokens)
            return unit(encode(front))


def _reached(function: Callable[[Tensor], Tensor], inputs: Tensor, named: dict[str, nn.Parameter]) -> set[str]:
    with torch.enable_grad():
        parameters = [one for one in named.values() if one.requires_grad]
        found = torch.autograd.grad(function(inputs).float().sum(), parameters, allow_unused=True)
    known = {id(one) for one, gradient in zip(parameters, found) if gradient is not None}
    return {name for name, one in named.items() if id(one) in known}
