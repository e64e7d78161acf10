"""Dense features: what a model would say if it read one token after the other in place of its class token."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from torch import Tensor, nn

from ..arguments import check_finite, check_tensor
from ..attention import Interception, Record, ReplaceOutput, SidePath, one_call, tokens_as_batch, value_only
from ..scores import ImageScore
from ..scores.base import unit
from .info import MethodInfo, NotDefinedError
from .request import Context, Evidence, Request


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


@one_call
def dense_features(model: nn.Module, images: Tensor, *, residual: bool = True) -> Tensor:
    r"""The features that a model has for each patch, if attention in the last layer is replaced by the patch's own value.

    .. math:: F_i = \frac{G(z_i)}{|G(z_i)|}, \quad z_i = y_i + \mathrm{MLP}(\mathrm{LN}(y_i)), \quad
        y_i = x_i + v_i W_o + b_o

    with the input :math:`x` and the values :math:`v` of the last block, and the model's last norm and projection :math:`G`.
    Without the residual path, :math:`z_i = v_i W_o + b_o`. The features keep their graph, so that a model can be trained
    through them; under :func:`torch.no_grad` they have none.

    Args:
        model: a model whose image tower reads its class token, or has an attention pool over convolutions.
        images: images ``(N, C, H, W)``, normalized, of a size that the tower takes.
        residual: whether the last block keeps its residual path and its MLP, as CLIPSelf has it (default True); an attention
            pool has neither.

    Returns:
        Unit vectors ``(N, D, h, w)`` on the patch grid, in single precision at least.

    Raises:
        NotDefinedError: for a tower that reads several tokens, or an attention pool behind blocks.
        ValueError: for images that are not finite or do not fit, or a model whose training mode would change it.

    >>> import torch
    >>> from captum_gradeclip import scenes
    >>> model, preprocess, tokenizer = scenes.load()
    >>> dense_features(model, torch.rand(2, 3, 64, 96)).shape
    torch.Size([2, 128, 8, 12])

    Source: Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", ECCV 2022; Wu et al.: "CLIPSelf", ICLR 2024.
    """
    check_finite("images", check_tensor("images", images, "(N, C, H, W)", kind="floats"))
    score = ImageScore(model)
    request = Request(_INFO, score, score.features, [], images)
    contexts: list[Context]
    if request.pools_convolutions:
        contexts = [Interception([score.layers[-1]], token_values, graph=False)]
    else:
        last, count = last_block(request), len(images)
        axis = request.examples_axis(last)
        beside = SidePath([] if residual else [last], value_only, count, axis)
        each = ReplaceOutput(last, count, lambda x: tokens_as_batch(x if residual else beside.added[0]), axis)
        contexts = [each, beside, *([Interception([last], value_only, graph=False)] if residual else [])]
    with ExitStack() as stack:
        for one in contexts:
            stack.enter_context(one)
        features = unit(score.features(images)).unflatten(0, (len(images), -1))
    return score.tokens(score.sites[-1], images, features.shape[1])[1].fold(features.mT)


def token_values(record: Record) -> Tensor:
    """The values of a pool's tokens, each as if it were the one answer to an example of its own."""
    return record.value.transpose(1, 2).flatten(0, 1)[:, :, None]


_INFO = MethodInfo("The dense feature of a patch", "Zhou et al., ECCV 2022", convolutional=True)
