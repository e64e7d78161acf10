"""All that fine-tuning needs of pictures, from one pass of the image tower: features, dense ones, and maps of phrases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..attention import (
    Answer,
    CaptureInput,
    SeveralAnswers,
    examples_axis,
    model_heads,
    one_call,
    single_head,
    value_only,
)
from ..attr.base import Attention, MethodInfo, Request, Targets
from ..attr.dense import last_block
from ..attr.grad_eclip import GradECLIP, GradECLIPOptions
from ..attr.token_grad_cam import LayerFeature, TokenGradCam, TokenGradCamOptions
from ..scores import ImageScore, Tokens
from ..scores.base import unit

MapMethod = Literal["GradECLIP", "TokenGradCam", "MaskCLIP"]
"""The methods whose maps the paper fine-tunes with."""


@dataclass(frozen=True)
class ImagePass:
    """What one pass of the image tower shows of N pictures.

    Attributes:
        features: unit features ``(N, D)``, the model's own.
        dense: dense features ``(N, D, h, w)``, unit vectors; ``None`` where they were not asked for.
        maps: from unit features of K phrases of each picture, ``(N, K, D)``, to their maps ``(N, K, h, w)``, 0 or more,
            without a graph; ``None`` where they were not asked for.
    """

    features: Tensor
    dense: Tensor | None = None
    maps: Callable[[Tensor], Tensor] | None = None


class ImageReader:
    """Reads pictures with a model whose image tower reads its class token.

    The blocks in front of the last one run once for all that is asked. The last one runs again with value-only attention for
    the dense features, and once more, apart, for the maps. These are equal to those of
    :class:`~captum_gradeclip.GradECLIP` and its rivals on the last block.

    Args:
        model: the model.

    Raises:
        NotDefinedError: for a model whose image tower reads anything but its class token.
    """

    def __init__(self, model: nn.Module) -> None:
        self.score = ImageScore(model)
        height, width = self.score.tower.size
        weight = next(model.parameters())
        one = torch.zeros(1, self.score.tower.channels, height, width, device=weight.device)
        request = Request(_INFO, self.score, self.score.features, [], one)
        self.last = last_block(request)
        # A batch may have as many pictures as there are tokens, so that its shape does not tell which is which.
        probe = CaptureInput(self.last)
        request.forward(probe)
        self.axis = examples_axis(probe.tensor, 1)

    @one_call
    def read(self, images: Tensor, method: MapMethod | None = None, dense: bool = True) -> ImagePass:
        """One pass.

        Args:
            images: ``(N, C, H, W)``, normalized.
            method: what makes the maps; ``None`` (default) for no maps.
            dense: whether the dense features are asked for (default True); MaskCLIP's maps need them in any case.
        """
        score, count = self.score, len(images)
        if method is None and not dense:
            return ImagePass(unit(score.features(images)))
        answers = [Answer(value_only)]
        if method == "GradECLIP":
            answers.append(Answer(single_head, apart=True))
        elif method == "TokenGradCam":
            answers.append(Answer(model_heads, apart=True))
        several = SeveralAnswers(self.last, count, answers, self.axis)
        with several, torch.set_grad_enabled(torch.is_grad_enabled() or len(answers) > 1):
            output = score.features(images)
        own, tokens, *apart = (unit(part) for part in several.split(output))
        patches = score.tokens(score.sites[-1], images, tokens.shape[1])[1]
        features = patches.fold(tokens.mT)

        def maps(phrases: Tensor) -> Tensor:
            known = phrases.detach().to(tokens.dtype)
            if method == "MaskCLIP":
                return _stretched(torch.einsum("ndhw,nkd->nkhw", features.detach(), known))
            with torch.enable_grad():
                scores = torch.einsum("nd,nkd->nk", apart[0][:, 0], known)
            targets = Targets.columns(None, scores)
            with torch.no_grad():
                return patches.fold(self._explain(images, scores, answers[1], patches, targets)).transpose(0, 1).float()

        return ImagePass(own[:, 0], features, None if method is None else maps)

    def _explain(self, images: Tensor, scores: Tensor, answer: Answer, patches: Tokens, targets: Targets) -> Tensor:
        """The map ``(K, N, tokens)`` of each phrase, by the method itself, of what its run of the last block shows."""
        assert answer.record is not None and answer.input is not None
        if answer.rule is single_head:
            method = GradECLIP(self.score, self.last)
            request = Request(method.info, self.score, self.score, [self.last], images)
            return method.explain(Attention(request, scores, patches, [answer.record]), targets, GradECLIPOptions())
        cam = TokenGradCam(self.score, self.last)
        request = Request(cam.info, self.score, self.score, [self.last], images)
        rows = answer.record.key.shape[-2]
        return cam.explain(
            LayerFeature(request, scores, patches, answer.input, rows, self.axis), targets, TokenGradCamOptions()
        )


def _stretched(maps: Tensor) -> Tensor:
    """Signed maps between 0 and 1, as they are shown, so that they weigh patches; 0 where a map is constant."""
    low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
    return ((maps - low) / (high - low).where(high > low, 1)).float()


_INFO = MethodInfo("Fine-tuning", "Zhao et al., arXiv 2502.18816v1")
