"""Grad-ECLIP written down from the equations: one image, one head, one token at a time, in float64. Slow on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_gradeclip.attention import Record


@dataclass
class Layer:
    """What the equations need of one attention layer, of one example: q, k, v, o as (tokens, C), attention per head."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    attention: Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, causal: bool) -> tuple[Tensor, Tensor]:
    """Equations 6 and 7, head by head and query by query."""
    width = q.shape[1] // heads
    rows, weights = [], []
    for h in range(heads):
        channels = slice(h * width, (h + 1) * width)
        head_rows, head_weights = [], []
        for r in range(len(q)):
            visible = range(r + 1) if causal else range(len(k))
            logits = torch.stack([q[r, channels] @ k[i, channels] / width**0.5 for i in visible])
            e = torch.exp(logits - logits.max())
            a = e / e.sum()
            a = torch.cat([a, a.new_zeros(len(k) - len(a))])
            head_weights.append(a)
            head_rows.append((a[:, None] * v[:, channels]).sum(dim=0))
        rows.append(torch.stack(head_rows))
        weights.append(torch.stack(head_weights))
    return torch.cat(rows, dim=1), torch.stack(weights)


def block(x: Tensor, module: nn.Module, heads: int, causal: bool, track: bool) -> tuple[Tensor, Layer]:
    """One pre-norm residual block of open_clip on one example (tokens, C)."""
    u = module.ln_1(x)
    q, k, v = (u @ module.attn.in_proj_weight.T + module.attn.in_proj_bias).chunk(3, dim=1)
    o, a = attend(q, k, v, heads, causal)
    if track and not o.requires_grad:
        o = o.detach().requires_grad_()
    y = x + o @ module.attn.out_proj.weight.T + module.attn.out_proj.bias
    return y + module.mlp(module.ln_2(y)), Layer(q, k, v, o, a)


def blocks(x: Tensor, transformer: nn.Module, n: int, single: bool, causal: bool) -> tuple[Tensor, list[Layer]]:
    """All blocks on one example; the last n are kept, and have one head if ``single``."""
    modules = list(transformer.resblocks)
    layers = []
    for number, module in enumerate(modules):
        chosen = number >= len(modules) - n
        heads = 1 if chosen and single else module.attn.num_heads
        x, layer = block(x, module, heads, causal=causal, track=chosen)
        layers += [layer] if chosen else []
    return x, layers


def image_pass(visual: nn.Module, image: Tensor, n: int, single: bool) -> tuple[Tensor, list[Layer], int]:
    """Features (D,) of one image (3, H, W), the last n layers, and the row that is read."""
    if hasattr(visual, "attnpool"):
        return resnet_pass(visual, image, single)
    x = visual.conv1(image[None])
    grid = x.shape[-2:]
    x = x[0].flatten(1).T
    table = visual.positional_embedding
    native = visual.grid_size
    if tuple(grid) != tuple(native):
        patches = table[1:].T.reshape(1, -1, *native)
        patches = F.interpolate(patches, size=tuple(grid), mode="bicubic", align_corners=False)
        table = torch.cat([table[:1], patches[0].flatten(1).T])
    x = visual.ln_pre(torch.cat([visual.class_embedding[None], x]) + table)
    x, layers = blocks(x, visual.transformer, n, single, causal=False)
    return visual.ln_post(x[0]) @ visual.proj, layers, 0


def resnet_pass(visual: nn.Module, image: Tensor, single: bool) -> tuple[Tensor, list[Layer], int]:
    x = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(image[None])))))[0]
    grid = x.shape[-2:]
    x = x.flatten(1).T
    pool = visual.attnpool
    table = pool.positional_embedding
    side = int((len(table) - 1) ** 0.5)
    if tuple(grid) != (side, side):
        patches = F.interpolate(
            table[1:].T.reshape(1, -1, side, side), size=tuple(grid), mode="bicubic", align_corners=False
        )
        table = torch.cat([table[:1], patches[0].flatten(1).T])
    x = torch.cat([x.mean(dim=0, keepdim=True), x]) + table
    q, k, v = pool.q_proj(x), pool.k_proj(x), pool.v_proj(x)
    o, a = attend(q, k, v, 1 if single else pool.num_heads, causal=False)
    o = o.detach().requires_grad_()
    return pool.c_proj(o)[0], [Layer(q, k, v, o, a)], 0


