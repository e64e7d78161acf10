"""One forward pass, intercepted in chosen layers and remembered.

Every encoder we explain computes attention through ``scaled_dot_product_attention`` or
``multi_head_attention_forward``. While a chosen layer runs, in this thread, a
:class:`torch.overrides.TorchFunctionMode` sees that one call, lets a *rule* decide what it returns, and keeps what was
seen as a :class:`Record`. The model is neither patched nor copied: the mode is entered and left by the layer's own
hooks, and both hooks are gone when the ``with`` block ends.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle


class LayerError(ValueError):
    """A chosen layer cannot be intercepted: it has no attention call, several of them, or never ran."""


@dataclass
class Record:
    """What one attention call was given, and what it returned.

    Attributes:
        query: ``(B, H, Lq, d)``, one slice per head of the model, before scaling.
        key: ``(B, H, Lk, d)``.
        value: ``(B, H, Lk, dv)``.
        mask: additive, broadcastable to ``(B, H, Lq, Lk)``; a causal flag arrives here as a mask; ``None`` if all see all.
        scale: factor on ``query . key`` with the model's own heads, usually ``d ** -0.5``.
        dropout: probability with which the layer drops attention weights (0 in evaluation mode).
        output: ``(B, Lq, H * dv)``, what the rule returned, heads side by side, before any output projection.
            It takes part in the graph of the forward pass, so gradients can be asked for at this place.
        order: when the layer ran, counted from 0 among the chosen ones.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    dropout: float = 0.0
    output: Tensor | None = None
    order: int = 0

    @property
    def heads(self) -> int:
        """Number of heads of the model in this layer."""
        return self.query.shape[1]

    def merged(self) -> Record:
        """The same call with one head over all channels, scaled by ``(H * d) ** -0.5``.

        A mask that differs between heads (a position bias, say) is averaged over them.
        """
        mask = self.mask
        if mask is not None and mask.dim() == 4 and mask.shape[1] > 1:
            mask = mask.mean(dim=1, keepdim=True)
        query, key, value = (merge_heads(x)[:, None] for x in (self.query, self.key, self.value))
        return Record(query, key, value, mask, query.shape[-1] ** -0.5, self.dropout, self.output, self.order)

    def probabilities(self) -> Tensor:
        """Attention weights ``softmax(scale * q k^T + mask)`` of this record's heads, ``(B, H, Lq, Lk)``.

        In single precision at least: the products of wide heads leave the range of half precision.
        """
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        logits = (self.query.to(dtype) * self.scale) @ self.key.to(dtype).mT
        return (logits if self.mask is None else logits + self.mask).softmax(dim=-1)


Rule = Callable[[Record], Tensor]
"""Decides what an attention call returns: a record without output to values per head, ``(B, heads, Lq, dv)``."""


def model_heads(record: Record) -> Tensor:
    """The model's own multi-head attention: with this rule a model reproduces its own output."""
    return F.scaled_dot_product_attention(
        record.query,
        record.key,
        record.value,
        attn_mask=record.mask,
        dropout_p=record.dropout,
        scale=record.scale,
    )


def single_head(record: Record) -> Tensor:
    """One head over all channels with scale ``C ** -0.5``, as Grad-ECLIP runs the layers it explains."""
    return model_heads(record.merged())


def value_only(record: Record) -> Tensor:
    """Every token returns its own value, as MaskCLIP does; queries and keys must be the same tokens.

    Raises:
        LayerError: when the layer has another number of queries than of keys (an attention pool, say).
    """
    if record.query.shape[-2] != record.key.shape[-2]:
        raise LayerError(
            f"value-only attention needs as many queries as keys, got {record.query.shape[-2]} and "
            f"{record.key.shape[-2]}: choose a self-attention layer"
        )
    return record.value


def merge_heads(x: Tensor) -> Tensor:
    """Heads side by side: ``(B, H, L, d)`` to ``(B, L, H * d)``."""
    return x.transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """The inverse of :func:`merge_heads`: ``(B, L, H * d)`` to ``(B, H, L, d)``."""
    apart: Tensor = x.unflatten(-1, (heads, -1))
    return apart.transpose(1, 2)


