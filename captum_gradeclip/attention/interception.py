"""One forward pass, intercepted in chosen layers and remembered.

Every encoder we explain computes attention through ``scaled_dot_product_attention``, through
``multi_head_attention_forward``, or by hand as ``matmul``, ``softmax``, ``matmul``. While a chosen layer runs, in this
thread, a :class:`torch.overrides.TorchFunctionMode` sees that one call, lets a *rule* decide what it returns, and keeps
what was seen as a :class:`Record`. The model is neither patched nor copied: the mode is entered and left by the layer's
own hooks, and both hooks are gone when the ``with`` block ends (see :mod:`~captum_gradeclip.attention.call` for interrupts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from .call import function_modes
from .calls import AttentionMode
from .layout import examples_axis
from .record import LayerError, Record, Rule, merge_heads, take_rows
from .tap import Arguments, Function, Keywords, Tap


class Interception(Tap):
    """Context in which the chosen layers answer by a rule and are remembered.

    The forward pass is to run inside, under ``torch.no_grad()``: the first chosen layer that runs switches gradients
    on behind its attention, so that nothing before it builds a graph. Only calls of the thread that entered are seen.

    With ``row``, one token goes on from the attention of a block: queries, keys and values are recorded from all tokens,
    the rest of the block and of the model runs on that token alone. It must be the only one that the output depends on,
    and be the first where it is read; nothing else may be computed from the number of tokens behind the block.

    Args:
        layers: modules of the model, each a block or its attention module, none inside another.
        rule: decides what their attention returns: :func:`model_heads`, :func:`single_head`, :func:`value_only` or a
            function of your own.
        row: index of the token that goes on, for a single layer that is a block; all tokens go on by default.
        graph: whether anything is to be differentiated (default True); False saves time and memory.

    Raises:
        LayerError: if a layer is given twice or lies inside another one.

    >>> from captum_gradeclip.attention import model_heads
    >>> attention = nn.MultiheadAttention(8, num_heads=2, batch_first=True).eval()
    >>> x = torch.randn(1, 5, 8)
    >>> with Interception([attention], model_heads) as seen, torch.no_grad():
    ...     output, _ = attention(x, x, x)
    >>> torch.allclose(output, attention(x, x, x)[0], atol=1e-6)
    True
    >>> seen.records()[0].key.shape
    torch.Size([1, 2, 5, 4])
    """

    def __init__(self, layers: Sequence[nn.Module], rule: Rule, row: int | None = None, graph: bool = True) -> None:
        if row is not None and len(layers) != 1:
            raise LayerError(f"row: one token can go on from a single layer, got {len(layers)} layers")
        inside = [set(layer.modules()) for layer in layers]
        for number, layer in enumerate(layers):
            for place, other in enumerate(layers[:number]):
                if layer in inside[place] or other in inside[number]:
                    raise LayerError(
                        f"layer: {type(layer).__name__} and {type(other).__name__} are the same module or one lies"
                        " inside the other: give each attention once"
                    )
        self._rule, self._graph = rule, graph
        self._watches = [_Watch(layer, self._answer, row) for layer in layers]
        self._ran = 0

    def _taps(self) -> Iterator[tuple[nn.Module, Function, bool]]:
        for watch in self._watches:
            yield watch.layer, self._if_here(watch.enter), False
            yield watch.layer, self._if_here(watch.leave), True

    def _if_here(self, hook: Function) -> Function:
        return lambda *args: hook(*args) if self._here else None

    def close(self) -> None:
        """Takes the hooks away and leaves the modes that are still entered; a second time does nothing."""
        here = self._here
        super().close()
        for watch in self._watches if here else ():
            watch.leave()

    def records(self) -> list[Record]:
        """One record per chosen layer, in the order in which the layers were given.

        Raises:
            LayerError: if a layer made no attention call, or several, or did not run.
        """
        return [watch.record() for watch in self._watches]

    def _answer(self, record: Record) -> Tensor:
        values = self._rule(record)
        if self._graph and not self._ran:
            # What was computed so far carries no graph. From here on everything does, up to the score.
            torch.set_grad_enabled(True)
        output = merge_heads(values)
        if self._graph and not self._ran and not output.requires_grad:
            output = output.detach().requires_grad_()
        record.output, record.order = output, self._ran
        self._ran += 1
        return output


class RowReadings(Interception):
    """An interception of one block, behind which the token that is read goes on once for each of several rules.

    Queries, keys and values of all tokens are computed once. The token that is read answers by each rule, and these answers
    go on side by side, as if there were as many examples for each rule. The model must treat each token on its own there.

    Args:
        layer: a block, the last one of a model that reads one token.
        rules: decide what its attention returns, one after the other.
        row: index of the token that is read (default 0).

    >>> from open_clip.transformer import ResidualAttentionBlock
    >>> from captum_gradeclip.attention import model_heads, single_head
    >>> block = ResidualAttentionBlock(8, 2).eval()
    >>> with RowReadings(block, [model_heads, single_head]) as seen, torch.no_grad():
    ...     output = block(torch.randn(3, 5, 8))
    >>> output.shape, [record.output.shape for record in seen.answers]
    (torch.Size([6, 1, 8]), [torch.Size([3, 1, 8]), torch.Size([3, 1, 8])])
    """

    def __init__(self, layer: nn.Module, rules: Sequence[Rule], row: int = 0) -> None:
        super().__init__([layer], rules[0], row)
        self._rules = rules
        self.answers: list[Record] = []
        """What was given and returned, by rule."""
        (watch,) = self._watches
        watch.answer, watch.copies = self._answer_all, len(rules)

    def _answer_all(self, record: Record) -> Tensor:
        torch.set_grad_enabled(True)
        outputs = [merge_heads(rule(record)).detach().requires_grad_() for rule in self._rules]
        self.answers = [replace(record, output=output) for output in outputs]
        return torch.cat(outputs)


class RowInterception(Interception):
    """An interception whose graph runs along one token of each example, from the first chosen layer to the last.

    All tokens go through the layers without a graph. Beside them, the token that is read goes through each layer once more,
    alone and with its graph, and attends to itself and to all the others. These are constants to it where no token attends
    to those behind it, so that the token that is read can change none that it sees. The backward pass is one of single
    tokens then.

    Args:
        layers: the last blocks of a causal tower, one behind the other.
        rule: decides what their attention returns; it is asked for all tokens, and for the one that is read.
        rows: index of the token that is read in each example, ``(N,)``.

    >>> from open_clip.transformer import ResidualAttentionBlock
    >>> from captum_gradeclip.attention import model_heads
    >>> block, mask = ResidualAttentionBlock(8, 2).eval(), torch.full((5, 5), -torch.inf).triu(1)
    >>> with RowInterception([block], model_heads, torch.tensor([2])) as seen, torch.no_grad():
    ...     output = block(torch.randn(1, 5, 8), attn_mask=mask)
    >>> seen.records()[0].output.shape, output.shape
    (torch.Size([1, 1, 8]), torch.Size([1, 5, 8]))
    """

    def __init__(self, layers: Sequence[nn.Module], rule: Rule, rows: Tensor) -> None:
        super().__init__(layers, rule)
        self._rows = rows
        self._stream: Tensor | None = None
        """The token that is read, on its way from one layer to the next, ``(batch, 1, width)``."""
        for watch in self._watches:
            watch.answer = lambda record: merge_heads(rule(record))

    def _taps(self) -> Iterator[tuple[nn.Module, Function, bool]]:
        for watch in self._watches:
            yield watch.layer, self._if_here(partial(self._enter, watch)), False
            yield watch.layer, self._if_here(partial(self._leave, watch)), True

    def _enter(self, watch: _Watch, layer: nn.Module, args: Arguments, kwargs: Keywords) -> None:
        watch.given = args, kwargs
        watch.enter(layer, args, kwargs)

    def _leave(self, watch: _Watch, layer: nn.Module, _: Arguments, output: Tensor | Arguments | None) -> object:
        watch.leave()
        if output is None or len(watch.seen) != 1:  # the layer raised, or its record will tell what is wrong
            return None
        (whole,), batch = watch.seen, len(self._rows)

        def see(record: Record) -> Tensor:
            key, value = (self._beside(x, one) for x, one in ((whole.key, record.key), (whole.value, record.value)))
            mask = whole.mask
            if mask is not None and mask.shape[-2] > 1:
                mask = mask if mask.dim() == 4 else mask[(None,) * (4 - mask.dim())]
                mask = take_rows(mask.expand(batch, -1, -1, -1).transpose(0, 1), self._rows).transpose(0, 1)
            alone = Record(record.query, key, value, mask, whole.scale, whole.dropout)
            watch.seen = [alone]
            return self._answer(alone)

        def row(x: Tensor) -> Tensor:
            axis = examples_axis(x, batch)
            stream = take_rows(x.transpose(0, axis), self._rows) if self._stream is None else self._stream
            return stream.transpose(0, axis)

        tokens: Tensor = output[0] if isinstance(output, tuple) else output
        axis = examples_axis(tokens, batch)
        with torch.set_grad_enabled(self._stream is not None):
            args, kwargs = _with_tokens(*watch.given, row)
            watch.given = (), {}  # what is not needed any more
            with AttentionMode(see, batch):
                found = layer.forward(*args, **kwargs)
            one: Tensor = found[0] if isinstance(found, tuple) else found
            self._stream = one.transpose(0, axis)
        if self._ran < len(self._watches):
            return None
        torch.set_grad_enabled(True)
        changed = self._beside(tokens.transpose(0, axis)[:, None], self._stream[:, None])[:, 0].transpose(0, axis)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def _beside(self, x: Tensor, one: Tensor) -> Tensor:
        """``x`` ``(batch, heads, tokens, width)`` with ``one`` of them in the place of the token that is read."""
        index = self._rows.to(x.device)[:, None, None, None].expand_as(one)
        return x.scatter(2, index, one.to(x.dtype))


class _Watch:
    """What the two hooks of one layer do, and what they saw."""

    def __init__(self, layer: nn.Module, answer: Callable[[Record], Tensor], row: int | None = None) -> None:
        self.layer, self.answer, self.row, self.copies = layer, answer, row, 1
        self.seen: list[Record] = []
        self.runs = 0
        self.given: tuple[Arguments, Keywords] = (), {}
        self.depth: int | None = None
        """Number of modes below the one that is entered, while it is."""

    def enter(self, _: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords] | None:
        self.runs += 1
        sizes = [len(x) for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dim() > 1]
        batch = sizes[0] if sizes else None
        if self.row is None:
            changed, mode = None, AttentionMode(self._see, batch)
        else:
            whole = self._look_ahead(args, kwargs, batch)
            row = self.row
            axis = partial(examples_axis, batch=whole.query.shape[0])
            changed = _with_tokens(args, kwargs, lambda x: torch.cat([x.narrow(1 - axis(x), row, 1)] * self.copies, axis(x)))
            alone = whole.at(row)
            mode = AttentionMode(lambda _: self._see(alone), None if batch is None else batch * self.copies)
        self.depth = function_modes()
        mode.__enter__()  # type: ignore[no-untyped-call]
        return changed

    def _look_ahead(self, args: Arguments, kwargs: Keywords, batch: int | None) -> Record:
        """What the layer's attention will be given, by running the layer up to there."""
        found: list[Record] = []

        def see(record: Record) -> Tensor:
            found.append(record)
            raise _Seen

        try:
            with AttentionMode(see, batch):
                self.layer.forward(*args, **kwargs)
        except _Seen:
            return found[0]
        return self.record()  # raises: there was no attention call

    def leave(self, *_: object) -> None:
        """Leaves the mode, and any other that an exception left above it."""
        while self.depth is not None and function_modes() > self.depth:
            torch._C._pop_torch_function_stack()
        self.depth = None

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
                + (
                    f"; a {name} is one layer, and a slice of one is a new container that nothing runs: give a list of"
                    " layers, list(model.blocks[-1:]) for example"
                    if isinstance(self.layer, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
                    else " (under nn.DataParallel layers run as copies in other threads: explain the bare model, its"
                    " .module; torch.compile runs none of them: explain the module it was given)"
                )
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
        # One of the modules inside is a way out only if each of them makes one of the calls.
        innermost = [one for one in inside if not any(other.startswith(f"{one.partition(' ')[0]}.") for other in inside)]
        advice = (
            f"choose one of its attention modules: {', '.join(innermost)}"
            if len(innermost) == len(self.seen) / max(self.runs, 1) > 1
            else "choose a layer that runs once"
            if self.runs > 1
            else "attention that is made of several calls is not supported; choose a layer of another kind"
        )
        raise LayerError(
            f"layer: {name} {again}made {len(self.seen)} attention calls in one forward pass, expected exactly one; {advice}"
        )


class _Seen(Exception):
    """Leaves a layer whose attention call has been seen."""


def _with_tokens(args: Arguments, kwargs: Keywords, change: Callable[[Tensor], Tensor]) -> tuple[Arguments, Keywords]:
    """The arguments of a block with other tokens in place of those ``(batch, tokens, width)`` that it was given."""
    done = False

    def cut(x: object) -> object:
        nonlocal done
        if done or not isinstance(x, Tensor) or x.dim() != 3:
            return x
        done = True
        return change(x)

    changed = tuple(cut(x) for x in args), {name: cut(x) for name, x in kwargs.items()}
    if not done:
        raise LayerError("row: the layer has no input (batch, tokens, width); one token can go on from a block only")
    return changed
