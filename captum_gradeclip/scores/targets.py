"""What is asked of a score: one target or many, in one form, and the gradient of what they pick."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from ..notices import notice
from ..quoting import quoted

Target: TypeAlias = "int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None"
"""Captum's kinds of target: an index, or one for each example, or ``None`` where an example has one score."""
Columns: TypeAlias = "Sequence[int] | Sequence[Sequence[int]] | Tensor | None"
"""Several targets: indices ``(T,)`` for all examples, ``(N, T)`` with a row for each of N, or ``None`` for every column."""


@dataclass(frozen=True)
class Targets:
    """T targets for each of N examples.

    Attributes:
        index: the places ``(T, N)`` of the picked scores among all scores of an example, counted from 0.
        shape: shape of the scores of one example.

    >>> output = torch.arange(6.0).view(2, 3)
    >>> Targets.parse([2, 0], output).pick(output)
    tensor([[2., 3.]])
    >>> Targets.columns([0, -1], output).pick(output)
    tensor([[0., 3.],
            [2., 5.]])
    >>> Targets.columns([[0, 1], [2, 1]], output).pick(output).T  # two for each example, its own ones
    tensor([[0., 1.],
            [5., 4.]])
    """

    index: Tensor
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, target: Target, output: Tensor) -> Targets:
        """One target (T = 1) of any of Captum's kinds.

        Args:
            target: an index, a tuple of indices for scores of several dimensions, a list or tensor of one index for each
                example, a list of tuples, or ``None`` if each example has one score.
            output: scores ``(N, ...)``.

        Raises:
            AssertionError: for a wrong target, as in Captum.
        """
        count, shape = (len(output), tuple(output.shape[1:])) if output.dim() else (1, ())
        if isinstance(target, Tensor):
            target = _numbers(target, count)
        if target is None:
            if prod(shape) != 1:
                raise AssertionError(
                    f"target: None leaves all of an output of shape {tuple(output.shape)}, expected one score for each of"
                    " the inputs; give an index into the last dimension"
                )
            places = [0] * count
        elif isinstance(target, list):
            if len(target) != count:
                raise AssertionError(f"target: expected one for each of the {count} inputs, got {quoted(target)}")
            # Captum gathers lists of numbers, for which torch refuses negative ones, but indexes with tuples.
            places = [_place(one, shape, output, target, 0 if isinstance(one, int) else None) for one in target]
        else:
            places = [_place(target, shape, output, target)] * count
        return cls(torch.tensor([places], device=output.device), shape)

    @classmethod
    def columns(cls, targets: Columns, output: Tensor) -> Targets:
        """Several columns of scores ``(N, T)``.

        Args:
            targets: indices, the same for every example; or as many for each example, its own ones; or ``None`` for all
                columns.
            output: scores ``(N, T)``.

        Raises:
            AssertionError: for an output that is not ``(N, T)``, or an index outside it.
        """
        if output.dim() != 2 or not output.shape[1]:
            raise AssertionError(f"targets: expected an output (N, T) with T at least 1, got shape {tuple(output.shape)}")
        examples, count = output.shape
        chosen = parse_columns(targets, examples)
        chosen = torch.arange(count) if chosen is None else chosen
        for column in chosen.flatten().tolist():
            if not -count <= column < count:
                raise AssertionError(f"targets: expected indices below {count}, got {column}")
        return cls((chosen.to(output.device) % count).expand(examples, -1).T, (count,))

    def __len__(self) -> int:
        return len(self.index)

    def split(self, size: int) -> Iterator[Targets]:
        """Groups of at most ``size`` targets."""
        return (replace(self, index=part) for part in self.index.split(max(1, size)))

    def pick(self, values: Tensor) -> Tensor:
        """Values of all targets ``(N, ..., *shape)`` to those that are asked for ``(T, N, ...)``.

        There may be ``k`` values for each example, ``(N * k, ...)``, side by side; then the result is ``(T, N * k, ...)``.
        """
        flat = values.flatten(values.dim() - len(self.shape)) if self.shape else values[..., None]
        index = self.index.repeat_interleave(len(flat) // self.index.shape[1], dim=1)
        index = index.view(*index.shape, *[1] * (flat.dim() - 1))
        return flat.expand(len(index), *flat.shape).gather(-1, index.expand(*index.shape[:2], *flat.shape[1:-1], 1))[..., 0]

    def _seeds(self, output: Tensor) -> Tensor:
        """1 at the picked scores of each target and 0 at all others, ``(T, *output.shape)``.

        With these the scores themselves are differentiated. To differentiate what :meth:`pick` returns would take all scores
        of all targets once more for each target.
        """
        index = self.index.repeat_interleave(len(output) // self.index.shape[1], dim=1)[..., None]
        seeds = output.new_zeros(len(self), len(output), prod(self.shape)).scatter_(2, index, 1)
        return seeds.view(len(self), *output.shape)

    def gradient(
        self, output: Tensor, at: Sequence[Tensor], grad_kwargs: Mapping[str, object] | None = None
    ) -> list[Tensor]:
        """The gradient of the picked scores at some tensors, ``(T, *tensor.shape)`` for each.

        Examples do not touch each other, so the gradient of the sum over them holds the gradient of each.

        Args:
            output: scores ``(N, ...)`` with their graph.
            at: tensors of that graph.
            grad_kwargs: further arguments of :func:`torch.autograd.grad`, ``{"create_graph": True}`` for example.

        Raises:
            ValueError: if the scores do not depend on a tensor, or blocks run again during the backward pass.
        """
        with _differentiating(output, at):
            found = _gradients(
                output, self._seeds(output), at, {"allow_unused": True, **(grad_kwargs or {}), "retain_graph": True}
            )
        gradients = _reached(found)
        if not any(one.any() for one in gradients):
            notice(
                "the gradient of the score at the chosen layers is exactly zero, so the map does not show what the score"
                " depends on: either it does not depend on this input, or the layers come after the token that is read",
                stacklevel=4,
            )
        return gradients


def tangents(output: Tensor, at: Sequence[Tensor], changes: Sequence[Tensor]) -> Tensor:
    r"""How the outputs answer to small changes of some tensors behind them, to first order.

    .. math:: \sum_l J_l u_l = \nabla_w \Big\langle \sum_l J_l^\top w, u_l \Big\rangle, \quad
        J_l = \frac{\partial f}{\partial o_l}

    The gradient is linear in the weights :math:`w` of the outputs, so that its own gradient is what forward mode would
    compute: one backward pass and one through it for each change, however many outputs there are. It needs no second run
    of the model, whose modules may know nothing of forward mode, and no fused kernel of attention, which has no second
    derivative.

    Args:
        output: outputs ``(N, D)`` with their graph.
        at: tensors of that graph.
        changes: K changes of each tensor, ``(K, *tensor.shape)``.

    Returns:
        ``(K, N, D)``, without a graph.

    Raises:
        ValueError: if the outputs do not depend on a tensor, or blocks run again during the backward pass.

    >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    >>> tangents(x**2, [x], [torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])])
    tensor([[[2., 0.]],
    <BLANKLINE>
            [[0., 4.]]])

    Source: the two passes are known as the double-backward trick for products of a Jacobian with vectors.
    """
    with _differentiating(output, at):
        weights = torch.zeros_like(output, requires_grad=True)
        gradients = torch.autograd.grad(output, at, weights, create_graph=True, retain_graph=True, allow_unused=True)
        reached = _reached(gradients)
        stacked = [change.to(gradient.dtype) for change, gradient in zip(changes, reached)]
        (found,) = _batched(reached, [weights], stacked, {"retain_graph": True})
    assert found is not None
    return found.detach()


@contextmanager
def _differentiating(output: Tensor, at: Sequence[Tensor]) -> Iterator[None]:
    """The grad mode in which an output is differentiated at some tensors; what cannot be is told by name."""
    check_differentiable(output)
    if not all(tensor.requires_grad for tensor in at):
        raise ValueError(
            "layer: a chosen layer ran without a graph, as re-entrant gradient checkpointing runs it; switch it off for"
            " the explanation, model.gradient_checkpointing_disable()"
        )
    with torch.inference_mode(False), torch.enable_grad():
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, CheckpointError) or "torch.utils.checkpoint" in str(error) or "Checkpointing" in str(error):
                raise ValueError(
                    "layer: gradient checkpointing runs blocks a second time, outside the interception; switch it off"
                    " for the explanation, model.set_grad_checkpointing(False) or model.gradient_checkpointing_disable()"
                ) from error
            raise


def _reached(found: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients at all tensors.

    Raises:
        ValueError: if one of them is none, since the score does not depend on the tensor.
    """
    if any(one is None for one in found):
        raise ValueError(
            "layer: a chosen layer ran, but the score does not depend on it; choose layers on the way to the score"
        )
    return [one for one in found if one is not None]


def _gradients(
    output: Tensor, seeds: Tensor, at: Sequence[Tensor], grad_kwargs: dict[str, object]
) -> Sequence[Tensor | None]:
    """Gradients ``(T, ...)`` from T seeds at the scores, in one batched backward pass where that is possible."""
    return _batched([output], at, [seeds], grad_kwargs)


def _batched(
    outputs: Sequence[Tensor], at: Sequence[Tensor], seeds: Sequence[Tensor], grad_kwargs: dict[str, object]
) -> Sequence[Tensor | None]:
    """Gradients ``(T, ...)`` from T seeds at each of several outputs, in one batched backward pass where possible."""
    if len(seeds[0]) > 1 and not torch.is_anomaly_enabled():
        try:
            return _at_once(outputs, seeds, at, grad_kwargs)
        except (CheckpointError, torch.cuda.OutOfMemoryError):
            raise  # one after the other would not help
        except RuntimeError:
            pass  # a backward function of somebody's own may not be batched; one after the other, a real error comes again
    rows = [torch.autograd.grad(outputs, at, seed, **grad_kwargs) for seed in zip(*seeds)]  # type: ignore[call-overload]
    return [None if column[0] is None else torch.stack(column) for column in zip(*rows)]


def _levels() -> int:
    """How many transforms of functorch are open in this thread."""
    return len(torch._C._functorch.get_interpreter_stack() or [])


def _at_once(
    outputs: Sequence[Tensor], seeds: Sequence[Tensor], at: Sequence[Tensor], grad_kwargs: dict[str, object]
) -> Sequence[Tensor | None]:
    """All gradients in one backward pass.

    ``is_grads_batched`` takes the older ``vmap`` of torch, which has no rule for GELU and layer norm and runs these once for
    each seed; the newer one has none for attention, and warns of it.
    """
    if any(map(_passes_attention, outputs)):
        return torch.autograd.grad(outputs, at, seeds, is_grads_batched=True, **grad_kwargs)  # type: ignore[call-overload, no-any-return]
    reached: list[bool] = []

    def one(*seed: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(outputs, at, seed, **grad_kwargs)  # type: ignore[call-overload]
        reached[:] = [gradient is not None for gradient in found]
        return [gradient for gradient in found if gradient is not None]

    levels = _levels()
    try:
        found = iter(torch.func.vmap(one)(*seeds))
    finally:
        # An interrupt in between torch's own lines leaves its level behind, inside of which all later calls would fail.
        while _levels() > levels:
            torch._C._functorch.pop_dynamic_layer_stack()
    return [next(found) if there else None for there in reached]


def _passes_attention(output: Tensor) -> bool:
    """Whether the graph of a tensor holds an attention that torch computes in one piece."""
    seen, left = set(), [output.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if "ScaledDotProduct" in node.name():
            return True
        seen.add(node)
        left.extend(one for one, _ in node.next_functions)
    return False


def parse_columns(targets: Columns, examples: int) -> Tensor | None:
    """Several targets as a tensor of integers, ``(T,)`` for all examples or ``(N, T)`` with a row for each.

    Raises:
        AssertionError: for anything but indices, or another number of rows than of examples.
    """
    if targets is None:
        return None
    try:
        found = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if not whole or not found.numel() or not (found.dim() == 1 or (found.dim() == 2 and len(found) == examples)):
        raise AssertionError(
            "targets: expected column indices, a sequence for all inputs or one of the same length for each of the"
            f" {examples} inputs, got {quoted(targets)}"
        )
    return found.long()


def check_differentiable(output: Tensor) -> None:
    """Refuses a score without a graph.

    Raises:
        ValueError: if nothing could be differentiated.
    """
    if not output.requires_grad:
        raise ValueError(
            "forward_func: its output does not depend on the chosen layer through differentiable operations; choose a layer"
            " of the tower that makes the score, and do not detach, threshold or enter inference_mode in between"
        )


def _numbers(target: Tensor, count: int) -> int | list[int]:
    """A tensor of indices as Captum reads it: one element for all examples, or one element for each."""
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise AssertionError(f"target: expected integers, got a tensor of {target.dtype}")
    if target.numel() == 1:
        return int(target)
    if target.dim() != 1 or len(target) != count:
        raise AssertionError(f"target: expected one for each of the {count} inputs, got {quoted(target)}")
    return [int(one) for one in target]


def _place(
    one: int | tuple[int, ...], shape: tuple[int, ...], output: Tensor, target: object, lowest: int | None = None
) -> int:
    """The place of an index among the flattened scores of an example."""
    indices = one if isinstance(one, tuple) else (one,)
    whole = all(isinstance(index, int) and not isinstance(index, bool) for index in indices)
    if not whole or len(indices) > len(shape) or prod(shape[len(indices) :]) != 1:
        raise AssertionError(
            f"target: expected an index into an output of shape {tuple(output.shape)} that leaves one score for each input,"
            f" got {quoted(target)}"
        )
    place = 0
    for index, size in zip(indices, shape):
        if not (-size if lowest is None else lowest) <= index < size:
            raise AssertionError(
                f"target: expected indices into an output of shape {tuple(output.shape)}, got {quoted(target)}"
            )
        place = place * size + index % size
    return place