class Interception:
    """Context in which the chosen layers answer by a rule and are remembered.

    The forward pass is to run inside, under ``torch.no_grad()``: the first chosen layer that runs switches gradients
    on behind its attention, so that nothing before it builds a graph. Only calls of the thread that entered are seen.

    Args:
        layers: modules of the model, each a block or its attention module, none inside another.
        rule: what their attention returns, :func:`model_heads`, :func:`single_head`, :func:`value_only` or your own.

    Raises:
        LayerError: if a layer is given twice or lies inside another one.

    >>> attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True).eval()
    >>> x = torch.randn(1, 5, 8)
    >>> with Interception([attention], model_heads) as seen, torch.no_grad():
    ...     output, _ = attention(x, x, x)
    >>> torch.allclose(output, attention(x, x, x)[0], atol=1e-6)
    True
    >>> seen.records()[0].key.shape
    torch.Size([1, 2, 5, 4])
    """

    def __init__(self, layers: Sequence[nn.Module], rule: Rule) -> None:
        for number, layer in enumerate(layers):
            for other in layers[:number]:
                if any(module is layer for module in other.modules()) or any(module is other for module in layer.modules()):
                    raise LayerError(
                        f"layer: {type(layer).__name__} and {type(other).__name__} are the same module or one lies"
                        " inside the other: give each attention once"
                    )
        self._rule = rule
        self._watches = [_Watch(layer, self._answer) for layer in layers]
        self._ran = 0

    def __enter__(self) -> Interception:
        with ExitStack() as stack:
            for watch in self._watches:
                stack.callback(watch.detach)
                watch.attach()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def records(self) -> list[Record]:
        """One record per chosen layer, in the order in which the layers were given.

        Raises:
            LayerError: if a layer made no attention call, or several, or did not run.
        """
        return [watch.record() for watch in self._watches]

    def _answer(self, record: Record) -> Tensor:
        output = merge_heads(self._rule(record))
        if not self._ran:
            # What was computed so far carries no graph. From here on everything does, up to the score.
            torch.set_grad_enabled(True)
            if not output.requires_grad:
                output = output.detach().requires_grad_()
        record.output, record.order = output, self._ran
        self._ran += 1
        return output


class _Watch:
    """The two hooks of one layer, and the mode that they enter and leave."""

    def __init__(self, layer: nn.Module, answer: Callable[[Record], Tensor]) -> None:
        self.layer, self.answer = layer, answer
        self.thread = threading.get_ident()
        self.seen: list[Record] = []
        self.runs = 0
        self.mode: _AttentionMode | None = None
        self.handles: list[RemovableHandle] = []

    def attach(self) -> None:
        self.thread = threading.get_ident()
        self.handles.append(self.layer.register_forward_pre_hook(self._enter))
        self.handles.append(self.layer.register_forward_hook(self._leave, always_call=True))

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self._leave()  # an interrupt (not an Exception) skips even hooks that are always called

    def _enter(self, *_: object) -> None:
        if threading.get_ident() == self.thread:
            self.runs += 1
            self.mode = _AttentionMode(self._see)
            self.mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave(self, *_: object) -> None:
        if threading.get_ident() == self.thread and self.mode is not None:
            self.mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self.mode = None

    def _see(self, record: Record) -> Tensor:
        self.seen.append(record)
        return self.answer(record)

    def record(self) -> Record:
        if len(self.seen) == 1:
            return self.seen[0]
        name = type(self.layer).__name__
        inside = [
            f"{path} ({type(module).__name__})"
            for path, module in self.layer.named_modules()
            if path and ("attention" in type(module).__name__.lower() or "attn" in type(module).__name__.lower())
        ]
        if not self.runs:
            raise LayerError(
                f"layer: {name} did not run in this forward pass: choose a layer of the tower that is explained"
                " (under nn.DataParallel layers run as copies in other threads: explain the bare model)"
            )
        if not self.seen:
            raise LayerError(
                f"layer: {name} ran, but made no attention call, so there are no queries, keys and values to explain; "
                + (
                    f"its attention modules are {', '.join(inside)}, none of which calls scaled_dot_product_attention"
                    " or multi_head_attention_forward"
                    if inside
                    else "it has no attention module inside. Choose a block with self-attention, or an attention pool;"
                    " for a convolutional layer use captum.attr.LayerGradCam"
                )
            )
        again = f"ran {self.runs} times and " if self.runs > 1 else ""
        raise LayerError(
            f"layer: {name} {again}made {len(self.seen)} attention calls in one forward pass, expected exactly one; choose "
            + (f"one of its attention modules: {', '.join(inside)}" if inside else "a layer that runs once")
        )


class _AttentionMode(TorchFunctionMode):
    """Hands every attention call to ``see``; lets everything else pass."""

    def __init__(self, see: Callable[[Record], Tensor]) -> None:
        super().__init__()
        self.see = see

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Torch leaves this mode while it is in here, so what the rule calls is not seen again.
        if func is F.scaled_dot_product_attention:
            return self._scaled_dot_product(*args, **(kwargs or {}))
        if func is F.multi_head_attention_forward:
            bound = _MULTI_HEAD.bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            return self._multi_head(**bound.arguments)
        return func(*args, **(kwargs or {}))

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
