"""What a block would hand on by several rules, in one pass of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .calls import AttentionMode
from .layout import examples_axis
from .record import LayerError, Record, Rule, merge_heads
from .replace_output import tokens_as_batch
from .tap import Arguments, Function, Keywords, Tap


@dataclass
class Answer:
    """One more run of a block.

    Attributes:
        rule: decides what the block's attention returns in this run.
        apart: whether the run has a graph of its own, which begins at the block's input, and hands on the first token only;
            if not (default), its graph is that of the pass, and it hands on all tokens.
        input: what the block was given in this run, ``(batch, tokens, width)`` or ``(tokens, batch, width)``.
        record: what its attention was given and returned.

    >>> from captum_gradeclip.attention import single_head
    >>> Answer(single_head, apart=True).record is None  # until the block has run
    True
    """

    rule: Rule
    apart: bool = False
    input: Tensor | None = None
    record: Record | None = None


class SeveralAnswers(Tap):
    """Context in which a block runs again by other rules, and the rest of the model reads single tokens of all runs.

    Everything in front of the block is computed once. Behind it, each token is the only one of an example of its own: the
    first one of the model's own run, then those of each answer. The model must treat each token on its own there.

    Args:
        layer: a block, the last one of a model that reads its first token.
        batch: number of examples.
        answers: the further runs.
        axis: dimension of the examples in the block's output, 0 or 1, where it is known from another pass; by default the
            shape shows it.

    Raises:
        LayerError: if the block does not run exactly once, or a run of it makes another number of attention calls than one.

    >>> from torchvision.models.vision_transformer import EncoderBlock
    >>> from captum_gradeclip.attention import value_only
    >>> block = EncoderBlock(2, 8, 16, dropout=0.0, attention_dropout=0.0).eval()
    >>> with SeveralAnswers(block, 1, [Answer(value_only)]) as several:
    ...     output = block(torch.randn(1, 5, 8))
    >>> [part.shape for part in several.split(output)]
    [torch.Size([1, 1, 1, 8]), torch.Size([1, 5, 1, 8])]
    """

    def __init__(self, layer: nn.Module, batch: int, answers: Sequence[Answer], axis: int | None = None) -> None:
        self._layer, self._batch, self._answers, self._axis = layer, batch, answers, axis
        self._given: tuple[Arguments, Keywords] = (), {}
        self._counts: list[int] = []
        self._runs = 0

    def _taps(self) -> Iterator[tuple[nn.Module, Function] | tuple[nn.Module, Function, bool]]:
        yield self._layer, self._enter
        yield self._layer, self._leave, True

    def split(self, output: Tensor) -> list[Tensor]:
        """What the model made of the tokens ``(number of all, ...)``, by run, each ``(batch, tokens, ...)``.

        Raises:
            LayerError: if the block did not run exactly once.
        """
        if self._runs != 1:
            raise LayerError(f"layer: {type(self._layer).__name__} ran {self._runs} times in this pass, expected once")
        return [part.unflatten(0, (self._batch, -1)) for part in output.split(self._counts)]

    def _enter(self, layer: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        if self._here and not self._given[0] and not self._given[1]:
            self._given = args, kwargs

    def _leave(self, layer: nn.Module, _: Arguments, output: Tensor | Arguments | None) -> object:
        if not self._here or output is None:  # there is no output where the layer raised
            return None
        self._runs += 1
        own: Tensor = output[0] if isinstance(output, tuple) else output
        axis = self._axis = examples_axis(own, self._batch) if self._axis is None else self._axis
        parts = [own.transpose(0, axis)[:, :1], *(self._run(answer, axis) for answer in self._answers)]
        self._given = (), {}  # what is not needed any more
        self._counts = [part.shape[0] * part.shape[1] for part in parts]
        handed = torch.cat([tokens_as_batch(part) for part in parts]).transpose(0, axis)
        return (handed, *output[1:]) if isinstance(output, tuple) else handed

    def _run(self, answer: Answer, axis: int) -> Tensor:
        args, kwargs = self._given
        stream = next(x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dim() == 3)
        answer.input = stream.detach().requires_grad_() if answer.apart else stream
        args = tuple(answer.input if x is stream else x for x in args)
        kwargs = {name: answer.input if x is stream else x for name, x in kwargs.items()}
        records: list[Record] = []

        def see(record: Record) -> Tensor:
            records.append(record)
            record.output = merge_heads(answer.rule(record))
            return record.output

        with AttentionMode(see, self._batch):
            output = self._layer.forward(*args, **kwargs)
        if len(records) != 1:
            raise LayerError(f"layer: {type(self._layer).__name__} made {len(records)} attention calls, expected one")
        answer.record = records[0]
        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        tokens = tokens.transpose(0, axis)
        return tokens[:, :1] if answer.apart else tokens
