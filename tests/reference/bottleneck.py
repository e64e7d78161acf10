"""M2IB: Adam and the bottleneck written out, one example and one copy at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import equations as reference
from .towers import prepared


def slow_bottleneck(model: Any, score: Any, one: Tensor, number: int, steps: int, wrapper: bool = False) -> Tensor:
    """Nats per token of one image or text, with target 1, three copies, seed 4 and beta 2."""
    image = one.is_floating_point()
    causal = not image and not wrapper
    full = len(one)
    one = one[: int(one.argmax()) + 1] if wrapper else one  # the wrapper's texts have no padding
    tower = model.visual if image else model
    blocks = list(tower.transformer.resblocks)
    stream = prepared(tower, one) if image else tower.token_embedding(one) + tower.positional_embedding[: len(one)]
    stream = stream.detach()
    for block in blocks[: number + 1]:
        stream, _ = reference.block(stream, block, block.attn.num_heads, causal=causal, track=False)
    z = stream.detach()
    other = score.text_features[1] if image else score.image_features[1]
    alpha = torch.full_like(z, 5.0)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    generator = torch.Generator().manual_seed(4)
    for step in range(1, steps + 1):
        leaf = alpha.clone().requires_grad_()
        passed = 1 / (1 + torch.exp(-leaf))
        variance = (1 - passed) ** 2
        nats = -0.5 * (1 + torch.log(variance) - (passed * z) ** 2 - variance)
        shape = (full, z.shape[1]) if wrapper else z.shape
        noise = torch.randn(3, *shape, generator=generator).double()[:, : len(z)]
        cosines = []
        for copy in range(3):
            x = passed * z + (1 - passed) * noise[copy]
            for block in blocks[number + 1 :]:
                x, _ = reference.block(x, block, block.attn.num_heads, causal=causal, track=False)
            read = x[0] if image else x[int(one.argmax())]
            feature = tower.ln_post(read) @ tower.proj if image else tower.ln_final(read) @ tower.text_projection
            feature = feature @ tower.text_projection if wrapper else feature
            cosines.append(reference.cosine(feature, other))
        nats = nats if image else nats[: int(one.argmax()) + 1]  # no padding
        (gradient,) = torch.autograd.grad(2.0 * nats.mean() - torch.stack(cosines).mean(), leaf)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        alpha = alpha - (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    result = torch.zeros(full if wrapper else len(z), dtype=torch.float64)
    result[: len(nats)] = nats.detach().sum(dim=1)
    return result
