"""Word and region of a matching head: what each word read off each patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..attention import one_call
from ..scores import MatchScore, Target, Targets
from ..scores.checks import check_inputs, check_layers, check_maps
from .base import NotDefinedError, Request
from .grad_eclip import GradECLIP, GradECLIPOptions, weighing


class MatchRegionAttribution:
    r"""How much each word of a text, as a query of cross-attention, takes from each patch: one signed value for each pair.

    .. math:: M_{ip} = \sum_l \sum_h \alpha^{lh}_{ip} \, \frac{\partial S}{\partial o^{lh}_i} \cdot v^{lh}_p

    with the attention weights :math:`\alpha` of the model's own heads. Over all keys of a layer the values of a word add up
    to the gradient at its attention output times this output: what the word brought in there, to first order.

    Args:
        score: the score of a model whose queries are words, BLIP or ViLT.
        layer: the layers that are added up, a module or a list; ``None`` (default) for all of them.

    Raises:
        NotDefinedError: for BLIP-2, whose queries are learned and stand for no word.

    >>> from transformers import BlipConfig, BlipForImageTextRetrieval
    >>> small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    >>> config = BlipConfig(
    ...     vision_config={**small, "image_size": 32, "patch_size": 8}, text_config={**small, "encoder_hidden_size": 16}
    ... )
    >>> score = MatchScore(BlipForImageTextRetrieval(config).eval(), torch.tensor([[2, 7, 9, 3]]))
    >>> MatchRegionAttribution(score).attribute(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 4, 4, 4])

    Source: this package; for one query it is Grad-ECLIP with ``spatial_weight="softmax"`` and the model's heads.
    """

    def __init__(self, score: MatchScore, layer: nn.Module | Sequence[nn.Module] | None = None) -> None:
        if not score.facts.words:
            raise NotDefinedError(
                "score: the queries of this model are learned and stand for no word, so that no pair of a word and a patch"
                " meets in its cross-attention; explain its patches by GradECLIP"
            )
        self.score, self.layers = score, score.layers if layer is None else check_layers(layer)

    @one_call
    def attribute(self, images: Tensor, target: Target = None) -> Tensor:
        """The tensor of words and regions of each image with a text.

        Args:
            images: ``(N, 3, H, W)``.
            target: the text of all images, or of each of them, any of Captum's kinds; ``None`` (default) if there is one.

        Returns:
            ``(N, L, h, w)``, float32, signed and finite: positive where what the word takes from the patch speaks for a
            match.

        Raises:
            AssertionError: for a wrong target.
            ValueError: for images that are not finite or of another shape.
        """
        inputs = check_inputs(images)
        texts = self.score.text_tokens
        score = self.score.aligned(Targets.parse(target, torch.empty(len(inputs), len(texts))).index[0])
        method, reading = GradECLIP(score, self.layers), GradECLIPOptions(heads="model", spatial_weight="softmax")
        evidence = method.observe(Request(method.info, score, score, self.layers, inputs), reading)
        gradients = evidence.gradient(Targets.parse(0, evidence.output))
        total = torch.zeros((), device=inputs.device)
        with torch.no_grad():
            for (gradient,), record in zip(gradients, evidence.records):
                spatial, value = weighing(record, None, evidence.tokens.content, reading)
                own = gradient.to(value.dtype).unflatten(-1, (value.shape[1], -1)).transpose(1, 2)
                total = total + (cast("Tensor", spatial) * (own @ value.mT)).sum(dim=1)
            found = evidence.tokens.fold(total[:, : texts.shape[1]])
        check_maps(found)
        return found.float()