def text_pass(model: nn.Module, tokens: Tensor, n: int, single: bool) -> tuple[Tensor, list[Layer], int]:
    """Features (D,) of one text (L,), the last n layers, and the row of its end mark."""
    tower = getattr(model, "text", model)
    x = tower.token_embedding(tokens) + tower.positional_embedding
    x, layers = blocks(x, tower.transformer, n, single, causal=True)
    end = int(tokens.argmax())
    return tower.ln_final(x[end]) @ tower.text_projection, layers, end


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def stretched(values: list[Tensor]) -> list[Tensor]:
    """Equation 20: to 0 and 1."""
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]


def grad_eclip(
    features: Tensor,
    layers: list[Layer],
    row: int,
    other: Tensor,
    *,
    first: int,
    spatial_weight: str = "loosened",
    similarity: str = "cosine",
    heads: int | None = None,
    relu: bool = True,
    relu_before_sum: bool = True,
) -> Tensor:
    """Equation 19 for tokens ``first ...`` of one example, ``(tokens,)``, or ``(heads, tokens)`` if heads is given."""
    score = cosine(features, other)
    gradients = torch.autograd.grad(score, [layer.o for layer in layers], retain_graph=True)
    total = None
    for layer, gradient in zip(layers, gradients):
        parts = heads or 1
        width = layer.q.shape[1] // parts
        maps = []
        for h in range(parts):
            channels = slice(h * width, (h + 1) * width)
            w = gradient[row, channels]
            tokens = range(first, len(layer.k))
            if spatial_weight == "loosened":
                measure = cosine if similarity == "cosine" else torch.dot
                weights = stretched([measure(layer.q[row, channels], layer.k[i, channels]) for i in tokens])
            elif spatial_weight == "softmax":
                weights = [layer.attention[h, row, i] for i in tokens]
            else:
                weights = [torch.ones(()) for _ in tokens]
            maps.append(torch.stack([one * (w * layer.v[i, channels]).sum() for one, i in zip(weights, tokens)]))
        m = torch.stack(maps) if heads else maps[0]
        m = m.clamp(min=0) if relu and relu_before_sum else m
        total = m if total is None else total + m
    assert total is not None
    return (total.clamp(min=0) if relu else total).detach()


def from_records(
    records: list[Record],
    gradients: list[Tensor],
    item: int,
    *,
    first: int,
    last: int,
    rows: list[int] | None,
    visible_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Equations 19 and 20 for one example of a batch, from what the layers were given and the gradient at their output.

    With ``rows`` given, these read-out rows count; otherwise all rows of each layer. With ``visible_only``, what the mask
    hides from the row weighs nothing and is not stretched over. Returns the map, and its signed sum.
    """
    total, signed = None, None
    for record, gradient in zip(records, gradients):
        q, k, v = (torch.cat([head for head in x[item]], dim=1) for x in (record.query, record.key, record.value))
        m = torch.zeros(last - first, dtype=q.dtype)
        for r in rows if rows is not None and len(q) == len(records[-1].query[0, 0]) else range(len(q)):
            seen = [i for i in range(first, last) if not (visible_only and hidden(record, item, r, i))]
            weights = dict(zip(seen, stretched([cosine(q[r], k[i]) for i in seen])))
            zero = torch.zeros((), dtype=q.dtype)
            m += torch.stack([weights.get(i, zero) * (gradient[item, r] @ v[i]) for i in range(first, last)])
        signed = m if signed is None else signed + m
        total = m.clamp(min=0) if total is None else total + m.clamp(min=0)
    assert total is not None and signed is not None
    return total.detach(), signed.detach()


def hidden(record: Record, item: int, row: int, key: int) -> bool:
    """Whether the mask of a layer hides a key from a row in every head."""
    if record.mask is None:
        return False
    mask = record.mask.expand(len(record.query), record.query.shape[1], record.query.shape[2], record.key.shape[2])
    return all(float(mask[item, head, row, key].detach()) <= -1e4 for head in range(record.query.shape[1]))


def literal_single_head(record: Record) -> Tensor:
    """One head over all channels, query by query, with the mask's mean over the heads: equations 6 and 7."""
    outputs = []
    for b in range(len(record.query)):
        q, k, v = (torch.cat([head for head in x[b]], dim=1) for x in (record.query, record.key, record.value))
        rows = []
        for r in range(len(q)):
            logits = torch.stack([q[r] @ k[i] / q.shape[1] ** 0.5 for i in range(len(k))])
            if record.mask is not None:
                heads, length = record.query.shape[1], len(k)
                mask = record.mask.expand(len(record.query), heads, len(q), length)
                logits = logits + sum(mask[b, h, r] for h in range(heads)) / heads
            e = torch.exp(logits - logits.max())
            rows.append((e[:, None] * v).sum(dim=0) / e.sum())
        outputs.append(torch.stack(rows))
    return torch.stack(outputs)[:, None]
