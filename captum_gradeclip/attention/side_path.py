"""What the attention of a block would add to its input, if it answered by another rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import torch
from torch import Tensor, nn

from .calls import AttentionMode
from .layout import examples_axis
from .record import LayerError, Record, Rule, merge_heads
from .tap import Arguments, Function, Keywords, Tap


class SidePath(Tap):
    """Context in which chosen blocks also tell what their attention would add to the residual stream by another rule.

    The model itself runs on as it is: beside each block, the part up to the sum of the block's input with its attention is
    run once more with the rule. The projections, layer scales and norms on that way are the model's own.

    Args:
        layers: blocks that compute ``x + attention(x) + ...``.
        rule: decides what their attention returns beside the model's own answer.
        batch: number of examples.
        axis: dimension of the examples in the blocks' input, 0 or 1, where it is known from another pass; by default the
            shape shows it.

    Raises:
        LayerError: if a block does not add the outcome of its attention to its input.

    >>> from torchvision.models.vision_transformer import EncoderBlock
    >>> from captum_gradeclip.attention import value_only
    >>> block = EncoderBlock(2, 8, 16, dropout=0.0, attention_dropout=0.0).eval()
    >>> with SidePath([block], value_only, 1) as beside, torch.no_grad():
    ...     output = block(torch.randn(1, 5, 8))
    >>> beside.inputs[0].shape, beside.added[0].shape
    (torch.Size([1, 5, 8]), torch.Size([1, 5, 8]))
    """

    def __init__(self, layers: Sequence[nn.Module], rule: Rule, batch: int, axis: int | None = None) -> None:
        self._layers, self._rule, self._batch, self._axis = layers, rule, batch, axis
        self.inputs: list[Tensor] = []
        """The input of each block, in the order in which they ran, ``(batch, tokens, width)``."""
        self.added: list[Tensor] = []
        """What the rule's attention adds to it, of the same shape."""

    def _taps(self) -> Iterator[tuple[nn.Module, Function]]:
        for layer in self._layers:
            yield layer, self._run

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
        if kind is None and len(self.added) != len(self._layers):
            raise LayerError(f"layer: {len(self._layers)} blocks ran {len(self.added)} times, expected once each")

    def _run(self, layer: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        if not self._here:
            return
        streams = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dim() == 3]
        stream = streams[0] if streams else None
        added: Tensor | None = None
        if stream is not None:
            try:
                with _UpToSum(stream, self._rule, self._batch):
                    layer.forward(*args, **kwargs)
            except _Added as found:
                added = found.tensor
        if stream is None or added is None:
            raise LayerError(
                f"layer: {type(layer).__name__} does not add what its attention returns to its input; give whole blocks,"
                " not their attention modules"
            )
        axis = examples_axis(stream, self._batch) if self._axis is None else self._axis
        self.inputs.append(stream.transpose(0, axis))
        self.added.append(added.transpose(0, axis))


class _Added(Exception):
    """Leaves a block whose attention has been added to its input."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor = tensor


class _UpToSum(AttentionMode):
    """Answers by the rule, and stops the block at the sum of its input with something."""

    def __init__(self, stream: Tensor, rule: Rule, batch: int) -> None:
        super().__init__(self._answer, batch)
        self.stream, self.rule, self.answered = stream, rule, False

    def _answer(self, record: Record) -> Tensor:
        self.answered = True
        return merge_heads(self.rule(record))

    def __torch_function__(
        self, func: Function, types: object, args: Arguments = (), kwargs: Keywords | None = None
    ) -> object:
        if self.answered and func in _SUM and any(x is self.stream for x in args[:2]):
            raise _Added(args[1] if args[0] is self.stream else args[0])
        return super().__torch_function__(func, types, args, kwargs)


_SUM = {torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}
