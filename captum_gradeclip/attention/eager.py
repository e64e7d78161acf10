"""Attention spelled out: follows tensors from ``query @ key^T`` over ``softmax`` to ``probabilities @ value``."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from .record import Record, split_heads
from .tap import Arguments, Function, Keywords


@dataclass(frozen=True)
class _Logits:
    """What a tensor of attention logits, or of probabilities once ``normalized``, was made of."""

    query: Tensor
    key: Tensor
    scale: float
    mask: Tensor | None = None
    normalized: bool = False
    dropout: float = 0.0


class EagerAttention:
    """Sees the calls of one layer go by and answers the last one of an attention.

    A tensor is followed from function to function: a product of two tensors may be logits, a number multiplied to it is
    their scale, a tensor added to it is a mask, and after a softmax it is probabilities. The product of probabilities with
    another tensor is the attention's answer, and the rule gives it.

    Args:
        see: hands a record to the rule and returns its answer ``(B, Lq, H * dv)``.
        batch: number of examples, at least 1, for layers that fold their heads into the batch dimension; ``None`` if it is
            not known.
    """

    def __init__(self, see: Callable[[Record], Tensor], batch: int | None) -> None:
        self._see, self._batch = see, batch
        # Weak, since logits are large and a layer keeps them no longer than it needs them.
        self._logits: MutableMapping[Tensor, _Logits] = WeakTensorKeyDictionary()
        self._factor: MutableMapping[Tensor, float] = WeakTensorKeyDictionary()

    def call(self, func: Function, args: Arguments, kwargs: Keywords) -> object:
        """The result of ``func``, or the rule's answer if it multiplies attention probabilities with values."""
        if func in _MATMUL and len(args) == 2 and isinstance(args[0], Tensor) and isinstance(args[1], Tensor):
            known = self._logits.get(args[0])
            if known is not None and known.normalized:
                return self._answer(known, args[1])
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and func in _FOLLOWED:
            self._follow(func, args, kwargs, result)
        return result

    def _follow(self, func: Function, args: Arguments, kwargs: Keywords, result: Tensor) -> None:
        source: Any = args[0]
        other: Any = args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("mask"))
        if func in _MATMUL:
            # Any product of two batches of matrices may turn out to be logits; most never see a softmax.
            if source.dim() == other.dim() and source.dim() in (3, 4) and source.shape[:-2] == other.shape[:-2]:
                factor = self._factor.get(source, 1.0) * self._factor.get(other, 1.0)
                self._logits[result] = _Logits(source, other.mT, factor)
            return
        if func in _COMMUTING and isinstance(other, Tensor) and other in self._logits:
            source, other = other, source
        if not isinstance(source, Tensor):
            return
        known = self._logits.get(source)
        if func in _SCALE and (number := _number(other)) is not None:
            number = 1 / number if func in _DIVIDE else number
            # In front of the product it is a factor on queries or keys, behind it the scale of the logits and their mask.
            if known is None:
                self._factor[result] = self._factor.get(source, 1.0) * number
            elif not known.normalized:
                mask = None if known.mask is None else known.mask * number
                self._logits[result] = replace(known, scale=known.scale * number, mask=mask)
        elif func in _CAST | _RESHAPE | _VIEW:
            # Other types and other leading dimensions leave logits what they are; a transposed matrix is something else.
            if known is not None and func not in _VIEW and result.shape[-2:] == source.shape[-2:]:
                self._logits[result] = known
            if source in self._factor:
                self._factor[result] = self._factor[source]
        elif known is None:
            return
        elif func in _ADD and isinstance(other, Tensor) and not known.normalized:
            self._logits[result] = replace(known, mask=other if known.mask is None else known.mask + other)
        elif func in _FILL and not known.normalized:
            fill = args[2] if len(args) > 2 else kwargs["value"]
            mask = torch.zeros_like(other, dtype=source.dtype).masked_fill(other, fill)
            self._logits[result] = replace(known, mask=mask if known.mask is None else known.mask + mask)
        elif func in _SOFTMAX:
            self._logits[result] = replace(known, normalized=True)
        elif func is F.dropout:
            p, training = kwargs.get("p", other), kwargs.get("training", args[2] if len(args) > 2 else True)
            self._logits[result] = replace(known, dropout=(0.5 if p is None else p) if training else 0.0)

    def _answer(self, known: _Logits, value: Tensor) -> Tensor:
        query = known.query
        # What the layer multiplied its queries or keys with beforehand belongs to the scale, not to them.
        before = self._factor.get(query, 1.0)
        query = query if before == 1.0 else query / before
        folded = value.dim() == 3
        heads = value.shape[0] // self._batch if folded and self._batch else 1
        query, key, values = (_apart(x, heads) if folded else x for x in (query, known.key, value))
        mask = known.mask
        if mask is not None:
            # The lowest number of a wide type would be minus infinity in a narrow one.
            mask = mask.clamp(min=torch.finfo(query.dtype).min).to(query.dtype)
            if mask.dim() == 3:
                mask = _apart(mask, heads) if folded and len(mask) == len(value) else mask[None]
        record = Record(query, key, values, mask, known.scale, known.dropout)
        output = split_heads(self._see(record), query.shape[1]).to(value.dtype)
        return output.flatten(0, 1) if folded else output


def _apart(x: Tensor, heads: int) -> Tensor:
    """``(B * H, ...)`` to ``(B, H, ...)``."""
    apart: Tensor = x.unflatten(0, (-1, heads))
    return apart


def _number(x: object) -> float | None:
    if isinstance(x, Tensor):
        return x.item() if x.dim() == 0 else None
    return float(x) if isinstance(x, (int, float)) else None


_T = torch.Tensor
_MATMUL = {torch.matmul, torch.bmm, _T.matmul, _T.__matmul__, _T.bmm}
_MULTIPLY = {torch.mul, torch.multiply, _T.mul, _T.mul_, _T.multiply, _T.__mul__, _T.__rmul__, _T.__imul__}
_DIVIDE = {torch.div, torch.true_divide, _T.div, _T.div_, _T.true_divide, _T.__truediv__, _T.__itruediv__}
_SCALE = _MULTIPLY | _DIVIDE
_ADD = {torch.add, _T.add, _T.add_, _T.__add__, _T.__radd__, _T.__iadd__}
_COMMUTING = _MULTIPLY | _ADD
_FILL = {torch.masked_fill, _T.masked_fill, _T.masked_fill_}
_SOFTMAX = {F.softmax, torch.softmax, _T.softmax}
_CAST = {_T.to, _T.type_as, _T.type, _T.float, _T.half, _T.bfloat16, _T.contiguous, _T.clone, _T.detach}
_RESHAPE = {_T.view, _T.reshape, torch.reshape, _T.unflatten, _T.flatten, torch.flatten}
_VIEW = {_T.transpose, torch.transpose, _T.permute, torch.permute, _T.squeeze, _T.unsqueeze, _T.__getitem__}
_FOLLOWED = _MATMUL | _SCALE | _ADD | _FILL | _SOFTMAX | _CAST | _RESHAPE | _VIEW | {F.dropout}
