"""What every method sees of one pass: scores of a model, the records of its attention, weights written out in loops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_gradeclip import ImageTextScore, TextImageScore
from captum_gradeclip.attention import Interception, Record, model_heads

from ..conftest import captions, images


def both(model: nn.Module) -> list[tuple[Any, Tensor, int]]:
    """A score of images and one of texts with inputs, and the first content token of each."""
    x = images((40, 24)).double()
    return [(ImageTextScore(model, captions()), x, 1), (TextImageScore(model, x), captions(), 0)]


def run(score: Any, inputs: Tensor, layers: list[nn.Module]) -> tuple[list[Record], list[Tensor]]:
    """Records of the model's own heads, and the gradient of target 1 at each layer's output."""
    with Interception(layers, model_heads) as seen, torch.no_grad():
        output = score(inputs)
    records = seen.records()
    with torch.enable_grad():
        total = output[:, 1].sum()
    return records, list(torch.autograd.grad(total, [record.output for record in records]))


def weights(record: Record, item: int, head: int, row: int) -> list[Tensor]:
    """One row of softmax(q k^T / sqrt d + mask), term by term."""
    q, k = record.query[item, head, row], record.key[item, head]
    logits = [q @ k[i] / len(q) ** 0.5 for i in range(len(k))]
    if record.mask is not None:
        mask = record.mask.expand(len(record.query), record.heads, record.query.shape[2], len(k))
        logits = [logit + mask[item, head, row, i] for i, logit in enumerate(logits)]
    terms = [torch.exp(logit - max(logits)) for logit in logits]
    return [term / sum(terms) for term in terms]


def matrix(record: Record, item: int) -> Tensor:
    """Mean over the heads of the attention of one example."""
    total = torch.zeros(record.query.shape[2], record.key.shape[2], dtype=torch.float64)
    for head in range(record.heads):
        for row in range(len(total)):
            total[row] += torch.stack(weights(record, item, head, row)) / record.heads
    return total
