"""What one attention call was given and returned, with the rules that decide what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


class LayerError(ValueError):
    """A chosen layer cannot be intercepted: it has no attention call, several of them, or never ran."""


@dataclass
class Record:
    """What one attention call was given, and what it returned.

    Attributes:
        query: queries ``(B, H, Lq, d)``, one slice per head of the model, before they are scaled.
        key: keys ``(B, H, Lk, d)``.
        value: values ``(B, H, Lk, dv)``.
        mask: additive mask that broadcasts to ``(B, H, Lq, Lk)``; a causal flag arrives here as a mask, and ``None`` means
            that every query sees every key.
        scale: factor on ``query . key`` with the model's own heads, usually ``d ** -0.5``.
        dropout: probability with which the layer drops attention weights, from 0 to 1 (default 0, as in evaluation mode).
        output: what the rule returned, ``(B, Lq, H * dv)``, heads side by side, in front of any output projection.
            It takes part in the graph of the forward pass, so gradients can be asked for at this place.
        order: place of the layer among the chosen ones in the order in which they ran, counted from 0.
        attention: the attention weights ``(B, H, Lq, Lk)`` that made the output, if the rule keeps them in the graph.

    >>> record = Record(*torch.randn(3, 2, 4, 5, 8), mask=None, scale=8**-0.5)  # 2 examples, 4 heads, 5 tokens
    >>> record.heads, record.probabilities().shape, record.merged().query.shape
    (4, torch.Size([2, 4, 5, 5]), torch.Size([2, 1, 5, 32]))
    >>> record.at(0).query.shape, record.visible() is None  # the query of one token, which sees all keys
    (torch.Size([2, 4, 1, 8]), True)
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    dropout: float = 0.0
    output: Tensor | None = None
    order: int = 0
    attention: Tensor | None = None

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

    def at(self, row: int) -> Record:
        """The same call with the query of one token."""
        mask = self.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., row : row + 1, :]
        query = self.query[..., row : row + 1, :]
        return Record(query, self.key, self.value, mask, self.scale, self.dropout, self.output, self.order)

    def visible(self, rows: Tensor | None = None) -> Tensor | None:
        """Which keys the queries may attend to, boolean, ``(B or 1, H or 1, R, Lk)``; ``None`` if they see all.

        A key is hidden by minus infinity, or by whatever large negative number a library writes in its place.

        Args:
            rows: index of one query in each example, ``(B,)``; ``None`` (default) for all queries.
        """
        if self.mask is None:
            return None
        mask = self.mask if self.mask.dim() == 4 else self.mask[(None,) * (4 - self.mask.dim())]
        if rows is not None and mask.shape[-2] > 1:
            mask = mask.expand(len(rows), -1, -1, -1).take_along_dim(rows.to(mask.device)[:, None, None, None], dim=-2)
        seen = mask > mask.amax(dim=-1, keepdim=True) - _HIDDEN
        return None if bool(seen.all()) else seen.expand(*seen.shape[:-1], self.key.shape[-2])

    def mean_row(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Of ``x`` ``(..., B, Lq, C)`` the row ``rows[b]`` of each example, or for ``None`` the mean of all but padding."""
        visible = self.visible() if rows is None and self.query.shape[-2] == self.key.shape[-2] else None
        if visible is None:
            return take_rows(x, rows).mean(dim=-2)
        words = visible.flatten(1, 2).any(dim=1).to(x.dtype)  # a key that no query sees is padding
        return ((words / words.sum(dim=-1, keepdim=True))[..., None] * x).sum(dim=-2)

    def probabilities(self) -> Tensor:
        """Attention weights ``softmax(scale * q k^T + mask)`` of this record's heads, ``(B, H, Lq, Lk)``.

        In single precision at least: the products of wide heads leave the range of half precision.
        """
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        with torch.autocast(self.query.device.type, enabled=False):
            logits = (self.query.to(dtype) * self.scale) @ self.key.to(dtype).mT
        return (logits if self.mask is None else logits + self.mask).softmax(dim=-1)


_HIDDEN = 1000.0
"""How far below the others a mask is where it hides a key; learned biases of positions are far from it."""


def take_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """Takes one row of each example.

    Args:
        x: values of all rows ``(..., N, Lq, C)``.
        rows: the row of each example ``(N,)``, integer; ``None`` for all rows.

    Returns:
        ``(..., N, 1, C)``, or ``x`` itself for ``None``.

    >>> take_rows(torch.arange(6.0).view(2, 3, 1), torch.tensor([0, 2])).flatten()
    tensor([0., 5.])
    """
    if rows is None or x.shape[-2] == 1:  # of thousands of targets, even a copy takes a while
        return x
    index = rows.to(x.device)[:, None, None]
    return x.take_along_dim(index[(None,) * (x.dim() - 3)], dim=-2)


Rule = Callable[[Record], Tensor]
"""Decides what an attention call returns: a record without output to values per head, ``(B, heads, Lq, dv)``."""


def model_heads(record: Record) -> Tensor:
    """The model's own multi-head attention: with this rule a model reproduces its own output.

    Args:
        record: what the intercepted call was given.

    Returns:
        Values per head ``(B, heads, Lq, dv)``.

    >>> key, value = torch.zeros(1, 1, 2, 4), torch.tensor([[[[1.0], [3.0]]]])
    >>> model_heads(Record(key[:, :, :1], key, value, None, 0.5)).flatten()  # equal keys: the mean of the values
    tensor([2.])
    """
    return F.scaled_dot_product_attention(
        record.query,
        record.key,
        record.value,
        attn_mask=record.mask,
        dropout_p=record.dropout,
        scale=record.scale,
    )


def kept_attention(record: Record) -> Tensor:
    """The model's own heads, with their attention weights in the graph and on the record, so that gradients reach them.

    Args:
        record: what the intercepted call was given.

    Returns:
        Values per head ``(B, heads, Lq, dv)``.

    >>> record = Record(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4), torch.ones(1, 2, 3, 4), None, 0.5)
    >>> output = kept_attention(record)
    >>> torch.autograd.grad(output.sum(), record.attention)[0].unique()  # each weight brings four values of 1
    tensor([4.])
    """
    with torch.enable_grad():
        attention = record.probabilities()
        record.attention = attention if attention.requires_grad else attention.requires_grad_()
        return record.attention.to(record.value.dtype) @ record.value


def single_head(record: Record) -> Tensor:
    """One head over all channels with scale ``C ** -0.5``, as Grad-ECLIP runs the layers it explains.

    Args:
        record: what the intercepted call was given.

    Returns:
        Values of the one head ``(B, 1, Lq, C)``.

    >>> record = Record(*torch.randn(3, 2, 4, 5, 8), mask=None, scale=8**-0.5)
    >>> model_heads(record).shape, single_head(record).shape
    (torch.Size([2, 4, 5, 8]), torch.Size([2, 1, 5, 32]))
    """
    return model_heads(record.merged())


def value_only(record: Record) -> Tensor:
    """Every token returns its own value, as MaskCLIP does; queries and keys must be the same tokens.

    Args:
        record: what the intercepted call was given.

    Returns:
        Values per head ``(B, heads, Lq, dv)``.

    Raises:
        LayerError: when the layer has another number of queries than of keys (an attention pool, say).

    >>> record = Record(*torch.randn(3, 2, 4, 5, 8), mask=None, scale=8**-0.5)
    >>> torch.equal(value_only(record), record.value)
    True
    """
    if record.query.shape[-2] != record.key.shape[-2]:
        raise LayerError(
            f"value-only attention needs as many queries as keys, got {record.query.shape[-2]} and "
            f"{record.key.shape[-2]}: choose a self-attention layer"
        )
    return record.value


def value_value(record: Record) -> Tensor:
    """Every token attends with its values in place of query and key, as CLIP Surgery does.

    Args:
        record: what the intercepted call was given.

    Returns:
        Values per head ``(B, heads, Lq, dv)``.

    >>> value = torch.tensor([[[[100.0, 0.0], [0.0, 100.0]]]])
    >>> key = torch.zeros(1, 1, 2, 2)  # all alike, so that the layer itself would return the mean
    >>> value_value(Record(key, key, value, None, 1.0))  # by its value, each token finds itself
    tensor([[[[100.,   0.],
              [  0., 100.]]]])
    """
    return F.scaled_dot_product_attention(
        record.value, record.value, record.value, attn_mask=record.mask, scale=record.scale
    )


def merge_heads(x: Tensor) -> Tensor:
    """Puts heads side by side.

    Args:
        x: values per head ``(B, H, L, d)``.

    Returns:
        ``(B, L, H * d)``.

    >>> merge_heads(torch.zeros(2, 4, 5, 3)).shape
    torch.Size([2, 5, 12])
    """
    return x.transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """The inverse of :func:`merge_heads`.

    Args:
        x: values of all heads side by side ``(B, L, H * d)``.
        heads: number H of heads.

    Returns:
        ``(B, H, L, d)``.

    >>> split_heads(torch.zeros(2, 5, 12), 4).shape
    torch.Size([2, 4, 5, 3])
    """
    apart: Tensor = x.unflatten(-1, (heads, -1))
    return apart.transpose(1, 2)
