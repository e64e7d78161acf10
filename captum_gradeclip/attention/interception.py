"""One forward pass, intercepted in chosen layers and remembered.

Every encoder we explain computes attention through ``scaled_dot_product_attention``, through
``multi_head_attention_forward``, or by hand as ``matmul``, ``softmax``, ``matmul``. While a chosen layer runs, in this
thread, a :class:`torch.overrides.TorchFunctionMode` sees that one call, lets a *rule* decide what it returns, and keeps
what was seen as a :class:`Record`. The model is neither patched nor copied: the mode is entered and left by the layer's
own hooks, and both hooks are gone when the ``with`` block ends (see :mod:`~captum_gradeclip.attention.call` for interrupts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from .call import function_modes
from .calls import AttentionMode
from .layout import examples_axis
from .record import LayerError, Record, Rule, merge_heads
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
        for number, layer in enumerate(layers):
            for other in layers[:number]:
                if any(module is layer for module in other.modules()) or any(module is other for module in layer.modules()):
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


class _Watch:
    """What the two hooks of one layer do, and what they saw."""

    def __init__(self, layer: nn.Module, answer: Callable[[Record], Tensor], row: int | None = None) -> None:
        self.layer, self.answer, self.row = layer, answer, row
        self.seen: list[Record] = []
        self.runs = 0
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
            changed, alone = _one_token(args, kwargs, whole, self.row), whole.at(self.row)
            mode = AttentionMode(lambda _: self._see(alone), batch)
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


def _one_token(args: Arguments, kwargs: Keywords, record: Record, row: int) -> tuple[Arguments, Keywords]:
    """The arguments of a block with one token in place of all."""
    done = False

    def cut(x: object) -> object:
        nonlocal done
        if done or not isinstance(x, Tensor) or x.dim() != 3:
            return x
        done = True
        return x.narrow(1 - examples_axis(x, record.query.shape[0]), row, 1)

    changed = tuple(cut(x) for x in args), {name: cut(x) for name, x in kwargs.items()}
    if not done:
        raise LayerError("row: the layer has no input (batch, tokens, width); one token can go on from a block only")
    return changed
