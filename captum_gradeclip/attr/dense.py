"""Dense features: what a model would say if it read one token after the other in place of its class token."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .info import NotDefinedError
from .request import Evidence, Request


@dataclass(frozen=True)
class Dense(Evidence):
    """Scores of every token.

    Attributes:
        scores: scores of all tokens with all targets, ``(N, L, T)``.
    """

    scores: Tensor


def last_block(request: Request) -> nn.Module:
    """The last block of a score of images whose model reads its first token, and treats each on its own behind that block.

    Raises:
        NotDefinedError: naming the method, for any other score.
    """
    if request.score.readout.kind != "token":
        found = {
            "unknown": "a bare callable does not state it",
            "several": "this one reads several tokens",
            "pool": "this one reads an attention pool, which mixes them afterwards",
        }
        raise NotDefinedError(
            f"layer: {request.info.name} lets the model read one token after the other in place of its class token, so it"
            " needs a score module of images (ImageTextScore or ClassScore around the model) whose tower reads that token;"
            f" {found[request.score.readout.kind]}"
        )
    return request.score.sites[-1].module
