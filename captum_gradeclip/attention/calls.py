"""Recognises attention among the functions that a layer calls, however it is spelled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .call import current_call, function_modes
from .eager import EagerAttention
from .record import LayerError, Record, split_heads
from .tap import Arguments, Function, Keywords


class AttentionMode(TorchFunctionMode):
    """Hands every attention call to ``see``; lets everything else pass, and everything when its call is over."""

    def __init__(self, see: Callable[[Record], Tensor], batch: int | None) -> None:
        super().__init__()
        self.call = current_call()
        self.see = see
        self.eager = EagerAttention(see, batch)

    def __exit__(self, *_: object) -> None:
        """Leaves the stack as it was before; what an interrupt inside torch took off already is not taken off again."""
        for depth in reversed(range(function_modes())):
            if torch._C._get_function_stack_at(depth) is self:
                while function_modes() > depth:
                    torch._C._pop_torch_function_stack()
                return

    def __torch_function__(
        self, func: Function, types: object, args: Arguments = (), kwargs: Keywords | None = None
    ) -> object:
        if self.call is not None and self.call.over:
            return func(*args, **(kwargs or {}))
        # Torch leaves this mode while it is in here, so what the rule calls is not seen again.
        if func is F.scaled_dot_product_attention:
            return self._scaled_dot_product(*args, **(kwargs or {}))
        if func is F.multi_head_attention_forward:
            bound = _MULTI_HEAD.bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            return self._multi_head(**bound.arguments)
        return self.eager.call(func, args, kwargs or {})

    def _scaled_dot_product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        without_heads = query.dim() == 3
        if without_heads:
            query, key, value = query[:, None], key[:, None], value[:, None]
            attn_mask = attn_mask[:, None] if attn_mask is not None and attn_mask.dim() == 3 else attn_mask
        if query.dim() != 4:
            raise LayerError(f"attention: expected queries (batch, heads, tokens, width), got shape {tuple(query.shape)}")
        if enable_gqa:
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        if is_causal:
            allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
            attn_mask = allowed if attn_mask is None else attn_mask
        if attn_mask is not None:
            attn_mask = _additive(attn_mask, hidden=~attn_mask if attn_mask.dtype == torch.bool else None, like=query)
            attn_mask = attn_mask[None] if attn_mask.dim() == 3 else attn_mask
        record = Record(query, key, value, attn_mask, query.shape[-1] ** -0.5 if scale is None else scale, dropout_p)
        output = split_heads(self.see(record), query.shape[1])
        return output[:, 0] if without_heads else output

    def _multi_head(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        dropout_p: float,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        training: bool,
        key_padding_mask: Tensor | None,
        need_weights: bool,
        attn_mask: Tensor | None,
        average_attn_weights: bool,
        **rare: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """The projections of ``multi_head_attention_forward`` around the rule; tokens come first in its tensors."""
        for name in ("bias_k", "bias_v", "static_k", "static_v"):
            if rare[name] is not None:
                raise LayerError(f"attention: {name} of nn.MultiheadAttention is not supported")
        if rare["add_zero_attn"]:
            raise LayerError("attention: add_zero_attn of nn.MultiheadAttention is not supported")
        if in_proj_weight is not None and not rare["use_separate_proj_weight"]:
            weights: tuple[Tensor, ...] = in_proj_weight.chunk(3)
        else:
            weights = rare["q_proj_weight"], rare["k_proj_weight"], rare["v_proj_weight"]
        biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)

        without_batch = query.dim() == 2
        if without_batch:
            query, key, value = query[:, None], key[:, None], value[:, None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        q, k, v = (
            split_heads(F.linear(x.transpose(0, 1), weight, bias), num_heads)
            for x, weight, bias in zip((query, key, value), weights, biases)
        )
        # ``is_causal`` is only a hint here: torch wants the mask itself beside it.
        mask = None
        if attn_mask is not None:
            mask = _additive(attn_mask, hidden=attn_mask if attn_mask.dtype == torch.bool else None, like=q)
            if mask.dim() == 3:
                mask = mask.unflatten(0, (-1, num_heads))
        if key_padding_mask is not None:
            hidden = key_padding_mask if key_padding_mask.dtype == torch.bool else None
            padding = _additive(key_padding_mask, hidden, like=q)[:, None, None]
            mask = padding if mask is None else mask + padding

        record = Record(q, k, v, mask, q.shape[-1] ** -0.5, dropout_p if training else 0.0)
        output = F.linear(self.see(record), out_proj_weight, out_proj_bias).transpose(0, 1)
        weights_out = None
        if need_weights:
            weights_out = record.probabilities()
            weights_out = weights_out.mean(dim=1) if average_attn_weights else weights_out
        if without_batch:
            return output[:, 0], None if weights_out is None else weights_out[0]
        return output, weights_out


_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


def _additive(mask: Tensor, hidden: Tensor | None, like: Tensor) -> Tensor:
    """A mask as something to add to the logits; ``hidden`` marks what a boolean mask hides."""
    if hidden is None:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(hidden, float("-inf"))
